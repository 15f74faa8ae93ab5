package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// catchUp is how often a watch that is behind is compared with the API.
const catchUp = 250 * time.Millisecond

// Serving answers TLS handshakes with the certificate that all replicas share. It watches the Secret through the API
// and makes no other call. A pair that replaces another is served from when the API server trusts it; until then, and
// while the Secret is lost or holds something else, the last good one goes on.
type Serving struct {
	cfg       Config
	published func() [][]byte
	source    cache.ListerWithContext
	informer  cache.SharedIndexInformer
	handled   cache.ResourceEventHandlerRegistration

	seen    atomic.Pointer[observation]
	changed chan struct{} // holds a token when the Secret changed since the keeper looked

	mu      sync.Mutex
	current *pair // what handshakes were last answered with
	offered *pair // the newest that can be served
}

// An observation is what the Secret was last seen to hold.
type observation struct {
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
	s := &Serving{cfg: cfg.withDefaults(), published: published, changed: make(chan struct{}, 1)}
	s.observe(nil)

	source := clientset.Named(client.Secrets(s.cfg.Namespace), s.cfg.SecretName)
	s.source = cache.ToListerWithContext(source)
	s.informer = cache.NewSharedIndexInformer(source, &corev1.Secret{}, 0, cache.Indexers{})
	var err error
	s.handled, err = s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.observe(obj.(*corev1.Secret)) },
		UpdateFunc: func(_, obj any) { s.observe(obj.(*corev1.Secret)) },
		DeleteFunc: func(any) { s.observe(nil) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching secret %s/%s: %w", s.cfg.Namespace, s.cfg.SecretName, err)
	}
	return s, nil
}

// Run watches the Secret until the context ends.
func (s *Serving) Run(ctx context.Context) {
	s.informer.RunWithContext(ctx)
}

// HasSynced says whether the Secret, or its absence, has been seen.
func (s *Serving) HasSynced() bool {
	return s.handled.HasSynced()
}

// waitForNow returns once the watch has shown the Secret as it is in the API now; false when the context ends first. A watch
// that had to start anew, after an outage, may be behind by long.
func (s *Serving) waitForNow(ctx context.Context) bool {
	return wait.PollUntilContextCancel(ctx, catchUp, true, func(ctx context.Context) (bool, error) {
		if !s.HasSynced() {
			return false, nil
		}
		listed, err := s.source.ListWithContext(ctx, metav1.ListOptions{})
		if err != nil {
			s.cfg.Log.Warn("secret was not read", "namespace", s.cfg.Namespace, "secret", s.cfg.SecretName, "error", err)
			return false, nil
		}
		var now, seen string
		for _, secret := range listed.(*corev1.SecretList).Items {
			now = secret.ResourceVersion
		}
		if secret := s.seen.Load().secret; secret != nil {
			seen = secret.ResourceVersion
		}
		return now == seen, nil
	}) == nil
}

// observe takes note of what the Secret holds.
func (s *Serving) observe(secret *corev1.Secret) {
	p, err := pairOf(secret, s.cfg)
	s.seen.Store(&observation{secret, p, err})
	if p != nil {
		s.mu.Lock()
		s.offered = p
		s.mu.Unlock()
	} else if secret != nil {
		s.cfg.Log.Warn("serving certificate was not found in the secret", "namespace", s.cfg.Namespace, "secret", s.cfg.SecretName, "error", err)
	}
	s.poke()
}

// poke makes the keeper look.
func (s *Serving) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
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
	picked := choose(s.current, s.offered, trusted, now)
	if picked != s.current {
		s.current = picked
		s.cfg.Log.Info("serving certificate was swapped", "mode", picked.mode, "certificate", picked.fingerprint(), "notAfter", picked.leaf.NotAfter)
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
// The API server accepts a certificate that has not expired and that every webhook configuration trusts.
func (s *Serving) Ready(now time.Time) error {
	trusted := parseView(s.published())
	switch picked := s.pick(trusted, now); {
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
