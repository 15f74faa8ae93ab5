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

// lease is how long a name stays in the role that was asked for once.
const lease = 10 * time.Second

// demand is what is asked of the role, and what of it is granted.
type demand struct {
	role string
	wake chan struct{} // holds a token when there is something to compare

	mu sync.Mutex
	// told says that all names are known that are wanted from the beginning.
	told bool
	// until is when a name is wanted no more; zero for one that stays until it is dropped.
	until map[string]time.Time
	// granted are the names that the API server has said are in force; left are those that have no room.
	granted, left map[string]bool
	// problem is why none is granted besides.
	problem error
	changed chan struct{} // closed when names are granted, or why they are not has changed
}

func newDemand(role string) *demand {
	return &demand{
		role: role, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		until: map[string]time.Time{}, granted: map[string]bool{}, left: map[string]bool{},
	}
}

// Want has the Secrets of these names granted until they are dropped. Nothing is written before it was called once: by then all
// names must be among those of the call that are wanted from the beginning.
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

// Drop ends that the Secrets of a name are granted.
func (d *demand) Drop(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, name)
	d.poke()
}

// Borrow has the Secrets of these names granted for a while, those that are not wanted anyway, and returns once they are, or
// with the reason why they are not.
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

// Granted reports whether the API server allows what the role lists for the Secrets of a name, or why it does not, where that
// is known to last, and returns a channel that is closed once it may be allowed, or be known why it is not.
func (d *demand) Granted(name string) (granted bool, changed <-chan struct{}, problem error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.granted[name]:
		return true, d.changed, nil
	case d.left[name]:
		return false, d.changed, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"cluster role %s has no room for %s beside %d others: no object of the API may be larger. Install with rbac.secrets=all", d.role, name,
			len(d.granted)))
	}
	return false, d.changed, d.problem
}

// Doubt takes in that the API server refused what was granted: it is asked once more.
func (d *demand) Doubt(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.granted, name) // whoever waits for others has nothing to gain by looking
	d.poke()
}

// wanted returns the names that are wanted at a moment, those that are to stay and those that are borrowed, in their order, and after
// how long there are fewer of them, 0 for never; false where that is not known yet.
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

// linger has names that were granted before the beginning wanted a little longer: of an ImagePullSecret that was deleted while
// nobody led there may be something left.
func (d *demand) linger(names map[string]bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range names {
		if _, wanted := d.until[name]; !wanted && strings.HasPrefix(name, pullsecret.SecretPrefix) {
			d.until[name] = now.Add(lease)
		}
	}
}

// listed takes in which names the role lists, or is about to, and which have no room in it. It returns those of the former that are
// not known to be in force.
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

// grant takes in that names are in force.
func (d *demand) grant(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		d.granted[name] = true
	}
	d.turn()
}

// say sets why nothing more is granted, nil where there is no reason, and reports whether that is another one.
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
	default: // one is on its way already
	}
}
