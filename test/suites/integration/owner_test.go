package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestRoleMadeAnew replaces the ClusterRoles that own what the manager writes for itself, as a forced replacement by a GitOps
// tool does. The garbage collector then deletes all that the old ones owned, and would whatever were written in their name again.
func TestRoleMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	w.run()
	w.Create("steady")
	w.Holds("default", "steady")
	before := w.owners()

	for name := range before {
		w.Kubectl("delete", "clusterrole", name)
	}
	w.Eventually("everything of the old roles' is collected", func() error {
		for kind, owned := range w.owned() {
			if len(owned) > 0 {
				return fmt.Errorf("the %s is still there", kind)
			}
		}
		return nil
	})
	for name, role := range before {
		role.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: role.Labels}
		_, err := w.Client.RbacV1().ClusterRoles().Create(w.Ctx, role, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	roles := w.owners()

	made := time.Now()
	w.Eventually("all is back, and the new roles'", func() error {
		for kind, owned := range w.owned() {
			if len(owned) != 1 || owned[0].UID != roles[owner[kind]].UID {
				return fmt.Errorf("the owners of the %s are %v", kind, owned)
			}
		}
		return nil
	})
	w.Namespace("after")
	w.Holds("after", "steady")
	w.Lists("after", "default", "tcr.ipssteady")

	time.Sleep(3 * time.Second) // contention would go on
	writes, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Received.After(made) && r.Code < 300 && r.Verb != "get" && r.Verb != "list" && r.Verb != "watch" &&
			(r.Resource == "mutatingwebhookconfigurations" || r.Resource == "validatingwebhookconfigurations")
	})
	require.NoError(t, err)
	// Made once without a certificate to trust, and once or twice with one.
	assert.LessOrEqual(t, len(writes), 8, "they contend no more")
}

// TestFight deletes what the manager restores, as soon as it is restored.
func TestFight(t *testing.T) {
	w := newWorld(t)
	w.run()
	configurations := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	deleted := 0
	began := time.Now()
	for time.Since(began) < 8*time.Second {
		if configurations.Delete(w.Ctx, "tcr-assistant-mutating-webhook-configuration", metav1.DeleteOptions{}) == nil {
			deleted++
		}
	}
	writes, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Received.After(began) && r.Verb == "patch" &&
			(r.Resource == "mutatingwebhookconfigurations" || r.Resource == "validatingwebhookconfigurations")
	})
	require.NoError(t, err)
	t.Logf("it was deleted %d times, and %d writes were made meanwhile", deleted, len(writes))
	assert.Greater(t, deleted, 10, "it is restored again and again")
	assert.LessOrEqual(t, float64(len(writes)), 100+2*time.Since(began).Seconds()+1, "but not at full speed")
	w.Eventually("in the end it stands", func() error {
		_, err := configurations.Get(w.Ctx, "tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{})
		return err
	})
}

// owner is the ClusterRole that owns what the manager writes for itself, by kind.
var owner = map[string]string{
	"lease": "tcr-assistant-manager-role", "secret": "tcr-assistant-webhook-role",
	"validating configuration": "tcr-assistant-webhook-role", "mutating configuration": "tcr-assistant-mutating-webhook-role",
}

// owners returns those ClusterRoles by name.
func (w *world) owners() map[string]*rbacv1.ClusterRole {
	w.T.Helper()
	roles := map[string]*rbacv1.ClusterRole{}
	for _, name := range owner {
		role, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, name, metav1.GetOptions{})
		require.NoError(w.T, err)
		roles[name] = role
	}
	return roles
}

// owned returns the owners of what the manager writes for itself, by kind; nil for what is not there.
func (w *world) owned() map[string][]metav1.OwnerReference {
	owners := map[string][]metav1.OwnerReference{"lease": nil, "secret": nil, "mutating configuration": nil, "validating configuration": nil}
	if object, err := w.Client.CoordinationV1().Leases(manager.Namespace).Get(w.Ctx, "tcr-assistant-leader-election",
		metav1.GetOptions{}); err == nil {
		owners["lease"] = object.OwnerReferences
	}
	if object, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, servingSecret, metav1.GetOptions{}); err == nil {
		owners["secret"] = object.OwnerReferences
	}
	if object, err := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.Ctx,
		"tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{}); err == nil {
		owners["mutating configuration"] = object.OwnerReferences
	}
	if object, err := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.Ctx,
		"tcr-assistant-validating-webhook-configuration", metav1.GetOptions{}); err == nil {
		owners["validating configuration"] = object.OwnerReferences
	}
	return owners
}
