package install

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestValuesThatAReleaseOfBeforeLacksAreTheDefaults renders what an upgrade with --reuse-values does: Helm puts the values that the
// release has in place of the chart's, and with them go those that have come since.
func TestValuesThatAReleaseOfBeforeLacksAreTheDefaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	render := func(more ...string) string {
		out, err := w.tryHelm(append([]string{"template", "x", chart, "--namespace", manager.Namespace, "--kube-version", "v1.36.0",
			"--api-versions", policyAPI, "--set", oneHost, "--set", "monitoring.prometheusRule.enabled=true"}, more...)...)
		require.NoError(t, err, out)
		return out
	}
	all := render()
	for _, value := range []string{"rbac.tokens", "rbac.privateNetwork", "global.tcr", "hostsUpdater.always", "hostsUpdater.namespace"} {
		assert.Equal(t, all, render("--set", value+"=null"), value)
	}
	assert.NotContains(t, render("--set", "rbac.tokens=false"), "tcr-assistant-tokens")
	assert.NotContains(t, render("--set", "rbac.privateNetwork=false"), "tcr-assistant-private-network-role")
}
