package healing

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPure holds the package free of clients: what it decides is done by others.
func TestPure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "tcr-assistant/reconcile/plan")
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		assert.False(t, strings.HasPrefix(dep, "k8s.io/client-go"), dep)
		if ours, is := strings.CutPrefix(dep, "github.com/tcr-assistant/tcr-assistant/"); is {
			assert.Contains(t, []string{"api/v1", "credential", "diagnose", "healing", "image", "jwt", "latest", "pullsecret", "reconcile/plan"}, ours)
		}
	}
}
