package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type request = certificatesv1.CertificateSigningRequest

// requested returns a request as it is sent and as the API server answers that it stored it.
func requested(t *testing.T, key *ecdsa.PrivateKey) (sent, created *request) {
	sent, err := newRequest(key, good().withDefaults(), &metav1.OwnerReference{Name: "role"})
	require.NoError(t, err)
	created = sent.DeepCopy()
	created.UID, created.ResourceVersion = "uid", "7"
	created.Spec.Username, created.Spec.UID, created.Spec.Groups = "system:serviceaccount:tcr-assistant-system:manager", "sa",
		[]string{"system:authenticated"}
	created.Spec.Extra = map[string]certificatesv1.ExtraValue{"pod": {"a"}}
	return sent, created
}

func TestNewRequest(t *testing.T) {
	key := newKey(t)
	sent, _ := requested(t, key)
	block, rest := pem.Decode(sent.Spec.Request)
	require.Empty(t, rest)
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	require.NoError(t, asked.CheckSignature())

	assert.Equal(t, []string{"system:nodes"}, asked.Subject.Organization)
	assert.Equal(t, "system:node:tcr-assistant-webhook", asked.Subject.CommonName)
	assert.Equal(t, good().DNSNames, asked.DNSNames)
	assert.True(t, asked.IPAddresses[0].Equal(good().IPs[0]))
	assert.True(t, key.PublicKey.Equal(asked.PublicKey))
	assert.Equal(t, "tcr-assistant-webhook", sent.Name)
	assert.Equal(t, "kubernetes.io/kubelet-serving", sent.Spec.SignerName)
	assert.EqualValues(t, DefaultDuration/time.Second, *sent.Spec.ExpirationSeconds)
	assert.Equal(t, "role", sent.OwnerReferences[0].Name)
}

func TestOnlyTheRequestThatWasMadeIsApproved(t *testing.T) {
	key := newKey(t)
	sent, created := requested(t, key)
	other, _ := requested(t, newKey(t)) // our name, names, usages and signer, with another key
	require.NoError(t, verifyCreated(sent, created))
	require.NoError(t, verifySame(created, created.DeepCopy()))

	relabelled := created.DeepCopy()
	relabelled.ResourceVersion, relabelled.Labels = "8", map[string]string{"a": "b"}
	require.NoError(t, verifySame(created, relabelled), "labels say nothing about the request")

	seconds := int32(600)
	for name, change := range map[string]func(*request){
		"another key":       func(r *request) { r.Spec.Request = other.Spec.Request },
		"another signer":    func(r *request) { r.Spec.SignerName = "example.com/serving" },
		"another usage":     func(r *request) { r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageClientAuth) },
		"a usage too few":   func(r *request) { r.Spec.Usages = r.Spec.Usages[1:] },
		"another lifetime":  func(r *request) { r.Spec.ExpirationSeconds = &seconds },
		"no lifetime":       func(r *request) { r.Spec.ExpirationSeconds = nil },
		"another object":    func(r *request) { r.UID = "" },
		"another requester": func(r *request) { r.Spec.Username = "" },
	} {
		t.Run(name+" is not what was sent", func(t *testing.T) {
			changed := created.DeepCopy()
			change(changed)
			err := verifyCreated(sent, changed)
			require.ErrorContains(t, err, "not stored as it was sent")
			assert.True(t, refused(err))
		})
		t.Run(name+" is not what was created", func(t *testing.T) {
			changed := created.DeepCopy()
			change(changed)
			require.ErrorContains(t, verifySame(created, changed), "was replaced")
		})
	}
	for name, change := range map[string]func(*request){
		"the same request in another object":  func(r *request) { r.UID = "another" },
		"the same request of another user":    func(r *request) { r.Spec.Username = "mallory" },
		"the same request of another user ID": func(r *request) { r.Spec.UID = "another" },
		"the same request of another group":   func(r *request) { r.Spec.Groups = []string{"system:masters"} },
		"the same request of another pod":     func(r *request) { r.Spec.Extra = nil },
	} {
		t.Run(name+" is not what was created", func(t *testing.T) {
			changed := created.DeepCopy()
			change(changed)
			require.ErrorContains(t, verifySame(created, changed), "was replaced")
		})
	}
}

func TestOutcome(t *testing.T) {
	answer := func(kind certificatesv1.RequestConditionType, certificate string) *request {
		return &request{ObjectMeta: metav1.ObjectMeta{Name: RequestName}, Status: certificatesv1.CertificateSigningRequestStatus{
			Certificate: []byte(certificate),
			Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: kind, Status: corev1.ConditionTrue, Reason: "Why",
				Message: "because"}},
		}}
	}
	t.Run("approved and not issued is not over", func(t *testing.T) {
		got, err := outcome(answer(certificatesv1.CertificateApproved, ""))
		assert.NoError(t, err)
		assert.Empty(t, got)
	})
	t.Run("issued is over", func(t *testing.T) {
		got, err := outcome(answer(certificatesv1.CertificateApproved, "pem"))
		assert.NoError(t, err)
		assert.Equal(t, "pem", string(got))
	})
	for _, kind := range []certificatesv1.RequestConditionType{certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		t.Run(string(kind)+" is a refusal with its reason", func(t *testing.T) {
			_, err := outcome(answer(kind, "pem"))
			require.ErrorContains(t, err, "was answered "+string(kind)+": Why: because")
			assert.True(t, refused(err))
		})
	}
}

func TestVerifyIssued(t *testing.T) {
	cfg, ca, key := good().withDefaults(), newAuthority(t), newKey(t)
	p, err := verifyIssued(ca.sign(key, cfg), key, cfg, noon)
	require.NoError(t, err)
	require.Equal(t, ModeSigner, p.mode)

	for _, tc := range []struct {
		name string
		pem  []byte
		at   time.Time
		want string
	}{
		{"nothing readable", []byte("x"), noon, "joining certificate and key"},
		{"a certificate of another key", ca.sign(newKey(t), cfg), noon, "does not match public key"},
		{"a name too few", ca.sign(key, cfg, func(c *x509.Certificate) { c.DNSNames = []string{"other.svc"} }), noon,
			"checking the certificate's names"},
		{"an address too few", ca.sign(key, cfg, func(c *x509.Certificate) { c.IPAddresses = nil }), noon,
			"checking the certificate's addresses"},
		{"a client certificate", ca.sign(key, cfg, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
			noon, "server auth is missing"},
		{"a certificate that is past renewal by our clock", ca.sign(key, cfg), noon.Add(45 * time.Minute), "check the clock"},
		{"a certificate that has expired by our clock", ca.sign(key, cfg), noon.Add(2 * time.Hour), "check the clock"},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			_, err := verifyIssued(tc.pem, key, cfg, tc.at)
			require.ErrorContains(t, err, tc.want)
			assert.True(t, refused(err))
		})
	}
}

func TestRefused(t *testing.T) {
	resource := schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"a refusal", refusef("denied"), true},
		{"a request that somebody else meddled with", contestedf("replaced"), true},
		{"a missing permission", apierrors.NewForbidden(resource, RequestName, errors.New("no")), true},
		{"an API that does not exist", apierrors.NewNotFound(resource, ""), true},
		{"a request that is not valid", apierrors.NewBadRequest("no"), true},
		{"a name that stays taken", apierrors.NewAlreadyExists(resource, RequestName), true},
		{"an API server that does not know us", apierrors.NewUnauthorized("no"), false},
		{"an API server that is overloaded", apierrors.NewTooManyRequests("later", 1), false},
		{"an API server that fails", apierrors.NewInternalError(errors.New("x")), false},
		{"an API server that is down", &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusServiceUnavailable}}, false},
		{"an API server that cannot be reached", errors.New("connection refused"), false},
		{"no time left", context.DeadlineExceeded, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, refused(fmt.Errorf("asking: %w", tc.err)))
		})
	}
}
