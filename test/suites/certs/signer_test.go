package certs_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// copied is a request like the manager's, with another key.
func copied(t *testing.T, r *rig, name string) *certificatesv1.CertificateSigningRequest {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:tcr-assistant-webhook"},
		DNSNames: r.cfg.DNSNames, IPAddresses: r.cfg.IPs,
	}, newKey(t))
	require.NoError(t, err)
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "tcr-assistant"}},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certs.DefaultSigner,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment,
				certificatesv1.UsageServerAuth},
		},
	}
}

// answer stands in for a signer: it is given every request that is approved and has no answer, until the test ends.
func (r *rig) answer(give func(certificatesclient.CertificateSigningRequestInterface, *certificatesv1.CertificateSigningRequest) error) {
	requests := r.Client.CertificatesV1().CertificateSigningRequests()
	watcher, err := requests.Watch(r.Context(), metav1.ListOptions{})
	require.NoError(r, err)
	r.Cleanup(watcher.Stop)
	go func() {
		for event := range watcher.ResultChan() {
			csr, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
			if ok && len(csr.Status.Conditions) == 1 && csr.Status.Conditions[0].Type == certificatesv1.CertificateApproved &&
				len(csr.Status.Certificate) == 0 {
				if err := give(requests, csr); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && r.Context().Err() == nil {
					r.Errorf("answering the request: %v", err)
				}
			}
		}
	}()
}

// issue answers a request as a signer does whose clock shows now: with the cluster's authority, for what the request asks
// and for its key, unless another is given.
func issue(
	requests certificatesclient.CertificateSigningRequestInterface, csr *certificatesv1.CertificateSigningRequest, key crypto.PublicKey,
	now time.Time,
) error {
	block, _ := pem.Decode(csr.Spec.Request)
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if key == nil {
		key = asked.PublicKey
	}
	lifetime := time.Duration(*csr.Spec.ExpirationSeconds) * time.Second
	der, err := certify(&x509.Certificate{Subject: asked.Subject, DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses}, key, now,
		lifetime)
	if err != nil {
		return err
	}
	csr.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	_, err = requests.UpdateStatus(context.Background(), csr, metav1.UpdateOptions{})
	return err
}

// certify signs a serving certificate with the cluster's authority, and backdates it as the cluster's signer does.
func certify(template *x509.Certificate, key crypto.PublicKey, now time.Time, lifetime time.Duration) ([]byte, error) {
	authority, err := tls.LoadX509KeyPair(filepath.Join(plane.Dir(), "ca.crt"), filepath.Join(plane.Dir(), "ca.key"))
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-5*time.Minute), now.Add(lifetime)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, authority.Leaf, key, authority.PrivateKey)
}

// A foreignPair is a good certificate for the webhook's names that the manager knows nothing of, signed by the cluster's
// authority.
type foreignPair struct {
	leaf      *x509.Certificate
	cert, key []byte
}

func newForeignPair(t *testing.T, r *rig, now time.Time) foreignPair {
	key := newKey(t)
	der, err := certify(&x509.Certificate{DNSNames: r.cfg.DNSNames, IPAddresses: r.cfg.IPs}, key.Public(), now, 24*time.Hour)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return foreignPair{leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
}

// into puts the pair into the Secret, on demand with the mark that the manager leaves on its own.
func (p foreignPair) into(secret *corev1.Secret, marked bool) {
	secret.Data = map[string][]byte{corev1.TLSCertKey: p.cert, corev1.TLSPrivateKeyKey: p.key}
	if marked {
		sum := sha256.Sum256(p.leaf.Raw)
		secret.Annotations["tcr.tencentcloudcr.com/certificate-sha256"] = hex.EncodeToString(sum[:])
	}
}
