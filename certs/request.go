package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// What kubernetes.io/kubelet-serving certifies, see ValidateKubeletServingCSR in k8s.io/kubernetes: exactly this
// organization, a common name that begins with system:node:, at least one DNS name or address, and these usages. Key encipherment
// means nothing for an ECDSA key, but signers before Kubernetes 1.27 insist on it.
const (
	requestOrganization = "system:nodes"
	requestCommonName   = "system:node:" + RequestName
)

var requestUsages = []certificatesv1.KeyUsage{
	certificatesv1.UsageDigitalSignature,
	certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageServerAuth,
}

// forbiddenFor is for how long a forbidden request is retried: an API server that has just started knows no roles yet, and a role that
// was just granted takes a moment to reach every API server.
const forbiddenFor = time.Second

// A refusal is why this request will get no certificate.
type refusal struct {
	error
	again bool // another request may succeed, as long as there is time
}

func (r refusal) Unwrap() error { return r.error }

func refusef(format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...), false}
}

// contestedf returns a refusal for a request that somebody else replaced or deleted.
func contestedf(format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...), true}
}

// refused reports whether the error, which persisted until the time was up, calls for a self-signed certificate: it is a refusal,
// or an answer of the API server that will not change by itself, such as a missing permission. An API server that cannot be reached or
// is overloaded has not answered: the signer is asked again once it does.
func refused(err error) bool {
	if errors.As(err, &refusal{}) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}

// newRequest returns the request for a certificate for the key.
func newRequest(key *ecdsa.PrivateKey, cfg Config, owner *metav1.OwnerReference) (*certificatesv1.CertificateSigningRequest, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{Organization: []string{requestOrganization}, CommonName: requestCommonName},
		DNSNames:    cfg.DNSNames,
		IPAddresses: cfg.IPs,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate request: %w", err)
	}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: RequestName, Labels: v1.ManagedLabels()},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName:        cfg.Signer,
			ExpirationSeconds: new(int32(cfg.Duration / time.Second)),
			Usages:            requestUsages,
		},
	}
	if owner != nil {
		csr.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return csr, nil
}

// verifyCreated refuses a request that is not stored as it was sent. Its bytes hold the key, the subject and the names; the API
// server adds the requester, which nobody can choose.
func verifyCreated(sent, created *certificatesv1.CertificateSigningRequest) error {
	asked := created.Spec
	asked.Username, asked.UID, asked.Groups, asked.Extra = "", "", nil, nil
	if created.UID == "" || created.Spec.Username == "" || !equality.Semantic.DeepEqual(sent.Spec, asked) {
		return refusef("certificate signing request %s is not stored as it was sent", created.Name)
	}
	return nil
}

// verifySame refuses a request that is not the one that was created: another object with the same name, or one whose bytes,
// requester, signer or usages differ.
func verifySame(created, found *certificatesv1.CertificateSigningRequest) error {
	if found.UID != created.UID || !equality.Semantic.DeepEqual(found.Spec, created.Spec) {
		return contestedf("certificate signing request %s was replaced by one that %s created", found.Name, found.Spec.Username)
	}
	return nil
}

// verifyIssued returns the pair for the certificate that a signer issued. It refuses one that is not for our key and names, or that is
// already due for renewal by our clock.
func verifyIssued(certPEM []byte, key *ecdsa.PrivateKey, cfg Config, now time.Time) (*pair, error) {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	p, err := newPair(ModeSigner, certPEM, keyPEM, cfg)
	if err != nil {
		return nil, refusef("signer %s issued an unusable certificate: %w", cfg.Signer, err)
	}
	if !now.Before(p.renewAt()) {
		return nil, refusef("signer %s issued a certificate from %s to %s, which is past renewal at %s: check the clock of this machine",
			cfg.Signer, p.leaf.NotBefore.UTC().Format(time.RFC3339), p.leaf.NotAfter.UTC().Format(time.RFC3339),
			now.UTC().Format(time.RFC3339))
	}
	return p, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// requester gets certificates from the cluster's signer.
type requester struct {
	requests *clientset.CertificateSigningRequests
	cfg      Config
}

func newRequester(client *clientset.Clientset, cfg Config) *requester {
	return &requester{client.CertificateSigningRequests(), cfg}
}

// request gets a certificate for the key, within SignerTimeout. It creates the request, approves that very object and waits
// for the signer. After any failure except a final refusal, it starts again as long as there is time; after a missing permission, for
// forbiddenFor.
func (r *requester) request(ctx context.Context, key *ecdsa.PrivateKey) (*pair, error) {
	timed, cancel := context.WithTimeout(ctx, r.cfg.SignerTimeout)
	defer cancel()
	pauses := backoff.Between(100*time.Millisecond, 5*time.Second)
	var forbiddenSince time.Time // zero unless that was the last answer
	for {
		p, err := r.try(timed, key)
		var fault refusal
		if err == nil || errors.As(err, &fault) && !fault.again {
			return p, err
		}
		switch {
		case !apierrors.IsForbidden(err):
			forbiddenSince = time.Time{}
		case forbiddenSince.IsZero():
			forbiddenSince = time.Now()
		case time.Since(forbiddenSince) >= forbiddenFor:
			return nil, err
		}
		if backoff.Sleep(timed, pauses.Step()); timed.Err() != nil {
			return nil, err
		}
	}
}

func (r *requester) try(ctx context.Context, key *ecdsa.PrivateKey) (*pair, error) {
	created, err := r.create(ctx, key)
	if err != nil {
		return nil, err
	}
	approved, err := r.approve(ctx, created)
	if err != nil {
		return nil, err
	}
	certPEM, err := r.await(ctx, approved)
	if err != nil {
		return nil, err
	}
	return verifyIssued(certPEM, key, r.cfg, r.cfg.Now())
}

// create stores the request, and replaces any other with its name: the answered request of the last renewal, or one that
// somebody else created, which is never approved.
func (r *requester) create(ctx context.Context, key *ecdsa.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	owner, err := r.cfg.Owner(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating certificate signing request %s: %w", RequestName, err)
	}
	sent, err := newRequest(key, r.cfg, owner)
	if err != nil {
		return nil, err
	}
	created, err := r.requests.Create(ctx, sent, metav1.CreateOptions{})
	var replaced *certificatesv1.CertificateSigningRequest
	if apierrors.IsAlreadyExists(err) {
		if replaced, err = r.remove(ctx); err != nil {
			return nil, err
		}
		if created, err = r.requests.Create(ctx, sent, metav1.CreateOptions{}); err != nil && replaced != nil {
			err = fmt.Errorf("in place of one that %s created: %w", replaced.Spec.Username, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("creating certificate signing request %s: %w", RequestName, err)
	}
	if replaced != nil && replaced.Spec.Username != created.Spec.Username {
		r.cfg.Log.Warn("certificate signing request of somebody else was replaced",
			"certificateSigningRequest", RequestName, "requester", replaced.Spec.Username)
	}
	return created, verifyCreated(sent, created)
}

// remove deletes the existing request and returns it; nil if it is already gone.
func (r *requester) remove(ctx context.Context) (*certificatesv1.CertificateSigningRequest, error) {
	found, err := r.requests.Get(ctx, RequestName, metav1.GetOptions{})
	if err == nil {
		err = r.requests.Delete(ctx, RequestName, *metav1.NewPreconditionDeleteOptions(string(found.UID)))
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("replacing certificate signing request %s: %w", RequestName, err)
	}
	return found, nil
}

// approve approves the created object and no other. The API server refuses the update if the name now belongs to another object
// (by its UID), or if the object has changed (by its resourceVersion). The spec of a request never changes.
func (r *requester) approve(
	ctx context.Context, created *certificatesv1.CertificateSigningRequest,
) (*certificatesv1.CertificateSigningRequest, error) {
	request := created.DeepCopy()
	for !answered(request) {
		request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type:    certificatesv1.CertificateApproved,
			Status:  corev1.ConditionTrue,
			Reason:  "RequestedByManager",
			Message: "The TCR Assistant manager created this request for its webhook's serving certificate.",
		})
		approved, err := r.requests.UpdateApproval(ctx, request, metav1.UpdateOptions{})
		if err == nil {
			return approved, nil
		}
		if !apierrors.IsConflict(err) {
			return nil, fmt.Errorf("approving certificate signing request %s for signer %s: %w", RequestName, r.cfg.Signer, err)
		}
		if request, err = r.requests.Get(ctx, RequestName, metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("reading certificate signing request %s: %w", RequestName, err)
		}
		if err := verifySame(created, request); err != nil {
			return nil, err
		}
	}
	return request, nil
}

// answered reports whether somebody has approved or denied the request.
func answered(csr *certificatesv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(condition certificatesv1.CertificateSigningRequestCondition) bool {
		return condition.Type == certificatesv1.CertificateApproved || condition.Type == certificatesv1.CertificateDenied
	})
}

// outcome returns the certificate, or nothing until the signer has issued it. The error is a refusal if the request was denied or
// failed.
func outcome(csr *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	for _, condition := range csr.Status.Conditions {
		if condition.Type == certificatesv1.CertificateDenied || condition.Type == certificatesv1.CertificateFailed {
			return nil, refusef("certificate signing request %s was answered %s: %s: %s", csr.Name, condition.Type, condition.Reason,
				condition.Message)
		}
	}
	return csr.Status.Certificate, nil
}

// await waits for the signer's answer to the approved request.
func (r *requester) await(ctx context.Context, approved *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	if certPEM, err := outcome(approved); err != nil || len(certPEM) > 0 {
		return certPEM, err
	}
	narrow := clientset.ByName(RequestName)
	watcher := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		narrow(&options)
		return r.requests.Watch(ctx, options)
	}}
	events, err := toolswatch.NewRetryWatcherWithContext(ctx, approved.ResourceVersion, watcher)
	if err != nil {
		return nil, fmt.Errorf("watching certificate signing request %s: %w", RequestName, err)
	}
	defer events.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, r.timedOut()
		case event, open := <-events.ResultChan():
			if ctx.Err() != nil {
				return nil, r.timedOut()
			}
			if !open {
				return nil, fmt.Errorf("watching certificate signing request %s: the watch ended", RequestName)
			}
			found, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok {
				return nil, fmt.Errorf("watching certificate signing request %s: %w", RequestName, apierrors.FromObject(event.Object))
			}
			if event.Type == watch.Deleted {
				return nil, contestedf("certificate signing request %s was deleted before the signer answered", RequestName)
			}
			if err := verifySame(approved, found); err != nil {
				return nil, err
			}
			if certPEM, err := outcome(found); err != nil || len(certPEM) > 0 {
				return certPEM, err
			}
		}
	}
}

func (r *requester) timedOut() error {
	return refusef("signer %s issued nothing within %s", r.cfg.Signer, r.cfg.SignerTimeout)
}
