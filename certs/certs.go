// Package certs keeps the certificate that the admission webhook serves with: it requests one from the cluster's
// signer, shares it between replicas through a Secret, makes the API server trust it, and replaces it long before it
// expires, or as soon as it is lost.
//
// What the API server is told to trust is the leaf itself, not the CA that signed it. An API server accepts a serving
// certificate that its bundle holds, whoever signed it. So there is no need to know which CA a distribution's signer uses, and
// no other certificate of that CA can pose as the webhook.
//
// Two parts work together. Serving runs on every replica and answers TLS handshakes with what it last saw in the Secret.
// Keeper runs only on the leader, and only it writes the Secret and the bundle. One pure function decides, from what the API
// holds, what the keeper does next, so a new leader goes on where the last one stopped. The path of a certificate:
//
//	        Keeper                                                     Serving, on every replica
//	key ──> request ──> approve ──> signer issues
//	           │                         │
//	           └─ nobody issues: sign    │
//	              with the key itself ───┤
//	                                     v
//	          publish old and new: the webhook configurations ───────> trusted?
//	                                     │ every API server saw it        │
//	                                     v                                v
//	                       write the Secret ───────watch─────────> offered ──> served
//	                                     │ every replica swapped
//	                                     v
//	                       publish only the new one
//
// No certificate that a replica may be serving is ever missing from what the API server trusts.
package certs

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// RequestName is the name of the one CertificateSigningRequest that a keeper creates. It is fixed, so that RBAC rules can
	// name it. When a certificate is needed, an existing request with this name is replaced.
	RequestName = "tcr-assistant-webhook"

	// DefaultSecretName is the name of the Secret through which replicas share their certificate.
	DefaultSecretName = "tcr-assistant-webhook-server-cert"

	// DefaultSigner is the only signer of a stock cluster that certifies the name of a Service.
	DefaultSigner = certificatesv1.KubeletServingSignerName

	// DefaultDuration is the lifetime to ask for if Config says none.
	DefaultDuration = 90 * 24 * time.Hour

	// MinDuration is the shortest lifetime that the certificates API accepts.
	MinDuration = 10 * time.Minute

	// MaxDuration is the longest lifetime that a Config may ask for.
	MaxDuration = 10 * 365 * 24 * time.Hour
)

// Publisher makes the API server trust a bundle of certificates.
type Publisher interface {
	// Publish stores the PEM bundle in every webhook configuration, creating those that are missing, and returns once the API
	// server has confirmed that each of them holds exactly this bundle. From then on, Published returns it.
	Publish(ctx context.Context, bundle []byte) error

	// Published returns the PEM bundles that the webhook configurations hold as far as known, one for each of them,
	// nil for one that does not exist. It is called often, from several goroutines, and must not call the API. A
	// keeper assumes that replicas may be serving any certificate of the first result, so the current configurations
	// must be known before Keeper.Run is called.
	Published() [][]byte

	// Changed holds a token once what Published returns may have changed. The running keeper is its only reader.
	Changed() <-chan struct{}
}

// Mode says who issued a certificate.
type Mode string

const (
	// ModeSigner is a certificate from the cluster's signer.
	ModeSigner Mode = "signer"

	// ModeSelfSigned is a certificate that the keeper signed with the certificate's own key, because the signer issued
	// none. It is trusted because it is published, like every other one, so no signing key has to be kept anywhere.
	ModeSelfSigned Mode = "self-signed"
)

// Observer is told what happens to the certificate, for events and metrics. Any of its functions may be nil. They are
// called from the goroutine of Keeper.Run and must not block.
type Observer struct {
	// Issued is called for every certificate that was issued, before anything trusts or serves it.
	Issued func(mode Mode, notAfter time.Time)

	// FellBack is called when the signer issued no certificate, and a self-signed one is used until the next renewal.
	// The reason holds no secret.
	FellBack func(reason error)

	// Rotated is called after the Secret was written and replicas began to swap.
	Rotated func(mode Mode, notAfter time.Time)
}

// And returns an observer that calls both.
func (o Observer) And(other Observer) Observer {
	return Observer{
		Issued:   func(mode Mode, notAfter time.Time) { o.issued(mode, notAfter); other.issued(mode, notAfter) },
		FellBack: func(reason error) { o.fellBack(reason); other.fellBack(reason) },
		Rotated:  func(mode Mode, notAfter time.Time) { o.rotated(mode, notAfter); other.rotated(mode, notAfter) },
	}
}

func (o Observer) issued(mode Mode, notAfter time.Time) {
	if o.Issued != nil {
		o.Issued(mode, notAfter)
	}
}

func (o Observer) fellBack(reason error) {
	if o.FellBack != nil {
		o.FellBack(reason)
	}
}

func (o Observer) rotated(mode Mode, notAfter time.Time) {
	if o.Rotated != nil {
		o.Rotated(mode, notAfter)
	}
}

// Config describes the certificate and how it is kept. A field with the zero value gets the default that its comment ends with.
type Config struct {
	// Namespace holds the Secret. Required.
	Namespace string

	// SecretName is the Secret's name; DefaultSecretName.
	SecretName string

	// DNSNames and IPs are what the certificate is valid for: everything that an API server may call the webhook by.
	// At least one is required.
	DNSNames []string
	IPs      []net.IP

	// Signer is the signerName that certificates are requested from; DefaultSigner.
	Signer string

	// Duration is the lifetime to ask for, MinDuration to MaxDuration; DefaultDuration. A signer may shorten it, and
	// renewal goes by what the certificate says.
	Duration time.Duration

	// Owner returns the object whose deletion also deletes the CertificateSigningRequest and the Secret. It must be
	// cluster-scoped. It is called whenever one of them is written, and returns nil for no owner.
	Owner func(context.Context) (*metav1.OwnerReference, error)

	// SignerTimeout is how long a signer has to issue before a self-signed certificate is used; 30 s. If the
	// permission to ask it is missing, that is not waited for.
	SignerTimeout time.Duration

	// Settle is how long a published bundle is left alone before replicas serve what it newly trusts, so that every
	// API server of the cluster has seen it by then; 2 s.
	Settle time.Duration

	// Grace is how long a replaced certificate stays trusted after the Secret holds the new one, so that every
	// replica has swapped by then; 30 s.
	Grace time.Duration

	// Tick is how often the wall clock and the published bundle are checked, which costs no call; 1 s.
	Tick time.Duration

	// Now is the wall clock that lifetimes are measured by; time.Now. Settle and Grace are measured by the machine's
	// monotonic clock, whatever Now says.
	Now func() time.Time

	// Log receives what happens; slog.Default().
	Log *slog.Logger
}

// withDefaults returns the configuration with every optional field set.
func (c Config) withDefaults() Config {
	setDefault(&c.SecretName, DefaultSecretName)
	setDefault(&c.Signer, DefaultSigner)
	setDefault(&c.Duration, DefaultDuration)
	setDefault(&c.SignerTimeout, 30*time.Second)
	setDefault(&c.Settle, 2*time.Second)
	setDefault(&c.Grace, 30*time.Second)
	setDefault(&c.Tick, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Owner == nil {
		c.Owner = func(context.Context) (*metav1.OwnerReference, error) { return nil, nil }
	}
	return c
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// Validate returns everything that is wrong with the configuration once defaults are set, with the field and what to
// write instead. Paths are the field names in lower camel case.
func (c Config) Validate() field.ErrorList {
	c = c.withDefaults()
	var errs field.ErrorList
	if msgs := validation.IsDNS1123Label(c.Namespace); len(msgs) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), c.Namespace, strings.Join(msgs, "; ")))
	}
	if msgs := validation.IsDNS1123Subdomain(c.SecretName); len(msgs) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("secretName"), c.SecretName, strings.Join(msgs, "; ")))
	}
	if len(c.DNSNames)+len(c.IPs) == 0 {
		errs = append(errs, field.Required(field.NewPath("dnsNames"),
			"must name at least one DNS name or IP address that API servers call the webhook by"))
	}
	for i, name := range c.DNSNames {
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("dnsNames").Index(i), name, strings.Join(msgs, "; ")))
		}
	}
	for i, ip := range c.IPs {
		if ip.To16() == nil || ip.IsUnspecified() {
			errs = append(errs, field.Invalid(field.NewPath("ips").Index(i), ip.String(), "must be an address that API servers can call"))
		}
	}
	if msg := signerFault(c.Signer); msg != "" {
		errs = append(errs, field.Invalid(field.NewPath("signer"), c.Signer, msg))
	}
	if c.Duration < MinDuration || c.Duration > MaxDuration {
		errs = append(errs, field.Invalid(field.NewPath("duration"), c.Duration.String(),
			"must be from 10m (the certificates API's minimum) to 87600h (ten years)"))
	}
	for name, value := range map[string]time.Duration{
		"signerTimeout": c.SignerTimeout, "settle": c.Settle, "grace": c.Grace, "tick": c.Tick,
	} {
		if value < 0 {
			errs = append(errs, field.Invalid(field.NewPath(name), value.String(), "must not be negative"))
		}
	}
	return errs
}

// signerFault returns why a serving certificate cannot be requested from the signer; blank if it can. For what the built-in
// signers issue, see https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
func signerFault(signer string) string {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
		return "must issue serving certificates, this one issues client certificates: use " + DefaultSigner
	case "kubernetes.io/legacy-unknown":
		return "must be a signer that certificates.k8s.io/v1 accepts: use " + DefaultSigner
	}
	const shape = "must be a domain and a name, such as " + DefaultSigner
	domain, name, found := strings.Cut(signer, "/")
	if !found || !strings.Contains(domain, ".") || len(validation.IsDNS1123Subdomain(domain)) > 0 {
		return shape
	}
	for _, part := range strings.Split(name, ".") {
		if len(validation.IsDNS1123Subdomain(part)) > 0 {
			return shape
		}
	}
	if domain == "kubernetes.io" && signer != DefaultSigner {
		return "must be a signer that exists, and kubernetes.io has only one that issues serving certificates: use " + DefaultSigner
	}
	return ""
}
