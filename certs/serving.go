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
// and makes no other call. A pair that replaces another is served from when the API server trusts it; until then, and
// while the Secret is lost or holds something else, the last good one goes on.
type Serving struct {
	cfg       Config
	published func() [][]byte
	secret    *latest.Object[*corev1.Secret]

	mu      sync.Mutex
	seen    snapshot // of the Secret, when it was last looked at
	current *pair    // what handshakes were last answered with
	offered *pair    // the newest that can be served
}

// A snapshot is what the Secret was seen to hold.
type snapshot struct {
	secret *corev1.Secret // nil when it does not exist
	pair   *pair          // nil when it cannot be served
	fault  error          // why not
}

// NewServing returns a Serving that has yet to be run. Published returns what the webhook configurations trust,
// as Publisher.Published does.
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

// look returns what the Secret holds, and what closes once that has changed.
func (s *Serving) look() (snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.refresh()
	return s.seen, changed
}

// refresh takes note of what the Secret holds, where that is another one than was seen last. s.mu is held.
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
		s.cfg.Log.Warn("serving certificate was not found in the secret", "namespace", s.cfg.Namespace, "secret", s.cfg.SecretName, "error", err)
	}
	return now.Changed
}

// choose returns which of two pairs to serve: the one that replicas are offered once the API server trusts it, or when
// there is nothing to lose.
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

// pick returns the pair to serve now; nil as long as none was ever offered.
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
	case before.fingerprint() != picked.fingerprint(): // a Secret that is read again is another pair of the same certificate
		log.Info("serving certificate was swapped")
	}
	return picked
}

// GetCertificate is tls.Config.GetCertificate. It fails as long as no certificate was ever seen.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	picked := s.pick(parseView(s.published()), s.cfg.Now())
	if picked == nil {
		return nil, fmt.Errorf("secret %s/%s has held no serving certificate yet", s.cfg.Namespace, s.cfg.SecretName)
	}
	return &picked.tls, nil
}

// Current returns what is served now and who issued it; nil as long as there is nothing.
func (s *Serving) Current() (*x509.Certificate, Mode) {
	if picked := s.pick(parseView(s.published()), s.cfg.Now()); picked != nil {
		return picked.leaf, picked.mode
	}
	return nil, ""
}

// Ready returns why the API server would refuse this replica's certificate at the given time; nil when it would not.
// The API server accepts a certificate that has not expired and that every webhook configuration trusts. One that does not exist
// calls nobody.
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
