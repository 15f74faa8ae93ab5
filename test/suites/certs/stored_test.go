package certs_test

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

// secret is the Secret; nil when it does not exist.
func (r *rig) secret() *corev1.Secret {
	secret, err := r.Client.CoreV1().Secrets(namespace).Get(r.Context(), secretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(r, err)
	return secret
}

// held is the leaf in the Secret; nil when there is none.
func (r *rig) held() *x509.Certificate {
	if secret := r.secret(); secret != nil {
		if found := certificates(secret.Data[corev1.TLSCertKey]); len(found) > 0 {
			return found[0]
		}
	}
	return nil
}

// bundles is what the mutating and the validating configuration trust, as the API server has it.
func (r *rig) bundles() [2][]*x509.Certificate {
	var found [2][]*x509.Certificate
	mutating, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(r.Context(), registration.MutatingConfiguration,
		metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(r, err)
		found[0] = certificates(mutating.Webhooks[0].ClientConfig.CABundle)
	}
	validating, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(r.Context(),
		registration.ValidatingConfiguration, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(r, err)
		found[1] = certificates(validating.Webhooks[0].ClientConfig.CABundle)
	}
	return found
}

// converged waits until the Secret holds another leaf than old, every replica serves it, is ready, and both configurations
// trust it alone. It returns the leaf.
func (r *rig) converged(old *x509.Certificate, replicas ...*replica) *x509.Certificate {
	r.Helper()
	var leaf *x509.Certificate
	r.eventually("a rotation that is complete", func() bool {
		if leaf = r.held(); leaf == nil || old != nil && leaf.Equal(old) {
			return false
		}
		for _, trusted := range r.bundles() {
			if len(trusted) != 1 || !trusted[0].Equal(leaf) {
				return false
			}
		}
		for _, p := range replicas {
			if served := p.served(); served == nil || !served.Equal(leaf) || p.serving.Ready(r.clock.Now()) != nil {
				return false
			}
		}
		return true
	})
	return leaf
}

// versions are those of everything that the manager keeps.
func (r *rig) versions() []string {
	mutating, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(r.Context(), registration.MutatingConfiguration,
		metav1.GetOptions{})
	require.NoError(r, err)
	validating, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(r.Context(),
		registration.ValidatingConfiguration, metav1.GetOptions{})
	require.NoError(r, err)
	request, err := r.Client.CertificatesV1().CertificateSigningRequests().Get(r.Context(), certs.RequestName, metav1.GetOptions{})
	require.NoError(r, err)
	return []string{r.secret().ResourceVersion, mutating.ResourceVersion, validating.ResourceVersion, request.ResourceVersion}
}

func certificates(data []byte) []*x509.Certificate {
	var found []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, cert)
		}
	}
	return found
}
