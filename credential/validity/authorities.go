package validity

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Authorities is the checksum of the certificate authorities in a Secret; zero if there are none.
type Authorities [sha256.Size]byte

// authoritiesOf returns the name of the Secret whose certificate authorities are needed to check a rule's credential; blank if there is no
// rule, or none are needed.
func authoritiesOf(rule *pullsecret.Rule) string {
	if rule == nil || rule.Trial.Disabled {
		return ""
	}
	return rule.Trial.CA
}

// followAuthorities watches the Secrets that rules take certificate authorities from, each once, until ctx ends.
func (k *Keeper) followAuthorities(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watched := map[string]context.CancelFunc{} // by Secret
	for {
		needed := map[string]bool{}
		for rule := range k.Index.Rules().All() {
			if secret := authoritiesOf(rule); secret != "" {
				needed[secret] = true
			}
		}
		for secret, stop := range watched {
			if !needed[secret] {
				stop()
				delete(watched, secret)
			}
		}
		for secret := range needed {
			if watched[secret] == nil {
				watch, stop := context.WithCancel(ctx)
				watched[secret] = stop
				watching.Go(func() { k.watchAuthorities(watch, secret) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-k.named:
		}
	}
}

// watchAuthorities watches one Secret.
func (k *Keeper) watchAuthorities(ctx context.Context, secret string) {
	var last *Authorities
	k.Watch(ctx, secret, func(now Authorities) {
		if last == nil || *last != now {
			k.renew(secret, last == nil)
			last = &now
		}
	})
}

// renew has the credentials checked again that depend on the authorities in a Secret. The first event of a watch need not be a change: it
// matters only where those authorities were read before.
func (k *Keeper) renew(secret string, first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for rule := range k.Index.Rules().All() {
		if authoritiesOf(rule) != secret {
			continue
		}
		if one := k.of(rule.Name); !first || one.authorities == secret {
			one.outdated = true
			k.queue.AddAfter(rule.Name, settling)
		}
	}
}

// reads notes that the authorities for a rule are about to be read.
func (k *Keeper) reads(rule *pullsecret.Rule) {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.of(rule.Name)
	one.authorities, one.outdated = rule.Trial.CA, false
}
