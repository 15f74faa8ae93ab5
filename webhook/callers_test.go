package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	stdlog "log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
		"one and half of another":     {authority + authority[:len(authority)/2], "what follows PEM block 1 is not PEM"},
		"one and a key":               {authority + key, `PEM block 2 is not a certificate, but of type "PRIVATE KEY"`},
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

// callerOf returns an authority that is valid for a while, and a client certificate that it has signed for as long.
func callerOf(t *testing.T, name string, valid time.Duration) (authority []byte, client tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		if parent == nil {
			parent, signer = template, key
		}
		template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: name}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(valid)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		require.NoError(t, err)
		return der, key
	}
	root := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, key := sign(root, nil, nil)
	leaf, private := sign(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, root, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: private}
}

func TestAuthoritiesThatExpireAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.crt")
		soon, _ := callerOf(t, "soon", time.Hour)
		later, _ := callerOf(t, "later", 2*time.Hour)
		require.NoError(t, os.WriteFile(file, append(soon, later...), 0o600))
		var log safeBuffer
		callers, err := NewCallers(slog.New(slog.NewTextHandler(&log, nil)), file)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { callers.Run(ctx) })
		const says = "authorities of the webhook's callers have expired, everybody is refused"
		after := func(passed time.Duration) int {
			time.Sleep(passed)
			synctest.Wait()
			return strings.Count(log.String(), says)
		}
		assert.Zero(t, after(time.Hour+time.Minute), "one is valid still")
		assert.Equal(t, 1, after(2*time.Hour), "once")
		next, _ := callerOf(t, "next", time.Hour)
		require.NoError(t, os.WriteFile(file, next, 0o600))
		assert.Equal(t, 1, after(time.Minute))
		assert.Contains(t, log.String(), "were read again")
		assert.Equal(t, 2, after(time.Hour), "and again")
		cancel()
		running.Wait()
	})
}

// TestWhoMayNotCallIsRefusedInTheHandshake asks a server with certificates that are no good. None of them gets as far as a status.
func TestWhoMayNotCallIsRefusedInTheHandshake(t *testing.T) {
	current, caller := callerOf(t, "current", time.Hour)
	expired, late := callerOf(t, "expired", -time.Minute)
	_, stranger := callerOf(t, "current", time.Hour) // of the same name
	file := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(file, append(current, expired...), 0o600))
	callers, err := NewCallers(quiet, file)
	require.NoError(t, err)

	var log safeBuffer
	identity := caller
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &identity, nil }, stdlog.New(&log, "", 0))
	callers.Admit(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(Guard(listener), "", "") })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	for name, test := range map[string]struct {
		shows tls.Certificate
		says  string // nothing where it is answered
	}{
		"one of the authority":         {caller, ""},
		"none":                         {tls.Certificate{}, "certificate required"},
		"one of another authority":     {stranger, "unknown certificate authority"},
		"an expired one":               {late, "expired certificate"},
		"one of the authority, again,": {caller, ""},
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(name+", over "+protocol, func(t *testing.T) {
				connection, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{
					InsecureSkipVerify: true, NextProtos: []string{protocol},
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &test.shows, nil }, // whomever it asks for
				})
				require.NoError(t, err, "a client learns of it by what it reads then")
				defer connection.Close()
				if test.says == "" && protocol == "http/1.1" { // with HTTP/2 the server speaks first
					_, err = connection.Write([]byte("GET / HTTP/1.1\r\nHost: webhook\r\n\r\n"))
					require.NoError(t, err)
				}
				_, err = connection.Read(make([]byte, 100))
				if test.says == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, test.says)
			})
		}
	}
	assert.Contains(t, log.String(), "client didn't provide a certificate")
	assert.NotContains(t, log.String(), "BEGIN")
}

// safeBuffer is a buffer that a server writes to while it is read.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(text)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
