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
	// refusedPause is how long to wait after a watch was refused although it is granted. It doubles each time, up to longestRefused.
	refusedPause   = 20 * time.Millisecond
	longestRefused = 10 * time.Second
	// refusedBefore is how often that may happen before it is reported: each API server learns of a role moments after it was written.
	refusedBefore = 7
)

// errRefused means that a Secret may not be read although its name is granted.
var errRefused = errors.New("it was refused although its name is granted")

// Grants obtains and returns permission for the Secrets of single names, where the role that grants it lists names.
type Grants interface {
	// Want grants the Secrets of these names until Drop. The first call passes all names that are wanted from the beginning.
	Want(names ...string)
	// Drop ends the grant of a name.
	Drop(name string)
	// Borrow grants the Secrets of these names for long enough to request them, and returns once they are granted.
	Borrow(ctx context.Context, names ...string) error
	// Granted reports whether the Secrets of a name are granted. Where they are not and that lasts, problem says why. The channel is closed
	// once they may be granted, or the problem has changed.
	Granted(name string) (granted bool, changed <-chan struct{}, problem error)
	// Doubt notes that the API server refused what was granted.
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

// followGranted follows the Secrets of a name, until ctx ends, while they are granted.
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

// borrow returns once the Secrets of these names are granted. It gives up soon, because the calling worker has other namespaces to serve.
func borrow(ctx context.Context, grants Grants, names ...string) error {
	if grants == nil || len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	return grants.Borrow(ctx, names...)
}

// granted writes a Secret, and retries once where the grant of its name has ended, or is not in force yet.
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
