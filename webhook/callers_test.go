package webhook

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAFileOfCallersSaysWhatIsWrongWithIt(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	server.Close()
	const key = "-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n"
	for name, test := range map[string]struct{ text, says string }{
		"one authority":               {authority, ""},
		"two":                         {"# the first\n" + authority + "\n" + authority + "\n\n", ""},
		"nothing":                     {"", "it is empty"},
		"blanks":                      {" \n\t\n", "it is empty"},
		"no PEM":                      {"authority", "it holds no PEM"},
		"half of one":                 {authority[:len(authority)/2], "it holds no PEM"},
		"one and half of another":     {authority + authority[:len(authority)/2], "what follows PEM block 1 is no PEM"},
		"one and a key":               {authority + key, `PEM block 2 is no certificate, but of type "PRIVATE KEY"`},
		"what is no certificate":      {"-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n", "PEM block 1 cannot be read as a certificate"},
		"one that is no certificate,": {authority + "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n", "PEM block 2 cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ca.crt")
			require.NoError(t, os.WriteFile(file, []byte(test.text), 0o600))
			callers, err := NewCallers(quiet, file)
			if test.says == "" {
				require.NoError(t, err)
				assert.Equal(t, tls.RequireAndVerifyClientCert, callers.demand(&tls.Config{}).ClientAuth)
				return
			}
			require.ErrorContains(t, err, file)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, "write the PEM certificate of the authority")
			assert.NotContains(t, err.Error(), "bm9uc2Vuc2U", "no key is repeated")
		})
	}
}
