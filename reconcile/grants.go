package reconcile

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

const (
	// grantTimeout is how long a request waits for its permission.
	grantTimeout = 2 * time.Second
	// refusedPause is how long a watch waits that was refused although it is granted, each time twice as long, up to longestRefused.
	refusedPause   = 20 * time.Millisecond
	longestRefused = 10 * time.Second
	// refusedBefore is how often that happens before it is told: an API server hears of a role moments after it was written,
	// and each of several at a moment of its own.
	refusedBefore = 7
)

// errRefused says that a Secret may not be read although its name is granted.
var errRefused = errors.New("it was refused although its name is granted")

// Grants has the permission for Secrets of single names given and taken, where the role that gives it lists their names.
type Grants interface {
	// Want has the Secrets of these names granted until Drop. The first call has all that are wanted from the beginning.
	Want(names ...string)
	// Drop ends that.
	Drop(name string)
	// Borrow has the Secrets of these names granted for long enough to ask for them, and returns once they are.
	Borrow(ctx context.Context, names ...string) error
	// Granted reports whether the Secrets of a name are granted, or why that lasts, and returns a channel that is closed once
	// they may be, or the reason has changed.
	Granted(name string) (granted bool, changed <-chan struct{}, problem error)
	// Doubt takes in that what was granted was refused.
	Doubt(name string)
}

// secretNames returns the names of the Secrets of ImagePullSecrets.
func secretNames(imagePullSecrets []string) []string {
	names := make([]string, len(imagePullSecrets))
	for i, name := range imagePullSecrets {
		names[i] = pullsecret.SecretName(name)
	}
	return names
}

// followGranted follows the Secrets of a name, until ctx ends, while that is granted.
func (w *secretWatch) followGranted(
	ctx context.Context, name string, answered func(verb string, err error), follow func(context.Context, func(string, error)),
) {
	for refused := 0; w.untilGranted(ctx, name); refused++ {
		following, stop := context.WithCancel(ctx)
		follow(following, func(verb string, err error) {
			if err == nil {
				refused = 0
			}
			if !apierrors.IsForbidden(err) || refused >= refusedBefore {
				answered(verb, err)
			}
			if apierrors.IsForbidden(err) {
				stop()
			}
		})
		stop()
		if ctx.Err() == nil {
			backoff.Sleep(ctx, backoff.Spread(backoff.Doubled(refusedPause, refused, longestRefused)))
			w.Grants.Doubt(name)
		}
	}
}

// untilGranted returns once the Secrets of a name are granted; false when ctx ends first.
func (w *secretWatch) untilGranted(ctx context.Context, name string) bool {
	for ctx.Err() == nil {
		granted, changed, problem := w.Grants.Granted(name)
		w.status.Withheld(name, problem)
		if granted {
			return true
		}
		waitFor(ctx, changed)
	}
	return false
}

// borrow returns once the Secrets of these names are granted. It gives up soon: whoever asks has others to serve.
func borrow(ctx context.Context, grants Grants, names ...string) error {
	if grants == nil || len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	return grants.Borrow(ctx, names...)
}

// granted makes a write of a Secret, and once more where its name was not granted any more, or not in force yet.
func granted(ctx context.Context, grants Grants, name string, write func() error) error {
	err := write()
	if grants == nil || err == nil || plan.MissingVerb(err) == "" {
		return err
	}
	grants.Doubt(name)
	if borrow(ctx, grants, name) != nil {
		return err
	}
	return write()
}
