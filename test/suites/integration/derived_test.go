package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// derived returns what is derived from all ImagePullSecrets, as kubectl shows it.
func (w *world) derived() []v1.DerivedAttachments {
	w.T.Helper()
	var list v1.DerivedAttachmentsList
	require.NoError(w.T, json.Unmarshal([]byte(w.Kubectl("get", "derivedattachments", "-o", "json")), &list))
	return list.Items
}

// derivedHolds waits until what is derived holds these ImagePullSecrets, or nothing where none is named.
func (w *world) derivedHolds(names ...string) {
	w.T.Helper()
	w.Eventually("what is derived follows", func() error {
		rules := map[string]v1.DerivedRule{}
		for _, object := range w.derived() {
			for key, rule := range object.Spec.Rules {
				rules[key] = rule
			}
		}
		for _, name := range names {
			if rules[name].Secret != "tcr.ips"+name {
				return fmt.Errorf("%s is missing among %d rules", name, len(rules))
			}
		}
		if len(names) == 0 && len(rules) > 0 {
			return fmt.Errorf("there are %d rules", len(rules))
		}
		return nil
	})
}

// permissionsAsked returns how many times managers asked whether they may do something.
func (w *world) permissionsAsked(since time.Time) int {
	w.T.Helper()
	asked, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Resource == "selfsubjectaccessreviews" && !r.Received.Before(since)
	})
	require.NoError(w.T, err)
	return len(asked)
}

// TestDerivedAttachments follows the object that the admission policy has as its parameter.
func TestDerivedAttachments(t *testing.T) {
	w := newWorld(t)
	m := w.run()
	w.Create("all")
	w.Create("some", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces, spec.ServiceAccounts = "y, x", "builder" })
	w.derivedHolds("all", "some")
	const name = "written-by-tcr-assistant-0"
	// whole waits until the object says what the two ImagePullSecrets say.
	whole := func(t *testing.T) v1.DerivedAttachments {
		t.Helper()
		want := v1.DerivedAttachmentsSpec{
			Rules: map[string]v1.DerivedRule{
				"all":  {Secret: "tcr.ipsall"},
				"some": {Secret: "tcr.ipssome", ServiceAccounts: []string{"builder"}},
			},
			Everywhere: []string{"all"}, Namespaces: map[string][]string{"x": {"some"}, "y": {"some"}},
		}
		w.Eventually("the object is as it should be", func() error {
			all := w.derived()
			if len(all) != 1 || all[0].Name != name || !assert.ObjectsAreEqual(want, all[0].Spec) {
				return fmt.Errorf("there is %+v", all)
			}
			return nil
		})
		return w.derived()[0]
	}
	first := whole(t)

	var restarted time.Time

	t.Run("it belongs to the manager's role, says whose it is, and holds no credential", func(t *testing.T) {
		require.Len(t, first.OwnerReferences, 1)
		assert.Equal(t, "tcr-assistant-manager-role", first.OwnerReferences[0].Name)
		assert.Equal(t, "tcr-assistant", first.Labels["app.kubernetes.io/managed-by"])
		text := w.Kubectl("get", "derivedattachments", name, "-o", "yaml", "--show-managed-fields")
		assert.NotContains(t, text, "password-of-")
		assert.NotContains(t, text, "robot")
		assert.NotContains(t, text, "f:x", "nothing is said of each namespace in its managed fields")
		explained := strings.Join(strings.Fields(w.Kubectl("explain", "derivedattachments")), " ")
		assert.Contains(t, explained, "is not meant to be edited")
		assert.Contains(t, explained, "every object of this kind that the manager did not make is deleted")
	})
	t.Run("deleted it comes back", func(t *testing.T) {
		w.Kubectl("delete", "derivedattachments", name)
		assert.NotEqual(t, first.UID, whole(t).UID)
	})
	t.Run("edited it is restored", func(t *testing.T) {
		w.Kubectl("patch", "derivedattachments", name, "--type=merge", "-p", `{"spec":{"everywhere":["all","some"]}}`)
		whole(t)
	})
	t.Run("without its label or its owner it gets them back", func(t *testing.T) {
		w.Kubectl("patch", "derivedattachments", name, "--type=merge", "-p", `{"metadata":{"ownerReferences":null,"labels":null}}`)
		w.Eventually("label and owner are back", func() error {
			object := whole(t)
			if len(object.OwnerReferences) != 1 || object.Labels["app.kubernetes.io/managed-by"] != "tcr-assistant" {
				return fmt.Errorf("it has %v and %v", object.OwnerReferences, object.Labels)
			}
			return nil
		})
	})
	t.Run("a restart changes nothing in it", func(t *testing.T) {
		before := whole(t)
		require.NoError(t, m.Stop())
		restarted = time.Now()
		m = w.run()
		w.Create("later", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "z" })
		w.derivedHolds("later")
		writes, err := w.Requests(func(r cluster.Request) bool {
			return r.User == manager.User && r.Resource == "derivedattachments" && slices.Contains([]string{"patch", "create", "update"}, r.Verb) && !r.Received.Before(restarted)
		})
		require.NoError(t, err)
		assert.Len(t, writes, 1, "the one for the new ImagePullSecret")
		assert.Equal(t, before.UID, w.derived()[0].UID)
		w.Kubectl("delete", "ipss", "later")
		whole(t)
	})
	t.Run("what the manager may not write is told in a condition and a metric, and passes", func(t *testing.T) {
		w.refusals = true
		w.permit("derivedattachments", "get", "list", "watch")
		w.edit("some", serviceAccounts("other"))
		condition := func() string {
			return w.Kubectl("get", "ipss", "all", "-o", `jsonpath={.status.conditions[?(@.type=="AttachmentsOutdated")].reason}`)
		}
		w.Eventually("the condition says so", func() error {
			if have := condition(); have != "Forbidden" {
				return fmt.Errorf("its reason is %q", have)
			}
			return nil
		})
		metrics, err := m.Get(w.Ctx, "/metrics")
		require.NoError(t, err)
		assert.Contains(t, metrics, "tcr_assistant_derived_attachments_outdated 1")
		w.permit("derivedattachments", "get", "list", "watch", "create", "patch", "delete")
		w.Eventually("the condition is gone", func() error {
			if have := condition(); have != "" {
				return fmt.Errorf("its reason is %q", have)
			}
			return nil
		})
		w.edit("some", serviceAccounts("builder"))
		whole(t)
	})
	t.Run("what a new leader may not see is told, too, and passes", func(t *testing.T) {
		all, began := w.permissionsAsked(restarted), time.Now()
		require.Positive(t, all)
		next := w.StartManager(manager.Options{Binary: binary})
		w.Eventually("the next one has seen that it may see them: it asks for that among the first", func() error {
			if asked := w.permissionsAsked(began); asked < all/2 {
				return fmt.Errorf("it asked for %d of %d", asked, all)
			}
			return nil
		})
		w.permit("derivedattachments", "get", "create", "patch", "delete")
		require.NoError(t, m.Stop())
		m = next
		w.Create("later", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "z" })
		condition := func() string {
			return w.Kubectl("get", "ipss", "later", "-o", `jsonpath={.status.conditions[?(@.type=="AttachmentsOutdated")]}`)
		}
		w.Eventually("the condition says so", func() error {
			if have := condition(); !strings.Contains(have, "Forbidden") || !strings.Contains(have, "derivedattachments") {
				return fmt.Errorf("it is %q", have)
			}
			return nil
		})
		metrics, err := m.Get(w.Ctx, "/metrics")
		require.NoError(t, err)
		assert.Contains(t, metrics, "tcr_assistant_derived_attachments_outdated 1")
		w.permit("derivedattachments", "get", "list", "watch", "create", "patch", "delete")
		w.derivedHolds("later")
		w.Eventually("the condition is gone", func() error {
			if have := condition(); have != "" {
				return fmt.Errorf("it is %q", have)
			}
			return nil
		})
		w.Kubectl("delete", "ipss", "later")
		whole(t)
	})
	t.Run("with the last ImagePullSecret it is empty, and with the role it goes", func(t *testing.T) {
		w.Kubectl("delete", "ipss", "--all")
		w.derivedHolds()
		require.NoError(t, m.Stop())
		w.Kubectl("delete", "clusterrole", "tcr-assistant-manager-role")
		w.Eventually("it is gone", func() error {
			if all := w.derived(); len(all) > 0 {
				return fmt.Errorf("there is %s", all[0].Name)
			}
			return nil
		})
	})
}

// TestDerivedAttachmentsOfOthers deletes what the policy would read, too, and nobody but the manager may say.
func TestDerivedAttachmentsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Create("all")
	w.derivedHolds("all")
	w.Apply(`{"apiVersion":"tcr.tencentcloudcr.com/v1","kind":"DerivedAttachments","metadata":{"name":"stray"},"spec":{"rules":{"a":{"secret":"b"}},"everywhere":["a"]}}`)
	w.Eventually("it is gone, and the manager's is not", func() error {
		if all := w.derived(); len(all) != 1 || all[0].Name == "stray" {
			return fmt.Errorf("there are %d, the first is %s", len(all), all[0].Name)
		}
		return nil
	})
}
