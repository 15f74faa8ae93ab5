package secretsrole

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// lease is how long a borrowed name stays in the role.
const lease = 10 * time.Second

// demand is which names the role should list, and which of them are granted.
type demand struct {
	role string
	wake chan struct{} // holds a token when there is something to compare

	mu sync.Mutex
	// told says that Want was called, so that all names that are wanted from the beginning are known.
	told bool
	// until is when a name is no longer wanted; zero for one that stays until it is dropped.
	until map[string]time.Time
	// granted are the names whose permission is in force, as the API server says; left are those for which the role has no room.
	granted, left map[string]bool
	// problem is why no other name is granted.
	problem error
	changed chan struct{} // closed when names are granted, or the reason why they are not has changed
}

func newDemand(role string) *demand {
	return &demand{
		role: role, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		until: map[string]time.Time{}, granted: map[string]bool{}, left: map[string]bool{},
	}
}

// Want grants the Secrets of these names until they are dropped. Nothing is written before the first call, which has to pass all names
// that are wanted from the beginning.
func (d *demand) Want(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := !d.told
	for _, name := range names {
		until, wanted := d.until[name]
		changed = changed || !wanted || !until.IsZero()
		d.until[name] = time.Time{}
	}
	d.told = true
	if changed {
		d.poke()
	}
}

// Drop ends the grant of the Secrets of a name.
func (d *demand) Drop(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, name)
	d.poke()
}

// Borrow grants the Secrets of these names for the time lease, unless they are wanted anyway. It returns once they are granted, or with
// the reason why they are not.
func (d *demand) Borrow(ctx context.Context, names ...string) error {
	d.mu.Lock()
	end, changed := time.Now().Add(lease), false
	for _, name := range names {
		until, wanted := d.until[name]
		if !wanted || !until.IsZero() {
			d.until[name] = end
		}
		changed = changed || !wanted
	}
	if changed {
		d.poke()
	}
	d.mu.Unlock()
	for _, name := range names {
		if err := d.await(ctx, name); err != nil {
			return fmt.Errorf("waiting for the permission for secrets %s: %w", name, err)
		}
	}
	return nil
}

func (d *demand) await(ctx context.Context, name string) error {
	for {
		granted, changed, problem := d.Granted(name)
		if granted || problem != nil {
			return problem
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Granted reports whether the Secrets of a name are granted and the API server allows it. Where it does not and that lasts, problem says
// why. The channel is closed once they may be granted, or the problem has changed.
func (d *demand) Granted(name string) (granted bool, changed <-chan struct{}, problem error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.granted[name]:
		return true, d.changed, nil
	case d.left[name]:
		return false, d.changed, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"cluster role %s has no room for %s, since it lists %d other names and API objects are limited in size: install with rbac.secrets=all",
			d.role, name, len(d.granted)))
	}
	return false, d.changed, d.problem
}

// Doubt notes that the API server refused what was granted: it is asked again.
func (d *demand) Doubt(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.granted, name) // changed is not closed: this grants nothing to those who wait
	d.poke()
}

// wanted returns the names that are wanted at a time, those that stay and those that are borrowed, both sorted, and after how long the
// next one expires, 0 for never; false where the names are not known yet.
func (d *demand) wanted(now time.Time) (names, borrowed []string, fewer time.Duration, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, until := range d.until {
		if until.IsZero() {
			names = append(names, name)
			continue
		}
		rest := until.Sub(now)
		if rest <= 0 {
			delete(d.until, name)
			continue
		}
		borrowed = append(borrowed, name)
		if fewer == 0 || rest < fewer {
			fewer = rest
		}
	}
	slices.Sort(names)
	slices.Sort(borrowed)
	return names, borrowed, fewer, d.told
}

// linger keeps names that earlier terms granted for the time lease: an ImagePullSecret that was deleted while there was no leader may
// have left something behind.
func (d *demand) linger(names map[string]bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range names {
		if _, wanted := d.until[name]; !wanted && strings.HasPrefix(name, pullsecret.SecretPrefix) {
			d.until[name] = now.Add(lease)
		}
	}
}

// listed records which names the role lists, or is about to list, and for which it has no room. Of the names that it lists, it returns
// those that are not known to be in force.
func (d *demand) listed(names, left []string) (doubtful []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	granted := make(map[string]bool, len(names))
	for _, name := range names {
		if d.granted[name] {
			granted[name] = true
		} else {
			doubtful = append(doubtful, name)
		}
	}
	d.granted = granted
	outside := make(map[string]bool, len(left))
	for _, name := range left {
		outside[name] = true
	}
	if !maps.Equal(outside, d.left) {
		d.left = outside
		d.turn()
	}
	return doubtful
}

// grant records that names are in force.
func (d *demand) grant(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		d.granted[name] = true
	}
	d.turn()
}

// say sets why nothing more is granted, nil for no reason, and reports whether that has changed.
func (d *demand) say(problem error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if (problem == nil) == (d.problem == nil) && (problem == nil || problem.Error() == d.problem.Error()) {
		return false
	}
	d.problem = problem
	d.turn()
	return true
}

func (d *demand) turn() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *demand) poke() {
	select {
	case d.wake <- struct{}{}:
	default: // there is a token already
	}
}
