package integration

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestAnUpdateSwitchesTheWebhookOn starts a replica while one leads that was told of less of the webhook, as a rolling update does. The
// new one must be ready before the old one ends, although the old one never registers what the new one knows of.
func TestAnUpdateSwitchesTheWebhookOn(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"--webhook=false", "--webhook-mutating=false"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := newBalancer(t)
			old := w.RunManager(manager.Options{Binary: binary, WebhookURL: b.url(), Args: []string{before}})
			w.behind(b, old)
			w.Create("steady")
			w.Holds("default", "steady")
			w.derivedHolds("steady")
			const mutating = "mutatingwebhookconfigurations"
			assert.Empty(t, w.Kubectl("get", mutating, "-o", "name"))

			young := w.replica(b)
			w.behind(b, young)
			assert.Empty(t, w.Kubectl("get", mutating, "-o", "name"), "the old one leads")
			require.NoError(t, old.Stop())
			w.attaches("steady")
			w.behind(b, young)
			assert.NotEmpty(t, w.Kubectl("get", mutating, "-o", "name"))
		})
	}
}

// TestAnUpdateTakesTheMutatingWebhookAway takes away what attaches, as an upgrade does where an admission policy attaches, while one
// replica runs that still keeps it. It must go on judging ImagePullSecrets until the new one is ready: nobody else does.
func TestAnUpdateTakesTheMutatingWebhookAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	b := newBalancer(t)
	old := w.replica(b)
	w.behind(b, old)
	w.Kubectl("delete", "clusterrole,clusterrolebinding", "tcr-assistant-mutating-webhook-role", "tcr-assistant-mutating-webhook-rolebinding",
		"--ignore-not-found")
	w.Eventually("its configuration is collected", func() error {
		if left := w.Kubectl("get", "mutatingwebhookconfigurations", "-o", "name"); left != "" {
			return errors.New("there is " + left)
		}
		return nil
	})
	require.NoError(t, b.sees(old), "it is ready")
	w.Create("meanwhile")

	young := w.replica(b, "--webhook-mutating=false")
	w.behind(b, old, young)
	require.NoError(t, old.Stop())
	w.behind(b, young)
	w.Create("after")
	w.Holds("default", "after")
	assert.Empty(t, w.Kubectl("get", "mutatingwebhookconfigurations", "-o", "name"))
}
