// Package election makes sure that one of several processes leads at a time: the one that holds a Lease. It reads and writes the
// Lease as client-go's leaderelection does, so that replicas with either of the two can compete, but it differs in three ways. A
// candidate watches the Lease instead of polling it, so that a hand-over takes no longer than the watch. The Lease is released only
// once what it guards has stopped. And only the client for Leases is linked (see package clientset).
package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

// The times that Kubernetes' own components use. A leader has the time between the deadline and the end of the Lease to stop.
const (
	// duration is how long a Lease that is not renewed keeps others from taking it.
	duration = 15 * time.Second
	// deadline is how long a leader that cannot renew continues to lead.
	deadline = 10 * time.Second
	// period is the time between two renewals, and between two tries.
	period = 2 * time.Second
)

// Candidate competes for a Lease.
type Candidate struct {
	log    *slog.Logger
	leases *gentype.ClientWithList[*coordinationv1.Lease, *coordinationv1.LeaseList]
	meta   metav1.ObjectMeta
	owner  func(context.Context) (*metav1.OwnerReference, error)
	// identity is unique among the candidates.
	identity string

	lease *latest.Object[*coordinationv1.Lease]
	seen  snapshot // when Run last looked
}

// NewCandidate returns a candidate for the Lease with that name and namespace, which is created if it does not exist. identity must be
// unique among the candidates. owner is called whenever the Lease is created, and returns the object that owns it, or nil for none.
func NewCandidate(
	log *slog.Logger, clients *clientset.Clientset, namespace, name, identity string,
	owner func(context.Context) (*metav1.OwnerReference, error),
) *Candidate {
	leases := clients.Leases(namespace)
	return &Candidate{
		log: log, leases: leases, identity: identity, owner: owner,
		meta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		lease: latest.NewObject[*coordinationv1.Lease](log, "lease "+namespace+"/"+name, clientset.Named(leases, name)),
	}
}

// Run calls lead whenever this candidate is elected, until ctx ends. lead must return soon after its own context has ended. If the Lease
// was lost, it must return at once; if ctx ended, the Lease is held until lead returns.
func (c *Candidate) Run(ctx context.Context, lead func(context.Context)) {
	watched, stop := context.WithCancel(context.WithoutCancel(ctx)) // the watch is needed until the term has ended
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { c.lease.Run(watched) })
	for {
		since, elected := c.acquire(ctx)
		if !elected {
			return
		}
		c.log.Info("leadership was won", "identity", c.identity)
		c.serve(ctx, since, lead)
		c.log.Info("leadership ended", "identity", c.identity)
	}
}

// acquire returns since when the Lease is held, once it is; false when ctx ends first.
func (c *Candidate) acquire(ctx context.Context) (since time.Time, elected bool) {
	for ctx.Err() == nil {
		now := time.Now()
		pause := period
		seen, known, changed := c.look()
		if known {
			// A candidate may take back its own Lease, which it could not renew in time: it has stopped leading.
			if pause = seen.vacantIn(now); pause == 0 || seen.holder() == c.identity {
				err := c.take(ctx, seen, now, now.Add(deadline))
				if err == nil {
					return now, true
				}
				c.note(ctx, "lease was not taken", err)
				pause = period + rand.N(period)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	return time.Time{}, false
}

// serve calls lead, and returns once that has returned. It ends lead's context when ctx ends or the Lease, held since then, is lost.
func (c *Candidate) serve(ctx context.Context, since time.Time, lead func(context.Context)) {
	leading, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lead(leading)
	}()
	if !c.keep(context.WithoutCancel(ctx), since, ended) {
		end()
		<-ended
		return
	}
	c.release(context.WithoutCancel(ctx))
}

// release releases the Lease. If that does not succeed in time, the Lease expires by itself.
func (c *Candidate) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for {
		seen, _, _ := c.look()
		if seen.holder() != c.identity {
			return
		}
		err := c.update(ctx, seen.released(time.Now()))
		if !apierrors.IsConflict(err) || ctx.Err() != nil {
			c.note(ctx, "lease was not released", err)
			return
		}
	}
}

// keep renews the Lease until lead has ended; false when the Lease is lost first.
func (c *Candidate) keep(ctx context.Context, renewed time.Time, ended <-chan struct{}) bool {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		// Each write is guarded by the version that was seen.
		seen, _, changed := c.look()
		if seen.lease != nil && seen.holder() != c.identity {
			c.log.Warn("leadership was lost", "identity", c.identity, "holder", seen.holder())
			return false
		}
		select {
		case <-ended:
			return true
		case <-changed:
			continue // a deleted Lease need not be recreated at once: others wait as long as for one that is held
		case <-tick.C:
		}
		now := time.Now()
		var err error
		if seen.lease == nil {
			err = c.take(ctx, seen, now, renewed.Add(deadline))
		} else {
			err = c.renew(ctx, seen, now, renewed.Add(deadline))
		}
		if err == nil {
			renewed = now
			continue
		}
		c.note(ctx, "lease was not renewed", err)
		if time.Since(renewed) >= deadline {
			c.log.Warn("leadership was lost", "identity", c.identity, "error", err)
			return false
		}
	}
}

func (c *Candidate) renew(ctx context.Context, seen snapshot, now, until time.Time) error {
	timed, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return c.update(timed, seen.renewed(now))
}

// take writes the Lease as held by this candidate: it updates the one that was seen, or creates one.
func (c *Candidate) take(ctx context.Context, seen snapshot, now, until time.Time) error {
	timed, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	lease := seen.taken(c.identity, now)
	if seen.lease != nil {
		return c.update(timed, lease)
	}
	owner, err := c.owner(timed)
	if err != nil {
		return fmt.Errorf("creating lease %s/%s: %w", c.meta.Namespace, c.meta.Name, err)
	}
	lease.ObjectMeta = c.meta
	if owner != nil {
		lease.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return c.write(timed, "creating", func() (*coordinationv1.Lease, error) {
		return c.leases.Create(timed, lease, metav1.CreateOptions{})
	})
}

func (c *Candidate) update(ctx context.Context, lease *coordinationv1.Lease) error {
	return c.write(ctx, "updating", func() (*coordinationv1.Lease, error) {
		return c.leases.Update(ctx, lease, metav1.UpdateOptions{})
	})
}

// write calls write and wraps its error. After a conflict it reads the Lease: the watch would report what others wrote only later, and
// after a restoration of etcd much later.
func (c *Candidate) write(ctx context.Context, doing string, write func() (*coordinationv1.Lease, error)) error {
	_, err := c.lease.Write(write)
	if err == nil {
		return nil
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		if unread := c.lease.Read(ctx); unread != nil {
			c.note(ctx, "lease was not read", unread)
		}
	}
	return fmt.Errorf("%s lease %s/%s: %w", doing, c.meta.Namespace, c.meta.Name, err)
}

// note logs a failure. It is normal in an election that somebody else was faster.
func (c *Candidate) note(ctx context.Context, message string, err error) {
	switch {
	case err == nil || errors.Is(ctx.Err(), context.Canceled):
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		c.log.Debug(message, "identity", c.identity, "error", err)
	default:
		c.log.Warn(message, "identity", c.identity, "error", err)
	}
}

// look returns the Lease as far as known, whether it is known, and a channel that is closed once that has changed.
func (c *Candidate) look() (seen snapshot, known bool, changed <-chan struct{}) {
	now := c.lease.Get()
	if now.Known {
		c.seen = c.seen.next(now.Object, time.Now())
	}
	return c.seen, now.Known, now.Changed
}
