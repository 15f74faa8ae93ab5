package certs

import (
	"crypto/x509"
	"fmt"
	"time"
)

// A state is everything that decides what the keeper does next.
type state struct {
	now time.Time // by the wall clock

	held    *pair         // what the Secret holds; nil when that cannot be served
	missing string        // why held is nil
	heldFor time.Duration // since the keeper first saw this pair in the Secret

	fresh   *pair // issued by this keeper and not yet in the Secret
	issuing bool  // a fresh pair is being issued

	// known is what this keeper published last or, until it published something, what it found published. Replicas may
	// still be serving any of it.
	known        bundle
	published    view          // what each webhook configuration trusts
	publishedFor time.Duration // since the keeper published known
	serving      *x509.Certificate

	settle, grace time.Duration
}

// An action is what the keeper does next.
type action interface{ fmt.Stringer }

type (
	// issue gets a new pair, in the background.
	issue struct{ reason string }

	// publish makes the API server trust exactly these certificates.
	publish struct{ bundle bundle }

	// write puts the fresh pair into the Secret, from where replicas take it.
	write struct{}

	// idle does nothing until something changes, or for at most this long.
	idle struct {
		atMost time.Duration
		reason string
	}
)

func (a issue) String() string   { return "issue: " + a.reason }
func (a publish) String() string { return fmt.Sprintf("publish %d certificates", len(a.bundle)) }
func (a write) String() string   { return "write" }
func (a idle) String() string    { return fmt.Sprintf("wait %s: %s", a.atMost, a.reason) }

// untilWoken is how long to wait at most for something that wakes the keeper anyway.
const untilWoken = time.Hour

// maxTrusted is how many certificates are trusted at a time, at most. A Secret that is lost again and again, faster than replicas may
// take to swap, adds one each time, and none of them is old enough to be retired yet. Beyond this many, the one that was trusted first
// is dropped. No replica serves it any more: each of the nineteen after it was left to settle for 2 s before it was offered, so the
// first of those was offered more than 30 s ago. That is how long replicas may take to swap, and a replica serves the newest one that
// it was offered. Twenty certificates of 1 KiB each are far below the size that etcd refuses.
const maxTrusted = 20

// decide returns the next step of keeping the certificate. A rotation is: issue, publish old and new, let every API
// server see that, write the Secret, let every replica swap, publish only the new one. Each step is decided from what
// the API holds, not from the step before, so it does not matter where the last leader stopped.
//
// The promise behind the order is that no certificate that a replica may be serving is ever missing from the bundle.
func decide(s state) action {
	trust := s.known
	if s.serving != nil {
		trust = trust.withLast(s.serving)
	}
	trust = trust.unexpired(s.now)

	// A pair in the Secret that is not trusted while another one is was put there from elsewhere. If it were
	// trusted now, replicas would serve it before every API server knows it.
	stray := s.held != nil && len(trust) > 0 && !trust.holds(s.held.leaf)
	usable := s.held != nil && !stray && !s.held.expired(s.now)
	due := usable && !s.now.Before(s.held.renewAt())
	keep := usable && !due
	if usable {
		trust = trust.withLast(s.held.leaf)
	}

	// A fresh pair is dropped once it is itself due for renewal, because it could not be published or written for so long.
	fresh := s.fresh != nil && s.now.Before(s.fresh.renewAt())
	if !keep && fresh {
		trust = trust.withLast(s.fresh.leaf)
	}
	if keep && s.heldFor >= s.grace {
		trust = bundle{s.held.leaf}
	}

	trust = trust.newest(maxTrusted)

	if len(trust) > 0 && !s.published.is(trust) {
		return publish{trust}
	}
	switch {
	case keep && len(trust) > 1:
		return idle{s.grace - s.heldFor, "replicas are swapping"}
	case keep:
		return idle{s.held.renewAt().Sub(s.now), "not due"}
	case s.issuing:
		return idle{untilWoken, "the signer is at work"}
	case !fresh && due:
		return issue{"the certificate is due for renewal"}
	case !fresh && stray:
		return issue{"the secret holds a certificate that is not trusted"}
	case !fresh && s.held != nil:
		return issue{"the certificate has expired"}
	case !fresh:
		return issue{s.missing}
	case s.publishedFor < s.settle && len(trust) > 1: // if nothing else is trusted, there is nothing to protect
		return idle{s.settle - s.publishedFor, "API servers are taking up the bundle"}
	default:
		return write{}
	}
}
