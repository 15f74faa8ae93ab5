package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/util/flowcontrol"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
)

const (
	// issueEvery and issueBurst bound how many certificates are issued if they keep getting lost: issueBurst at once, and then one
	// per issueEvery.
	issueEvery = 10 * time.Second
	issueBurst = 30
)

// Keeper keeps the certificate: it issues, renews, publishes and retires it. It runs only on the leader. In a steady cluster it makes no
// call.
type Keeper struct {
	cfg       Config
	secrets   *gentype.ClientWithList[*corev1.Secret, *corev1.SecretList]
	requester *requester
	serving   *Serving
	publisher Publisher
	observer  Observer
}

// NewKeeper returns a keeper of the Secret that the Serving watches, with the same configuration.
func NewKeeper(client *clientset.Clientset, serving *Serving, publisher Publisher, observer Observer) *Keeper {
	cfg := serving.cfg
	return &Keeper{
		cfg:       cfg,
		secrets:   client.Secrets(cfg.Namespace),
		requester: newRequester(client, cfg),
		serving:   serving,
		publisher: publisher,
		observer:  observer,
	}
}

// Run keeps the certificate until the context ends. It logs errors and retries. It may be run again later, but not twice at
// a time.
func (k *Keeper) Run(ctx context.Context) {
	// Without this, what the last leader wrote could be undone because it was not seen yet.
	if k.serving.secret.CatchUp(ctx) != nil {
		return
	}
	t := &term{
		Keeper: k, issued: make(chan issuance, 1), pauses: backoff.Between(firstPause, longestPause),
		limit: flowcontrol.NewTokenBucketRateLimiter(float32(1/issueEvery.Seconds()), issueBurst),
	}
	t.known = parseView(k.publisher.Published()).union()
	for {
		timer := time.NewTimer(t.step(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			if t.issuing {
				<-t.issued
			}
			return
		case result := <-t.issued:
			t.take(ctx, result)
		case <-t.changed:
		case <-k.publisher.Changed():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// A term is one run of a keeper, with what it remembers. The next leader starts with nothing but what the API holds.
type term struct {
	*Keeper

	seen      snapshot
	changed   <-chan struct{} // closed once the Secret differs from seen
	held      string          // fingerprint of the pair that the Secret was last seen with
	heldSince time.Time       // when the Secret was first seen with it

	fresh   *pair
	issuing bool
	issued  chan issuance
	limit   flowcontrol.RateLimiter

	known       bundle
	publishedAt time.Time

	pauses    wait.Backoff
	notBefore time.Time // when to try again after a failure
}

// An issuance is the outcome of issuing a new pair.
type issuance struct {
	reason   string // why one was needed
	pair     *pair
	fellBack error // why the signer did not issue it
	err      error // why there is none at all
}

// firstPause and longestPause bound the pauses between failures.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
)

// step does what there is to do. It returns for how long there is nothing more to do, unless something changes.
func (t *term) step(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		t.seen, t.changed = t.serving.look()
		if pause := time.Until(t.notBefore); pause > 0 {
			return pause
		}
		var err error
		switch next := decide(t.state()).(type) {
		case idle:
			return min(next.atMost, t.cfg.Tick)
		case issue:
			if !t.limit.TryAccept() {
				return t.cfg.Tick
			}
			t.issuing = true
			go func() { t.issued <- t.issue(ctx, next.reason) }()
		case publish:
			err = t.publish(ctx, next.bundle)
		case write:
			err = t.write(ctx)
		}
		t.note(ctx, err)
	}
	return 0
}

// state gathers what decides the next step.
func (t *term) state() state {
	held := ""
	if t.seen.pair != nil {
		held = t.seen.pair.fingerprint()
	}
	if held != t.held {
		t.held, t.heldSince = held, time.Now()
	}
	if t.fresh != nil && t.fresh.fingerprint() == held {
		t.fresh = nil // a write that seemed to fail has succeeded
	}
	s := state{
		now:          t.cfg.Now(),
		held:         t.seen.pair,
		heldFor:      time.Since(t.heldSince),
		fresh:        t.fresh,
		issuing:      t.issuing,
		known:        t.known,
		published:    parseView(t.publisher.Published()),
		publishedFor: time.Since(t.publishedAt),
		settle:       t.cfg.Settle,
		grace:        t.cfg.Grace,
	}
	if t.seen.fault != nil {
		s.missing = t.seen.fault.Error()
	}
	s.serving, _ = t.serving.Current()
	return s
}

// note logs an error and delays the next try, longer after each failure in a row.
func (t *term) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		t.pauses = backoff.Between(firstPause, longestPause)
	default:
		t.notBefore = time.Now().Add(t.pauses.Step())
		t.cfg.Log.Error("serving certificate was not kept", "namespace", t.cfg.Namespace, "secret", t.cfg.SecretName, "error", err)
	}
}

// issue gets a new pair: from the signer or, if that refuses, self-signed.
func (k *Keeper) issue(ctx context.Context, reason string) issuance {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuance{err: fmt.Errorf("generating the private key: %w", err)}
	}
	p, err := k.requester.request(ctx, key)
	if err == nil || ctx.Err() != nil || !refused(err) {
		return issuance{reason: reason, pair: p, err: err}
	}
	p, failed := selfSigned(key, k.cfg, k.cfg.Now())
	return issuance{reason: reason, pair: p, fellBack: err, err: failed}
}

// take takes over what issue returned.
func (t *term) take(ctx context.Context, got issuance) {
	t.issuing = false
	t.note(ctx, got.err)
	if got.err != nil {
		return
	}
	t.fresh = got.pair
	log := t.cfg.Log.With("namespace", t.cfg.Namespace, "secret", t.cfg.SecretName)
	if got.fellBack != nil {
		log.Warn("serving certificate fell back to a self-signed one", "signer", t.cfg.Signer, "error", got.fellBack)
		t.observer.fellBack(got.fellBack)
	}
	leaf := got.pair.leaf
	log.Info("serving certificate was issued", "reason", got.reason, "mode", got.pair.mode,
		"certificate", got.pair.fingerprint(), "notBefore", leaf.NotBefore, "notAfter", leaf.NotAfter, "renewAt", got.pair.renewAt())
	t.observer.issued(got.pair.mode, leaf.NotAfter)
}

// publish makes the API server trust exactly the bundle.
func (t *term) publish(ctx context.Context, trust bundle) error {
	if err := t.publisher.Publish(ctx, trust.pem()); err != nil {
		return fmt.Errorf("publishing the trusted certificates: %w", err)
	}
	t.known, t.publishedAt = trust, time.Now()
	t.cfg.Log.Info("trusted certificates were published", "certificates", len(trust))
	return nil
}

// write puts the fresh pair into the Secret, if the Secret has not changed since it was seen.
func (t *term) write(ctx context.Context) error {
	found, p := t.seen.secret, t.fresh
	name := fmt.Sprintf("%s/%s", t.cfg.Namespace, t.cfg.SecretName)
	if found != nil && (found.Type != corev1.SecretTypeTLS || found.Immutable != nil && *found.Immutable) {
		err := t.secrets.Delete(ctx, t.cfg.SecretName, *metav1.NewPreconditionDeleteOptions(string(found.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting secret %s, whose type or data cannot be changed: %w", name, err)
		}
		found = nil
	}
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: t.cfg.Namespace, Name: t.cfg.SecretName, Labels: v1.ManagedLabels(),
			Annotations: map[string]string{annotationMode: string(p.mode), annotationFingerprint: p.fingerprint()},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: p.certPEM, corev1.TLSPrivateKeyKey: p.keyPEM},
	}
	if found != nil {
		secret.UID, secret.ResourceVersion = found.UID, found.ResourceVersion
	}
	switch owner, err := t.cfg.Owner(ctx); {
	case err != nil:
		return fmt.Errorf("writing secret %s: %w", name, err)
	case owner != nil:
		secret.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	body, err := json.Marshal(secret)
	if err != nil {
		return fmt.Errorf("encoding secret %s: %w", name, err)
	}
	options := metav1.PatchOptions{FieldManager: v1.FieldManager, Force: new(true)}
	if _, err := t.serving.secret.Write(func() (*corev1.Secret, error) {
		return t.secrets.Patch(ctx, t.cfg.SecretName, types.ApplyPatchType, body, options)
	}); err != nil {
		return fmt.Errorf("writing secret %s: %w", name, err)
	}
	t.fresh = nil // from now on, what counts is what the Secret holds
	t.cfg.Log.Info("serving certificate was written", "namespace", t.cfg.Namespace, "secret", t.cfg.SecretName,
		"mode", p.mode, "certificate", p.fingerprint(), "notAfter", p.leaf.NotAfter)
	t.observer.rotated(p.mode, p.leaf.NotAfter)
	return nil
}
