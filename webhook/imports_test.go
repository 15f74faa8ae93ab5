package webhook_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingHereCallsTheAPIServer holds the answers to admission requests free of clients: what an answer needs is known
// before it is asked for.
func TestNothingHereCallsTheAPIServer(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	linked := strings.Fields(string(out))
	assert.Contains(t, linked, "github.com/tcr-assistant/tcr-assistant/pullsecret")
	for _, dependency := range linked {
		assert.False(t, strings.HasPrefix(dependency, "k8s.io/client-go"), dependency)
		assert.NotContains(t, dependency, "tcr-assistant/clientset")
	}
}
