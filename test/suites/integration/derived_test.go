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

// derivation is the object that the admission policy has as its parameter, the manager that keeps it, and what they have been
// through.
type derivation struct {
	*world
	manager   *manager.Manager
	first     v1.DerivedAttachments
	restarted time.Time // of the manager that leads
}

// derivedName is the object's name: there is one as long as all fits into it.
const derivedName = "written-by-tcr-assistant-0"

// TestDerivedAttachments follows the object: each step begins where the one before it ended.
func TestDerivedAttachments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := &derivation{world: w, manager: w.run()}
	w.Create("all")
	w.Create("some", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces, spec.ServiceAccounts = "y, x", "builder" })
	w.derivedHolds("all", "some")
	d.first = d.whole()
	for _, step := range []struct {
		name string
		take func()
	}{
		{"it belongs to the manager's role, says whose it is, and holds no credential", d.describesItself},
		{"deleted it comes back", d.comesBack},
		{"edited it is restored", d.isRestored},
		{"without its label or its owner it gets them back", d.getsItsMarksBack},
		{"a restart changes nothing in it", d.outlivesTheManager},
		{"what the manager may not write is told in a condition and a metric, and passes", d.mayNotBeWritten},
		{"what a new leader may not see is told, too, and passes", d.mayNotBeSeen},
		{"with the last ImagePullSecret it is empty, and with the role it goes", d.goes},
	} {
		t.Run(step.name, func(t *testing.T) {
			w.T = t
			step.take()
		})
	}
	w.T = t
}

// whole waits until the object says what the two ImagePullSecrets say.
func (d *derivation) whole() v1.DerivedAttachments {
	d.T.Helper()
	want := v1.DerivedAttachmentsSpec{
		Rules: map[string]v1.DerivedRule{
			"all":  {Secret: "tcr.ipsall", Server: "all.example.com"},
			"some": {Secret: "tcr.ipssome", ServiceAccounts: []string{"builder"}, Server: "some.example.com"},
		},
		Everywhere: []string{"all"}, Namespaces: map[string][]string{"x": {"some"}, "y": {"some"}},
	}
	d.Eventually("the object is as it should be", func() error {
		all := d.derived()
		if len(all) != 1 || all[0].Name != derivedName || !assert.ObjectsAreEqual(want, all[0].Spec) {
			return fmt.Errorf("there is %+v", all)
		}
		return nil
	})
	return d.derived()[0]
}

func (d *derivation) describesItself() {
	require.Len(d.T, d.first.OwnerReferences, 1)
	assert.Equal(d.T, "tcr-assistant-manager-role", d.first.OwnerReferences[0].Name)
	assert.Equal(d.T, "tcr-assistant", d.first.Labels["app.kubernetes.io/managed-by"])
	text := d.Kubectl("get", "derivedattachments", derivedName, "-o", "yaml", "--show-managed-fields")
	assert.NotContains(d.T, text, "password-of-")
	assert.NotContains(d.T, text, "robot")
	assert.NotContains(d.T, text, "f:x", "nothing is said of each namespace in its managed fields")
	explained := strings.Join(strings.Fields(d.Kubectl("explain", "derivedattachments")), " ")
	assert.Contains(d.T, explained, "is not meant to be edited")
	assert.Contains(d.T, explained, "every object of this kind that the manager did not create is deleted")
}

func (d *derivation) comesBack() {
	d.Kubectl("delete", "derivedattachments", derivedName)
	assert.NotEqual(d.T, d.first.UID, d.whole().UID)
}

func (d *derivation) isRestored() {
	d.Kubectl("patch", "derivedattachments", derivedName, "--type=merge", "-p", `{"spec":{"everywhere":["all","some"]}}`)
	d.whole()
}

func (d *derivation) getsItsMarksBack() {
	d.Kubectl("patch", "derivedattachments", derivedName, "--type=merge", "-p", `{"metadata":{"ownerReferences":null,"labels":null}}`)
	d.Eventually("label and owner are back", func() error {
		object := d.whole()
		if len(object.OwnerReferences) != 1 || object.Labels["app.kubernetes.io/managed-by"] != "tcr-assistant" {
			return fmt.Errorf("it has %v and %v", object.OwnerReferences, object.Labels)
		}
		return nil
	})
}

func (d *derivation) outlivesTheManager() {
	before := d.whole()
	require.NoError(d.T, d.manager.Stop())
	d.restarted = time.Now()
	d.manager = d.run()
	d.createLater()
	d.derivedHolds("later")
	writes, err := d.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Resource == "derivedattachments" && slices.Contains([]string{"patch", "create", "update"}, r.Verb) &&
			!r.Received.Before(d.restarted)
	})
	require.NoError(d.T, err)
	assert.Len(d.T, writes, 1, "the one for the new ImagePullSecret")
	assert.Equal(d.T, before.UID, d.derived()[0].UID)
	d.deleteLater()
}

// createLater creates one more ImagePullSecret, which deleteLater deletes.
func (d *derivation) createLater() {
	d.T.Helper()
	d.Create("later", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "z" })
}

func (d *derivation) deleteLater() {
	d.T.Helper()
	d.Kubectl("delete", "ipss", "later")
	d.whole()
}

func (d *derivation) mayNotBeWritten() {
	d.refusals = true
	d.permit("derivedattachments", "get", "list", "watch")
	d.edit("some", serviceAccounts("other"))
	d.outdated("all", `"reason":"Forbidden"`)
	d.permit("derivedattachments", "get", "list", "watch", "create", "patch", "delete")
	d.upToDate("all")
	d.edit("some", serviceAccounts("builder"))
	d.whole()
}

func (d *derivation) mayNotBeSeen() {
	all, began := d.permissionsAsked(d.restarted), time.Now()
	require.Positive(d.T, all)
	next := d.StartManager(manager.Options{Binary: binary})
	d.Eventually("the next one has seen that it may see them: it asks for that among the first", func() error {
		if asked := d.permissionsAsked(began); asked < all/2 {
			return fmt.Errorf("it asked for %d of %d", asked, all)
		}
		return nil
	})
	d.permit("derivedattachments", "get", "create", "patch", "delete")
	require.NoError(d.T, d.manager.Stop())
	d.manager = next
	d.createLater()
	d.outdated("later", `"reason":"Forbidden"`, "derivedattachments")
	d.permit("derivedattachments", "get", "list", "watch", "create", "patch", "delete")
	d.derivedHolds("later")
	d.upToDate("later")
	d.deleteLater()
}

// outdatedCondition is the condition of an ImagePullSecret that says that the object does not follow it; blank while it does.
func (d *derivation) outdatedCondition(name string) string {
	d.T.Helper()
	return d.Kubectl("get", "ipss", name, "-o", `jsonpath={.status.conditions[?(@.type=="AttachmentsOutdated")]}`)
}

// outdated waits until that condition holds all of the texts, and holds the metric to say so, too.
func (d *derivation) outdated(name string, texts ...string) {
	d.T.Helper()
	d.Eventually("the condition says so", func() error {
		have := d.outdatedCondition(name)
		for _, text := range texts {
			if !strings.Contains(have, text) {
				return fmt.Errorf("it is %q", have)
			}
		}
		return nil
	})
	metrics, err := d.manager.Get(d.Ctx, "/metrics")
	require.NoError(d.T, err)
	assert.Contains(d.T, metrics, "tcr_assistant_derived_attachments_outdated 1")
}

// upToDate waits until the condition is gone.
func (d *derivation) upToDate(name string) {
	d.T.Helper()
	d.Eventually("the condition is gone", func() error {
		if have := d.outdatedCondition(name); have != "" {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
}

func (d *derivation) goes() {
	d.Kubectl("delete", "ipss", "--all")
	d.derivedHolds()
	require.NoError(d.T, d.manager.Stop())
	d.Kubectl("delete", "clusterrole", "tcr-assistant-manager-role")
	d.Eventually("it is gone", func() error {
		if all := d.derived(); len(all) > 0 {
			return fmt.Errorf("there is %s", all[0].Name)
		}
		return nil
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
