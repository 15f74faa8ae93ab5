package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPublicAuthoritiesAreTrustedWhereASystemHasNone runs itself once more, as in the image.
func TestPublicAuthoritiesAreTrustedWhereASystemHasNone(t *testing.T) {
	const inside = "TCR_ASSISTANT_TEST_WITHOUT_ROOTS"
	if os.Getenv(inside) == "" {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), inside+"=true", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		out, err := again.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	roots, err := x509.SystemCertPool()
	require.NoError(t, err)
	assert.Greater(t, len(roots.Subjects()), 50) //nolint:staticcheck // it is told of what was added, and these were
}
