package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the Lease that replicas compete for.
const leaseName = "tcr-assistant-leader-election"

// elect runs lead whenever this replica is elected, until ctx ends. A lost election is no reason to exit: admission goes on
// being served, and this replica runs again. The Lease is released once lead has returned, so that the next leader need
// not wait for it to expire.
func elect(ctx context.Context, log *slog.Logger, client kubernetes.Interface, o *options, owner *metav1.OwnerReference, lead func(context.Context)) error {
	if !o.leaderElect {
		lead(ctx)
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("reading the host's name: %w", err)
	}
	identity := host + "_" + string(uuid.NewUUID())
	lock := &ownedLease{owner: owner, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.namespace, Name: leaseName},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}}
	vacant := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { watchLease(ctx, client, o.namespace, vacant) })
	for ctx.Err() == nil {
		if err := serveTerm(ctx, log, lock, vacant, lead); err != nil {
			return err
		}
	}
	return nil
}

// ownedLease is a Lease that goes when its owner does: an uninstall leaves none behind, also where the release knows of none.
type ownedLease struct {
	*resourcelock.LeaseLock
	owner *metav1.OwnerReference // may be nil
}

// Create creates the Lease for its first holder.
func (l *ownedLease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.LeaseMeta.Namespace, Name: l.LeaseMeta.Name},
		Spec:       resourcelock.LeaderElectionRecordToLeaseSpec(&record),
	}
	if l.owner != nil {
		lease.OwnerReferences = []metav1.OwnerReference{*l.owner}
	}
	if _, err := l.Client.Leases(lease.Namespace).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, _, err := l.Get(ctx) // from here on, the lock knows the object that it updates
	return err
}

// watchLease tells vacant whenever the Lease was given up. Candidates look at it every few seconds only; this way a
// hand-over takes no longer than the news of it.
func watchLease(ctx context.Context, client kubernetes.Interface, namespace string, vacant chan<- struct{}) {
	options := fields.OneTermEqualSelector("metadata.name", leaseName)
	source := cache.NewListWatchFromClient(client.CoordinationV1().RESTClient(), "leases", namespace, options)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &coordinationv1.Lease{},
		Handler: cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, updated any) {
			if lease := updated.(*coordinationv1.Lease); lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
				select {
				case vacant <- struct{}{}:
				default: // the candidate knows already
				}
			}
		}},
	})
	informer.RunWithContext(ctx)
}

// serveTerm waits for an election, leads, and returns when the term has ended and everything of it has stopped.
//
// It returns without having led when vacant tells that the Lease was given up: the next call then asks for it at once.
func serveTerm(ctx context.Context, log *slog.Logger, lock resourcelock.Interface, vacant <-chan struct{}, lead func(context.Context)) error {
	// The Lease is held until leading has stopped, even when ctx has ended: what it guards is still under way.
	hold, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	var (
		mu             sync.Mutex
		leading, ended bool // at most one of them is ever set
		stopped        = make(chan struct{})
	)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: leaseName, ReleaseOnCancel: true,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				defer close(stopped)
				defer release()
				mu.Lock()
				leading = !ended
				mu.Unlock()
				if !leading {
					return
				}
				log.Info("leadership was won", "identity", lock.Identity())
				defer log.Info("leadership ended", "identity", lock.Identity())
				leadership, end := context.WithCancel(held)
				defer context.AfterFunc(ctx, end)()
				lead(leadership)
			},
			OnStoppedLeading: func() {}, // it is called before leading has stopped, and for who never led
		},
	})
	if err != nil {
		return fmt.Errorf("configuring the election: %w", err)
	}
	var giveUp sync.WaitGroup
	giveUp.Go(func() {
		select {
		case <-hold.Done():
			return
		case <-ctx.Done():
		case <-vacant:
		}
		mu.Lock()
		defer mu.Unlock()
		if ended = !leading; ended {
			release() // never elected: there is nothing to wait for
		}
	})
	elector.Run(hold)
	release()
	giveUp.Wait()
	mu.Lock()
	led := !ended
	mu.Unlock()
	if led {
		<-stopped // the elector does not wait for what it started
	}
	return nil
}
