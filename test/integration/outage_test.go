package integration

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWithTheManagerStoppedNothingIsBlocked(t *testing.T) {
	w := newWorld(t)
	m := w.run()
	w.create("resting")
	w.holds("default", "resting")
	require.NoError(t, m.Stop())

	t.Run("everything but ImagePullSecrets can be created and changed", func(t *testing.T) {
		w.kubectl("create", "namespace", "meanwhile")
		assert.Equal(t, "serviceaccount/kung created\n", w.kubectl("create", "sa", "kung", "-n", "meanwhile"))
		w.kubectl("create", "secret", "generic", "other", "-n", "meanwhile", "--from-literal=a=b")
		w.kubectl("create", "deployment", "app", "-n", "meanwhile", "--image=example.com/app")
		w.kubectl("annotate", "sa", "kung", "-n", "meanwhile", "a=b")
		w.kubectl("delete", "secret", "other", "-n", "meanwhile")
	})
	t.Run("an ImagePullSecret cannot, but can be deleted", func(t *testing.T) {
		stderr, err := w.pipe(manifest(t, "blocked", nil), "create", "-f", "-")
		require.Error(t, err)
		assert.Contains(t, stderr, "imagepullsecrets.tcr.tencentcloudcr.com")
		w.kubectl("delete", "ipss", "resting")
	})
	t.Run("what was missed is made up for when the manager is back", func(t *testing.T) {
		w.run()
		w.create("back")
		w.holds("meanwhile", "back")
		w.lists("meanwhile", "kung", "tcr.ipsback")
		w.lists("meanwhile", "default", "tcr.ipsback")
	})
}

// TestThePasswordAppearsNowhere lets everything happen that could tell a password, and looks for it wherever it could have
// been told.
func TestThePasswordAppearsNowhere(t *testing.T) {
	const secret = "Tell-No-One-4711"
	w := newWorld(t)
	w.run() // at level debug, and with the client library at the verbosity that goes with it
	w.namespace("a")
	_, err := w.client.CoreV1().Secrets("a").Create(w.ctx, foreignSecret("tcr.ipshidden"), metav1.CreateOptions{})
	require.NoError(t, err)
	w.create("hidden", password(secret+"-1"))
	w.holds("default", "hidden")
	w.reportsForeign("hidden", "a/tcr.ipshidden")
	w.edit("hidden", password(secret+"-2"))
	w.holds("default", "hidden")
	var said strings.Builder
	for _, bad := range badSpecs {
		if bad.set["password"] == nil && bad.set["username"] == nil {
			text := strings.ReplaceAll(manifest(t, "bad", bad.set), "never-to-be-shown", secret)
			stderr, err := w.pipe(text, "create", "-f", "-")
			require.Error(t, err)
			said.WriteString(stderr)
		}
	}
	stderr, err := w.pipe("", "patch", "ipss", "hidden", "--type=merge", "-p", `{"spec":{"namespaces":"a,a","docker":{"password":"`+secret+`"}}}`)
	require.Error(t, err)
	said.WriteString(stderr)
	// Refused by the API server in the middle of a write: the permission to issue is taken away.
	w.refusals = true
	w.kubectl("patch", "clusterrole", "tcr-assistant-manager-role", "--type=json", "-p", `[{"op":"replace","path":"/rules/4/verbs","value":["get","list","watch"]}]`)
	w.edit("hidden", password(secret+"-3"))
	w.settledWith("hidden", "Forbidden")
	require.NoError(t, w.ips.Delete(w.ctx, "hidden", metav1.DeleteOptions{}))

	metrics, err := w.managers[0].Get(w.ctx, "/metrics")
	require.NoError(t, err)
	require.NoError(t, w.managers[0].Stop())
	object := w.kubectl("get", "ipss", "-A", "-o", "jsonpath={.items[*].status}")
	events := w.kubectl("get", "events", "-A", "-o", "yaml")
	base64 := "VGVsbC1Oby1PbmUtNDcxM" // what base64 makes of it where it begins a group
	for where, text := range map[string]string{
		"log": w.managers[0].Log(), "metrics": metrics, "status": object, "events": events, "errors": said.String(),
	} {
		assert.NotContains(t, text, secret, "the %s", where)
		assert.NotContains(t, text, base64, "the %s", where)
	}
	assert.Greater(t, len(w.managers[0].Log()), 10_000, "the log was kept")
	assert.Greater(t, said.Len(), 1_000, "refusals were kept")
}
