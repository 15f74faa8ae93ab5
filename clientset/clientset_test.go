package clientset_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLinked holds the manager free of the API groups that it has no use for. client-go's leaderelection, its apply
// configurations and every client of its Clientset bring them all.
func TestLinked(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../cmd/controller-manager").Output()
	require.NoError(t, err)
	linked := strings.Fields(string(out))
	assert.Contains(t, linked, "k8s.io/api/core/v1")
	assert.NotContains(t, linked, "k8s.io/client-go/kubernetes/scheme")
	assert.NotContains(t, linked, "k8s.io/api/apps/v1")
}
