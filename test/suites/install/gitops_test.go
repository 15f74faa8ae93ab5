package install

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestReappliedAccounts applies the manifest of a ServiceAccount with an entry of its own every second, as a GitOps tool in a
// hurry would, and watches what every reader of the account sees.
func TestReappliedAccounts(t *testing.T) {
	t.Parallel()
	const rounds = 8
	const manifest = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: team}, imagePullSecrets: [{name: theirs}]}"
	for mode, args := range map[string][]string{
		"client-side": nil,
		// Where the manager has written the list first, it has a claim to it that must be overruled.
		"server-side": {"--server-side", "--force-conflicts"},
	} {
		for born, early := range map[string]bool{"born before the credential": true, "born with the credential": false} {
			t.Run(mode+", "+born, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.Kubectl("apply", "-f", allInOne)
				w.run()
				w.Kubectl("create", "namespace", "team")
				if early {
					w.Apply(manifest, args...)
				}
				w.Create("central")
				w.Holds("team", "central")
				w.teamLists("default", "tcr.ipscentral")
				if !early {
					w.Apply(manifest, args...)
				}
				w.teamLists("builder", "theirs", "tcr.ipscentral")
				account, err := w.Client.CoreV1().ServiceAccounts("team").Get(w.Ctx, "builder", metav1.GetOptions{})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(w.Ctx)
				defer cancel()
				watcher, err := w.Client.CoreV1().ServiceAccounts("team").Watch(ctx,
					metav1.ListOptions{FieldSelector: "metadata.name=builder", ResourceVersion: account.ResourceVersion})
				require.NoError(t, err)
				began := time.Now()

				for range rounds {
					w.Apply(manifest, args...)
					time.Sleep(time.Second)
				}
				assert.ElementsMatch(t, []string{"theirs", "tcr.ipscentral"}, w.Entries("team", "builder"))
				cancel()
				changes := 0
				for event := range watcher.ResultChan() {
					account, isAccount := event.Object.(*corev1.ServiceAccount)
					if !isAccount {
						continue
					}
					changes++
					for _, entry := range []string{"theirs", "tcr.ipscentral"} {
						assert.True(t, slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: entry}), "an account without %s was seen",
							entry)
					}
				}
				assert.LessOrEqual(t, changes, 1, "at most the tool's taking over of the list is a change")
				writes, err := w.Requests(func(r cluster.Request) bool {
					return r.User == manager.User && r.Namespace == "team" && r.Resource == "serviceaccounts" && r.Verb == "patch" &&
						r.Received.After(began)
				})
				require.NoError(t, err)
				assert.Empty(t, writes, "the manager has nothing to repair")
			})
		}
	}
}
