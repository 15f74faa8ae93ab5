package install

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestAnUpgradeTakesTheWebhookOfAnEarlierManagerAlong upgrades where the manager's own role, which stays, owns what the webhook had, as
// it did before the webhook had roles of its own.
func TestAnUpgradeTakesTheWebhookOfAnEarlierManagerAlong(t *testing.T) {
	t.Parallel()
	for number, helm := range helmPaths {
		t.Run(fmt.Sprint("Helm ", 3+number), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.helm = helm
			if !w.AttachesByItself() {
				t.Log("the webhook stays as a whole: TestTheWebhookIsSwitchedOffAndOn")
				return
			}
			w.home()
			w.team("team")
			w.runHelm("install", chart, "--set", "webhook.mutating=true")
			m := w.run()
			all := []string{mutatingConfiguration, validatingConfiguration, servingSecret, webhookService, signingRequest}
			w.webhookIs(all...)
			ends(t, m)
			w.ownedByTheManagersRole(all[:3]...)

			t.Run("by default, its mutating configuration goes", func(t *testing.T) {
				w.runHelm("upgrade", chart)
				w.webhookIs(all[1:]...)
				ends(t, w.run())
			})
			t.Run("switched off, all of it but the request, which the cluster collects an hour after it was issued", func(t *testing.T) {
				w.ownedByTheManagersRole(all[1:3]...)
				w.runHelm("upgrade", chart, "--set", "webhook.enabled=false")
				left := slices.DeleteFunc(w.ofTheWebhook(), func(name string) bool { return name == signingRequest })
				assert.Empty(t, left)
				m = w.run()
				w.Create("after")
				w.Holds("team", "after")
				ends(t, m)
			})
			t.Run("on again, it is as it was", func(t *testing.T) {
				w.runHelm("upgrade", chart, "--set", "webhook.mutating=true")
				w.run()
				w.webhookIs(all...)
			})
		})
	}
}

// ownedByTheManagersRole has the role that every installation has own some objects.
func (w *world) ownedByTheManagersRole(objects ...string) {
	w.T.Helper()
	uid := w.Kubectl("get", "clusterrole", "tcr-assistant-manager-role", "-o", "jsonpath={.metadata.uid}")
	for _, object := range objects {
		w.Kubectl("patch", object, "-n", manager.Namespace, "--type=merge", "-p",
			fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","name":"tcr-assistant-manager-role","uid":%q}]}}`, uid))
	}
}
