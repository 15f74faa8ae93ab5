package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// callerAuthority signs the client certificates of who calls a webhook.
type callerAuthority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCallerAuthority(t *testing.T) *callerAuthority {
	t.Helper()
	a := &callerAuthority{t: t}
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "callers"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a.certificate, a.key = certificate, key
	return a
}

// sign signs a certificate, the first one of an authority with its own key.
func (a *callerAuthority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	return der, key
}

func (a *callerAuthority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// caller returns a client certificate and its key, in PEM.
func (a *callerAuthority) caller() (certificate, key []byte) {
	a.t.Helper()
	der, private := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "api-server"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	encoded, err := x509.MarshalECPrivateKey(private)
	require.NoError(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
}

// client returns an HTTP client that shows a certificate of the authority; nil shows none.
func (a *callerAuthority) client() *http.Client {
	config := &tls.Config{InsecureSkipVerify: true}
	if a != nil {
		pair, err := tls.X509KeyPair(a.caller())
		require.NoError(a.t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

// file writes a file into a folder of the test.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// presenting returns the API server's configuration by which it shows webhooks at these addresses a client certificate.
func presenting(t *testing.T, a *callerAuthority, hosts ...string) string {
	t.Helper()
	certificate, key := a.caller()
	crt, private := file(t, "client.crt", certificate), file(t, "client.key", key)
	users := ""
	for _, host := range hosts {
		users += fmt.Sprintf("  - name: %q\n    user: {client-certificate: %q, client-key: %q}\n", host, crt, private)
	}
	kubeconfig := file(t, "webhooks.kubeconfig", []byte("apiVersion: v1\nkind: Config\nusers:\n"+users))
	plugins := ""
	for _, plugin := range []string{"MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"} {
		plugins += fmt.Sprintf(`  - name: %s
    configuration:
      apiVersion: apiserver.config.k8s.io/v1
      kind: WebhookAdmissionConfiguration
      kubeConfigFile: %q
`, plugin, kubeconfig)
	}
	return file(t, "admission.yaml", []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"+plugins))
}

// TestOnlyAPIServersCallTheWebhook has an API server show the webhook a client certificate, and everybody else refused.
func TestOnlyAPIServersCallTheWebhook(t *testing.T) {
	t.Parallel()
	b, authority, stranger := newBalancer(t), newCallerAuthority(t), newCallerAuthority(t)
	crds, err := manager.CRDs(t.Context())
	require.NoError(t, err)
	w := &world{World: suite.On(t, cluster.StartT(t, cluster.Options{
		Log: io.Discard, CRDs: []string{crds},
		APIServerArgs: []string{"--admission-control-config-file=" + presenting(t, authority, strings.TrimPrefix(b.url(), "https://"))},
	}))}
	require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	trusted := file(t, "ca.crt", authority.pem())
	m := w.replica(b, "--webhook-client-ca="+trusted)
	w.behind(b, m)
	w.Create("private") // the webhook's failure policy is Fail here
	w.derivedHolds("private")

	t.Run("the API server is answered", func(t *testing.T) {
		assert.Equal(t, []string{"tcr.ipsprivate"}, suite.Entries(w.account("default", "born")))
	})
	t.Run("who shows no certificate, or somebody else's, is refused in the handshake", func(t *testing.T) {
		require.ErrorContains(t, reviewed((*callerAuthority)(nil).client(), m.WebhookAddress), "certificate required")
		require.ErrorContains(t, reviewed(stranger.client(), m.WebhookAddress), "tls: unknown certificate authority")
		require.NoError(t, reviewed(authority.client(), m.WebhookAddress))
	})
	t.Run("the file is read again when it has changed, and kept where it is no good", func(t *testing.T) {
		require.NoError(t, os.WriteFile(trusted, []byte("nonsense"), 0o600))
		w.Eventually("it says so", func() error {
			if !strings.Contains(m.Log(), "authorities of the webhook's callers were not read again") {
				return errors.New("it does not")
			}
			return reviewed(authority.client(), m.WebhookAddress)
		})
		require.NoError(t, os.WriteFile(trusted, stranger.pem(), 0o600))
		w.Eventually("the other authority is trusted", func() error { return reviewed(stranger.client(), m.WebhookAddress) })
		require.Error(t, reviewed(authority.client(), m.WebhookAddress))
	})
}

// TestAnAPIServerThatShowsNoCertificateIsRefused holds what --webhook-client-ca does in a cluster that is not made for it: the failure
// policies decide, and the log says why.
func TestAnAPIServerThatShowsNoCertificateIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	m := w.RunManager(manager.Options{Binary: binary, Args: []string{"--webhook-client-ca=" + file(t, "ca.crt", newCallerAuthority(t).pem())}})
	_, err := w.IPS.Create(w.Ctx, suite.Sample("private"), metav1.CreateOptions{})
	require.ErrorContains(t, err, "failed calling webhook")
	ctx, cancel := context.WithTimeout(w.Ctx, w.Hang)
	defer cancel()
	require.NoError(t, m.Says(ctx, "tls: client didn't provide a certificate"))
	assert.Empty(t, suite.Entries(w.account("default", "born")), "it is created, without its entry")
}
