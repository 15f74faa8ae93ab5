package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

// Serving answers TLS handshakes with the certificate that all replicas share. It watches the Secret through the API
// and makes no other call. A new pair is served once the API server trusts it; until then, and while the Secret is lost or
// holds something else, the last good pair is served.
type Serving struct {
	cfg       Config
	published func() [][]byte
	secret    *latest.Object[*corev1.Secret]

	mu      sync.Mutex
	seen    snapshot // the Secret as of the last look
	current *pair    // what handshakes were last answered with
	offered *pair    // the newest pair that can be served
}

// A snapshot is what the Secret was seen to hold.
type snapshot struct {
	secret *corev1.Secret // nil when it does not exist
	pair   *pair          // nil when it cannot be served
	fault  error          // why not
}

// NewServing returns a Serving, which then must be run. published returns what the webhook configurations trust, as
// Publisher.Published does.
func NewServing(client *clientset.Clientset, cfg Config, published func() [][]byte) (*Serving, error) {
	if err := cfg.Validate().ToAggregate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return newServing(cfg, clientset.Named(client.Secrets(cfg.Namespace), cfg.SecretName), published), nil
}

func newServing(cfg Config, source latest.Source, published func() [][]byte) *Serving {
	name := "secret " + cfg.Namespace + "/" + cfg.SecretName
	s := &Serving{cfg: cfg, published: published, secret: latest.NewObject[*corev1.Secret](cfg.Log, name, source)}
	s.seen.pair, s.seen.fault = pairOf(nil, cfg)
	return s
}

// Run watches the Secret until the context ends.
func (s *Serving) Run(ctx context.Context) {
	s.secret.Run(ctx)
}

// look returns what the Secret holds, and a channel that is closed once that has changed.
func (s *Serving) look() (snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.refresh()
	return s.seen, changed
}

// refresh takes in the Secret if it is not the one that was seen last, and returns a channel that is closed once it changes. s.mu is
// held.
func (s *Serving) refresh() (changed <-chan struct{}) {
	now := s.secret.Get()
	if now.Object == s.seen.secret {
		return now.Changed
	}
	p, err := pairOf(now.Object, s.cfg)
	s.seen = snapshot{now.Object, p, err}
	if p != nil {
		s.offered = p
	} else if now.Exists {
		s.cfg.Log.Warn("serving certificate was not found in the secret",
			"namespace", s.cfg.Namespace, "secret", s.cfg.SecretName, "error", err)
	}
	return now.Changed
}

// choose returns which of two pairs to serve: the offered one once the API server trusts it, or if nothing can be lost by it.
func choose(current, offered *pair, trusted view, now time.Time) *pair {
	switch {
	case offered == nil || current == offered:
		return current
	case current == nil || trusted.trusts(offered.leaf):
		return offered
	case current.expired(now) && !offered.expired(now):
		return offered
	default:
		return current
	}
}

// pick returns the pair to serve now; nil if none was ever offered.
func (s *Serving) pick(trusted view, now time.Time) *pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	picked := choose(s.current, s.offered, trusted, now)
	if picked == s.current {
		return picked
	}
	before := s.current
	s.current = picked
	switch log := s.cfg.Log.With("mode", picked.mode, "certificate", picked.fingerprint(), "notAfter", picked.leaf.NotAfter); {
	case before == nil:
		log.Info("serving certificate was loaded")
	case before.fingerprint() != picked.fingerprint(): // reading the Secret again makes another pair of the same certificate
		log.Info("serving certificate was swapped")
	}
	return picked
}

// GetCertificate is for tls.Config.GetCertificate. It fails until a certificate has been seen.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	picked := s.pick(parseView(s.published()), s.cfg.Now())
	if picked == nil {
		return nil, fmt.Errorf("secret %s/%s has held no serving certificate yet", s.cfg.Namespace, s.cfg.SecretName)
	}
	return &picked.tls, nil
}

// Current returns the certificate that is served now, and who issued it; nil while there is none.
func (s *Serving) Current() (*x509.Certificate, Mode) {
	if picked := s.pick(parseView(s.published()), s.cfg.Now()); picked != nil {
		return picked.leaf, picked.mode
	}
	return nil, ""
}

// Ready returns why the API server would refuse this replica's certificate at the given time; nil if it would not. The API
// server accepts a certificate that has not expired and that every webhook configuration trusts. A configuration that does not
// exist is ignored: the API server calls nobody because of it.
func (s *Serving) Ready(now time.Time) error {
	published := s.published()
	trusted := parseView(slices.DeleteFunc(slices.Clone(published), func(bundle []byte) bool { return bundle == nil }))
	switch picked := s.pick(parseView(published), now); {
	case picked == nil:
		return fmt.Errorf("secret %s/%s has held no serving certificate yet", s.cfg.Namespace, s.cfg.SecretName)
	case picked.expired(now):
		return fmt.Errorf("the serving certificate expired at %s", picked.leaf.NotAfter.UTC().Format(time.RFC3339))
	case !trusted.trusts(picked.leaf):
		return errors.New("the webhook configurations do not trust the serving certificate yet")
	default:
		return nil
	}
}
