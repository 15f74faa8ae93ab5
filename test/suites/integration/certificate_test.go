package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

func TestTheCertificateComesFromTheClustersSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	theirs := w.requestInOurName()
	w.run()

	t.Run("kubectl get csr shows it Approved,Issued, requested by the manager", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(w.Kubectl("get", "csr")), "\n")
		require.Len(t, lines, 2)
		assert.Contains(t, lines[1], "tcr-assistant-webhook")
		assert.Contains(t, lines[1], "kubernetes.io/kubelet-serving")
		assert.Contains(t, lines[1], manager.User)
		assert.Contains(t, lines[1], "Approved,Issued")
	})
	t.Run("one of the same name made by someone else beforehand is not approved", func(t *testing.T) {
		request, err := w.Client.CertificatesV1().CertificateSigningRequests().Get(w.Ctx, theirs.Name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotEqual(t, theirs.UID, request.UID, "it was replaced by ours")
		approvals, err := w.Requests(func(r cluster.Request) bool {
			return r.Resource == "certificatesigningrequests" && r.Subresource == "approval"
		})
		require.NoError(t, err)
		assert.Len(t, approvals, 1, "one request was ever approved")
	})
	t.Run("the caBundle holds exactly the leaf", func(t *testing.T) {
		secret, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, "tcr-assistant-webhook-server-cert", metav1.GetOptions{})
		require.NoError(t, err)
		leaf, rest := pem.Decode(secret.Data["tls.crt"])
		require.NotNil(t, leaf)
		assert.Empty(t, rest)
		mutating, err := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.Ctx,
			"tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{})
		require.NoError(t, err)
		validating, err := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.Ctx,
			"tcr-assistant-validating-webhook-configuration", metav1.GetOptions{})
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
	w.T.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.T, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:tcr-assistant-webhook"},
		DNSNames: []string{"tcr-assistant-webhook-service.tcr-assistant-system.svc"},
	}, key)
	require.NoError(w.T, err)
	request, err := w.Client.CertificatesV1().CertificateSigningRequests().Create(w.Ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-webhook"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: "kubernetes.io/kubelet-serving",
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		},
	}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return request
}

func TestTheWebhookConfigurationsAreKept(t *testing.T) {
	w := newWorld(t)
	w.run()
	configurations := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	const name = "tcr-assistant-mutating-webhook-configuration"
	original, err := configurations.Get(w.Ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	restored := func(what string, check func(*admissionregistrationv1.MutatingWebhook) bool) {
		t.Helper()
		w.Within(time.Second, what, func() error {
			now, err := configurations.Get(w.Ctx, name, metav1.GetOptions{})
			if err == nil && !check(&now.Webhooks[0]) {
				err = errors.New("it is not")
			}
			return err
		})
	}
	patch := func(t *testing.T, operations string) {
		t.Helper()
		w.Kubectl("patch", "mutatingwebhookconfigurations", name, "--type=json", "-p", operations)
	}

	t.Run("a caBundle that someone replaced is restored", func(t *testing.T) {
		patch(t, `[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":""}]`)
		restored("the caBundle is restored", func(now *admissionregistrationv1.MutatingWebhook) bool {
			return string(now.ClientConfig.CABundle) == string(original.Webhooks[0].ClientConfig.CABundle)
		})
	})
	t.Run("so are its rules and its policy", func(t *testing.T) {
		patch(t, `[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["DELETE"]},{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Fail"}]`)
		restored("the rules are restored", func(now *admissionregistrationv1.MutatingWebhook) bool {
			return len(now.Rules[0].Operations) == 2 && *now.FailurePolicy == admissionregistrationv1.Ignore
		})
	})
	t.Run("what others add is left alone", func(t *testing.T) {
		patch(t, `[{"op":"add","path":"/webhooks/0/namespaceSelector","value":{"matchExpressions":[{"key":"control-plane","operator":"DoesNotExist"}]}}]`)
		patch(t, `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":30}]`)
		restored("our own field is restored", func(now *admissionregistrationv1.MutatingWebhook) bool { return *now.TimeoutSeconds == 3 })
		now, err := configurations.Get(w.Ctx, name, metav1.GetOptions{})
		require.NoError(t, err)
		require.Len(t, now.Webhooks[0].NamespaceSelector.MatchExpressions, 1, "the selector is still there")
		before := len(w.writes())
		time.Sleep(2 * time.Second)
		assert.Len(t, w.writes(), before, "nothing is written again")
	})
	t.Run("a deleted configuration is created anew", func(t *testing.T) {
		w.Kubectl("delete", "mutatingwebhookconfigurations", name)
		w.Kubectl("delete", "validatingwebhookconfigurations", "tcr-assistant-validating-webhook-configuration")
		restored("the configuration is there", func(now *admissionregistrationv1.MutatingWebhook) bool {
			return string(now.ClientConfig.CABundle) == string(original.Webhooks[0].ClientConfig.CABundle)
		})
		w.Eventually("the other one is there too", func() error {
			_, err := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.Ctx,
				"tcr-assistant-validating-webhook-configuration", metav1.GetOptions{})
			return err
		})
		w.Create("kept")
		w.Holds("default", "kept")
	})
}
