package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestElection does to leaders what a hand-over in order does not.
func TestElection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBalancer(t)
	leader, other := w.replica(b), w.replica(b)
	w.behind(b, leader, other)
	if !strings.Contains(leader.Log(), "leadership was won") {
		leader, other = other, leader
	}
	// good is how long others leave a Lease alone that is not renewed.
	good := func(lease *coordinationv1.Lease) time.Duration {
		return time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	takenOver := func(from *coordinationv1.Lease) *coordinationv1.Lease {
		now := from
		w.Eventually("somebody else leads", func() error {
			if now = w.lease(); now == nil || *now.Spec.HolderIdentity == *from.Spec.HolderIdentity {
				return fmt.Errorf("the lease is still held by %s", *from.Spec.HolderIdentity)
			}
			return nil
		})
		return now
	}

	t.Run("a lease that somebody deletes comes back with the same leader", func(t *testing.T) {
		before := w.lease()
		w.Kubectl("delete", "lease", "-n", manager.Namespace, before.Name)
		w.Eventually("the lease is back", func() error {
			if now := w.lease(); now == nil || now.UID == before.UID {
				return fmt.Errorf("it is not")
			}
			return nil
		})
		assert.Equal(t, *before.Spec.HolderIdentity, *w.lease().Spec.HolderIdentity)
		assert.Equal(t, before.OwnerReferences, w.lease().OwnerReferences, "it goes with an uninstall as before")
		assert.NotContains(t, leader.Log(), "leadership ended")
		assert.NotContains(t, other.Log(), "leadership was won")
	})
	t.Run("a leader that stands still is replaced once its lease has run out, and finds out", func(t *testing.T) {
		require.NoError(t, syscall.Kill(leader.Pid(), syscall.SIGSTOP))
		before := w.lease()
		after := takenOver(before)
		require.NoError(t, syscall.Kill(leader.Pid(), syscall.SIGCONT))
		assert.GreaterOrEqual(t, after.Spec.AcquireTime.Sub(before.Spec.RenewTime.Time), good(before))
		w.Eventually("both know", func() error {
			if !strings.Contains(other.Log(), "leadership was won") {
				return fmt.Errorf("the new one does not say so")
			}
			if !strings.Contains(leader.Log(), "leadership was lost") || !strings.Contains(leader.Log(), "leadership ended") {
				return fmt.Errorf("it goes on")
			}
			return nil
		})
		assert.Equal(t, *after.Spec.HolderIdentity, *w.lease().Spec.HolderIdentity, "and leaves the lease alone")
		leader, other = other, leader
	})
	t.Run("a leader that is killed is replaced once its lease has run out", func(t *testing.T) {
		before := w.lease()
		require.NoError(t, leader.Kill())
		b.set(other)
		after := takenOver(before)
		assert.GreaterOrEqual(t, after.Spec.AcquireTime.Sub(before.Spec.RenewTime.Time), good(before))
		w.Create("orphaned")
		w.Holds("default", "orphaned")
	})
}

// lease returns the one that replicas compete for; nil where there is none.
func (w *world) lease() *coordinationv1.Lease {
	lease, err := w.Client.CoordinationV1().Leases(manager.Namespace).Get(w.Ctx, "tcr-assistant-leader-election", metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return lease
}
