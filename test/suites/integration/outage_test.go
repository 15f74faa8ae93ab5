package integration

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

func TestWithTheManagerStoppedNothingIsBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.Create("resting")
	w.Holds("default", "resting")
	require.NoError(t, m.Stop())

	t.Run("everything but ImagePullSecrets can be created and changed", func(t *testing.T) {
		w.Kubectl("create", "namespace", "meanwhile")
		assert.Equal(t, "serviceaccount/kung created\n", w.Kubectl("create", "sa", "kung", "-n", "meanwhile"))
		w.Kubectl("create", "secret", "generic", "other", "-n", "meanwhile", "--from-literal=a=b")
		w.Kubectl("create", "deployment", "app", "-n", "meanwhile", "--image=example.com/app")
		w.Kubectl("annotate", "sa", "kung", "-n", "meanwhile", "a=b")
		w.Kubectl("delete", "secret", "other", "-n", "meanwhile")
	})
	t.Run("an ImagePullSecret can only be deleted, but can be created too where there is no webhook", func(t *testing.T) {
		out, err := w.Pipe(manifest(t, "blocked"), "create", "-f", "-")
		assert.Equal(t, webhookless, err == nil, out)
		assert.Contains(t, out, "tcr.tencentcloudcr.com")
		w.Kubectl("delete", "ipss", "--ignore-not-found", "resting", "blocked")
	})
	t.Run("what was missed is made up for when the manager is back", func(t *testing.T) {
		w.run()
		w.Create("back")
		w.Holds("meanwhile", "back")
		w.Lists("meanwhile", "kung", "tcr.ipsback")
		w.Lists("meanwhile", "default", "tcr.ipsback")
	})
}

// TestThePasswordAppearsNowhere lets everything happen that could tell a password, and looks for it wherever it could have
// been told.
func TestThePasswordAppearsNowhere(t *testing.T) {
	t.Parallel()
	const secret = "Tell-No-One-4711"
	w := newWorld(t)
	m := w.run() // at level debug, and with the client library at the verbosity that goes with it
	w.Namespace("a")
	_, err := w.Client.CoreV1().Secrets("a").Create(w.Ctx, foreignSecret("tcr.ipshidden"), metav1.CreateOptions{})
	require.NoError(t, err)
	w.Create("hidden", password(secret+"-1"))
	w.Holds("default", "hidden")
	w.reportsForeign("hidden", "a/tcr.ipshidden")
	w.edit("hidden", password(secret+"-2"))
	w.Holds("default", "hidden")
	var said strings.Builder
	specs, err := matchtest.Specs("bad")
	require.NoError(t, err)
	for _, spec := range specs {
		if text := strings.ReplaceAll(string(spec.Manifest), matchtest.Password, secret); spec.Refused && strings.Contains(text, secret) {
			refusal := w.create(t, []byte(text))
			require.NotEmpty(t, refusal)
			said.WriteString(refusal)
		}
	}
	stderr, err := w.Pipe("", "patch", "ipss", "hidden", "--type=merge", "-p",
		`{"spec":{"namespaces":"a,a","docker":{"password":"`+secret+`"}}}`)
	require.Error(t, err)
	said.WriteString(stderr)
	// Refused by the API server in the middle of a write: the permission to issue is taken away.
	w.refusals = true
	w.permit("secrets", "get", "list", "watch")
	w.edit("hidden", password(secret+"-3"))
	w.Namespace("b")
	w.failsWith("hidden", "Forbidden")
	require.NoError(t, w.IPS.Delete(w.Ctx, "hidden", metav1.DeleteOptions{}))

	metrics, err := m.Get(w.Ctx, "/metrics")
	require.NoError(t, err)
	require.NoError(t, m.Stop())
	object := w.Kubectl("get", "ipss", "-A", "-o", "jsonpath={.items[*].status}")
	events := w.Kubectl("get", "events", "-A", "-o", "yaml")
	base64 := "VGVsbC1Oby1PbmUtNDcxM" // what base64 makes of it where it begins a group
	for where, text := range map[string]string{
		"log": m.Log(), "metrics": metrics, "status": object, "events": events, "errors": said.String(),
	} {
		assert.NotContains(t, text, secret, "the %s", where)
		assert.NotContains(t, text, base64, "the %s", where)
	}
	assert.Greater(t, len(m.Log()), 10_000, "the log was kept")
	assert.Greater(t, said.Len(), 1_000, "refusals were kept")
}
