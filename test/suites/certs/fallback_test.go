package certs_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
)

// selfSigned is the issuer of a certificate that signed itself.
const selfSigned = "tcr-assistant-webhook"

// TestFallback has the cluster's own signer stand still throughout.
func TestFallback(t *testing.T) {
	newRig(t).withoutSigner()
	for _, tc := range withoutCertificate(t) {
		t.Run(tc.name, tc.fallsBack)
	}
	for _, tc := range withoutPermission {
		t.Run("a missing permission "+tc.name+" is not waited for", tc.fallsBack)
	}
	t.Run("an API server that knows of no roles yet is no reason", noRolesYet)
	t.Run("an API server that is away is no reason", noAPIServer)
}

// noCertificate is a way in which a request gets none.
type noCertificate struct {
	name   string
	answer func(certificatesclient.CertificateSigningRequestInterface, *certificatesv1.CertificateSigningRequest) error
	spoil  func(*replica)
	reason string
}

func withoutCertificate(t *testing.T) []noCertificate {
	return []noCertificate{
		{"a signer that never issues", nil, nil, "signer kubernetes.io/kubelet-serving issued nothing within 1s"},
		{"a signer that fails the request", func(requests certificatesclient.CertificateSigningRequestInterface,
			csr *certificatesv1.CertificateSigningRequest) error {
			csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
				Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: "no such names here"})
			_, err := requests.UpdateStatus(context.Background(), csr, metav1.UpdateOptions{})
			return err
		}, nil, "was answered Failed: SignerValidationFailure: no such names here"},
		{"a signer that certifies another key", func(requests certificatesclient.CertificateSigningRequestInterface,
			csr *certificatesv1.CertificateSigningRequest) error {
			return issue(requests, csr, newKey(t).Public(), time.Now())
		}, nil, "issued an unusable certificate"},
		{"a certificate that is over before it begins", func(requests certificatesclient.CertificateSigningRequestInterface,
			csr *certificatesv1.CertificateSigningRequest) error {
			return issue(requests, csr, nil, time.Now().Add(-48*time.Hour))
		}, nil, "check the clock of this machine"},
		{"a request that is denied", nil, func(p *replica) {
			p.onApproval(func(send func() (*http.Response, error)) (*http.Response, error) {
				p.Kubectl("certificate", "deny", certs.RequestName)
				return send()
			})
		}, "was answered Denied: KubectlDeny"},
		{"a request that somebody keeps deleting", func(requests certificatesclient.CertificateSigningRequestInterface,
			csr *certificatesv1.CertificateSigningRequest) error {
			return requests.Delete(context.Background(), csr.Name, metav1.DeleteOptions{})
		}, nil, "was deleted before the signer answered"},
	}
}

func (tc noCertificate) fallsBack(t *testing.T) {
	r := newRig(t)
	r.cfg.SignerTimeout = 5 * time.Second
	if tc.answer == nil && tc.spoil == nil || strings.Contains(tc.reason, "deleted") {
		r.cfg.SignerTimeout = time.Second
	}
	if tc.answer != nil {
		r.answer(tc.answer)
	}
	p := r.start()
	if tc.spoil != nil {
		tc.spoil(p)
	}
	p.lead()
	leaf := r.converged(nil, p)

	assert.Equal(t, selfSigned, leaf.Issuer.CommonName)
	assert.NoError(t, leaf.VerifyHostname(r.cfg.DNSNames[0]))
	assert.False(t, leaf.IsCA)
	_, mode := p.serving.Current()
	assert.Equal(t, certs.ModeSelfSigned, mode)
	assert.True(t, r.log.has(`"WARN"`, "fell back to a self-signed one", tc.reason))
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(t, r.fellBack, 1, "told once, for an event and a metric")
	assert.ErrorContains(t, r.fellBack[0], tc.reason)
	assert.Equal(t, []certs.Mode{certs.ModeSelfSigned}, r.modes)
}

// noPermission is something that the manager may not do.
type noPermission struct {
	name   string
	take   func(*rig)
	reason string
}

var withoutPermission = []noPermission{
	{"to make requests", func(r *rig) { r.forbid("certificatesigningrequests", "create") },
		"creating certificate signing request tcr-assistant-webhook"},
	{"to replace the request that stands", func(r *rig) {
		_, err := r.Client.CertificatesV1().CertificateSigningRequests().Create(r.Context(), copied(r.T, r, certs.RequestName),
			metav1.CreateOptions{})
		require.NoError(r, err)
		r.forbid("certificatesigningrequests", "delete")
	}, "replacing certificate signing request tcr-assistant-webhook"},
	{"to approve for the signer", func(r *rig) { r.cfg.Signer = "example.com/serving" },
		"approving certificate signing request tcr-assistant-webhook for signer example.com/serving"},
}

func (tc noPermission) fallsBack(t *testing.T) {
	r := newRig(t)
	r.cfg.SignerTimeout = 10 * r.Hang
	tc.take(r)
	p := r.start()
	p.lead()
	r.converged(nil, p)
	_, mode := p.serving.Current()
	assert.Equal(t, certs.ModeSelfSigned, mode)
	assert.True(t, r.log.has("fell back to a self-signed one", tc.reason, "forbidden"))
}

func noRolesYet(t *testing.T) {
	r := newRig(t)
	r.answer(func(requests certificatesclient.CertificateSigningRequestInterface, csr *certificatesv1.CertificateSigningRequest) error {
		return issue(requests, csr, nil, time.Now())
	})
	p := r.start()
	refusals := 3 // within half a second
	p.onCreation(func(send func() (*http.Response, error)) (*http.Response, error) {
		if refusals == 0 {
			return send()
		}
		refusals--
		return answered(http.StatusForbidden, apierrors.NewForbidden(certificatesv1.Resource("certificatesigningrequests"), "",
			errors.New("no role says so")).ErrStatus)
	})
	p.lead()
	assert.Equal(t, "kubernetes", r.converged(nil, p).Issuer.CommonName)
	assert.Zero(t, refusals)
	assert.Empty(t, r.fellBack)
}

func noAPIServer(t *testing.T) {
	r := newRig(t)
	r.cfg.SignerTimeout = 2 * time.Second
	p := r.start()
	away, back := make(chan struct{}), make(chan struct{})
	p.onCreation(func(send func() (*http.Response, error)) (*http.Response, error) {
		select {
		case <-away:
			select {
			case <-back:
				return send()
			default:
				return nil, errors.New("connection refused") // also while the API server comes up, and no signer can
			}
		default:
			require.NoError(t, plane.StopAPIServer())
			close(away)
			return send()
		}
	})
	p.lead()
	<-away
	r.eventually("an attempt that ended without an answer", func() bool { return r.log.has("serving certificate was not kept", "connect") })
	require.NoError(t, plane.StartAPIServer(t.Context()))
	r.answer(func(requests certificatesclient.CertificateSigningRequestInterface, csr *certificatesv1.CertificateSigningRequest) error {
		return issue(requests, csr, nil, time.Now())
	})
	close(back)
	leaf := r.converged(nil, p)
	assert.Equal(t, "kubernetes", leaf.Issuer.CommonName)
	assert.Empty(t, r.fellBack)
	assert.Len(t, r.modes, 1, "the watch is waited for, however long it takes to start anew")
}

func TestRenewalAfterAFallbackUsesTheSignerAgain(t *testing.T) {
	r := newRig(t)
	r.withoutSigner()
	r.cfg.SignerTimeout, r.cfg.Duration = time.Second, certs.MinDuration
	p := r.start()
	resign := p.lead()
	first := r.converged(nil, p)
	require.Equal(t, selfSigned, first.Issuer.CommonName)
	resign()

	require.NoError(t, plane.RestartControllerManager(t.Context()))
	// The signer's clock stands still while ours moves, so the next certificate has to last longer than the move.
	r.cfg.SignerTimeout, r.cfg.Duration = 20*time.Second, 24*time.Hour
	r.clock.set(first.NotAfter.Add(-certs.MinDuration / 3)) // it was made a day after it begins
	next := r.start()
	next.lead()
	second := r.converged(first, p, next)
	assert.Equal(t, "kubernetes", second.Issuer.CommonName)
	_, mode := next.serving.Current()
	assert.Equal(t, certs.ModeSigner, mode)
	assert.Equal(t, []certs.Mode{certs.ModeSelfSigned, certs.ModeSigner}, r.modes)
}
