package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestCleanupWhileNoManagerRuns lets the admission policy know of an ImagePullSecret that is gone, as it does when every manager
// ended before it was deleted: the policy would attach its entry in the very write that removes it.
func TestCleanupWhileNoManagerRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		require.Error(t, manager.InstallPolicy(w.Ctx, w.Cluster), "there is no policy to attach anything")
		return
	}
	require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	m := w.run()
	w.Create("all")
	w.Namespace("team")
	w.Lists("team", "default", "tcr.ipsall")
	w.derivedHolds("all")
	require.NoError(t, m.Stop())
	w.Kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")

	cleanup := w.StartManager(manager.Options{Binary: binary, Kubeconfig: w.Kubeconfig(), Args: []string{"--cleanup"}})
	select {
	case <-cleanup.Done():
	case <-time.After(time.Minute):
		t.Fatal("it has not ended after a minute")
	}
	assert.Contains(t, cleanup.Log(), `msg="cleanup started" version=`)
	assert.NotContains(t, cleanup.Log(), "controller manager started")
	w.derivedHolds()
	w.Eventually("no account lists it", func() error {
		if have := w.Entries("team", "default"); len(have) > 0 {
			return fmt.Errorf("it lists %q", have)
		}
		return nil
	})
}
