package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

func TestTheCertificateComesFromTheClustersSigner(t *testing.T) {
	w := newWorld(t)
	theirs := w.requestInOurName()
	w.run()

	t.Run("kubectl get csr shows it Approved,Issued, requested by the manager", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(w.kubectl("get", "csr")), "\n")
		require.Len(t, lines, 2)
		assert.Contains(t, lines[1], "tcr-assistant-webhook")
		assert.Contains(t, lines[1], "kubernetes.io/kubelet-serving")
		assert.Contains(t, lines[1], manager.User)
		assert.Contains(t, lines[1], "Approved,Issued")
	})
	t.Run("one of the same name made by someone else beforehand is not approved", func(t *testing.T) {
		request, err := w.client.CertificatesV1().CertificateSigningRequests().Get(w.ctx, theirs.Name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotEqual(t, theirs.UID, request.UID, "it was replaced by ours")
		approvals, err := w.Requests(func(r cluster.Request) bool { return r.Resource == "certificatesigningrequests" && r.Subresource == "approval" })
		require.NoError(t, err)
		assert.Len(t, approvals, 1, "one request was ever approved")
	})
	t.Run("the caBundle holds exactly the leaf", func(t *testing.T) {
		secret, err := w.client.CoreV1().Secrets(manager.Namespace).Get(w.ctx, "tcr-assistant-webhook-server-cert", metav1.GetOptions{})
		require.NoError(t, err)
		leaf, rest := pem.Decode(secret.Data["tls.crt"])
		require.NotNil(t, leaf)
		assert.Empty(t, rest)
		mutating, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.ctx, "tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{})
		require.NoError(t, err)
		validating, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.ctx, "tcr-assistant-validating-webhook-configuration", metav1.GetOptions{})
		require.NoError(t, err)
		for _, bundle := range [][]byte{mutating.Webhooks[0].ClientConfig.CABundle, validating.Webhooks[0].ClientConfig.CABundle} {
			block, rest := pem.Decode(bundle)
			require.NotNil(t, block)
			assert.Empty(t, rest)
			assert.Equal(t, leaf.Bytes, block.Bytes)
		}
		certificate, err := x509.ParseCertificate(leaf.Bytes)
		require.NoError(t, err)
		assert.False(t, certificate.IsCA)
		assert.Contains(t, certificate.DNSNames, "tcr-assistant-webhook-service.tcr-assistant-system.svc")
	})
}

// requestInOurName makes a request that is all ours but for its key and its requester.
func (w *world) requestInOurName() *certificatesv1.CertificateSigningRequest {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:tcr-assistant-webhook"},
		DNSNames: []string{"tcr-assistant-webhook-service.tcr-assistant-system.svc"},
	}, key)
	require.NoError(w.t, err)
	request, err := w.client.CertificatesV1().CertificateSigningRequests().Create(w.ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-webhook"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: "kubernetes.io/kubelet-serving",
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	return request
}
