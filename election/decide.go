package election

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// snapshot is the Lease as it was last seen, and since when it has been like this by the clock of this process: the clock of
// whoever holds it is never asked, so it does not matter how far that is off.
type snapshot struct {
	lease *coordinationv1.Lease // nil where there is none
	since time.Time             // zero where there never was one
}

// holder returns who holds the Lease; blank where nobody does.
func (s snapshot) holder() string {
	if s.lease == nil || s.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *s.lease.Spec.HolderIdentity
}

// next returns the snapshot once the Lease is seen like this; nil where there is none.
func (s snapshot) next(lease *coordinationv1.Lease, now time.Time) snapshot {
	switch {
	case lease == nil && s.lease == nil:
		return s
	case lease != nil && s.lease != nil && lease.UID == s.lease.UID && equality.Semantic.DeepEqual(lease.Spec, s.lease.Spec):
		return snapshot{lease, s.since} // somebody labelled it, which renews nothing
	default:
		return snapshot{lease, now}
	}
}

// vacantIn returns for how long the Lease is still not to be taken. Who holds it has as long as they said, from when that was
// last seen to change. Who held one that was deleted leads on until they notice, so that a deleted one counts as held.
func (s snapshot) vacantIn(now time.Time) time.Duration {
	good := duration
	switch {
	case s.lease == nil && s.since.IsZero(), s.lease != nil && s.holder() == "":
		return 0
	case s.lease != nil && s.lease.Spec.LeaseDurationSeconds != nil:
		good = time.Duration(*s.lease.Spec.LeaseDurationSeconds) * time.Second
	}
	return max(0, good-now.Sub(s.since))
}

// taken returns the Lease as identity holds it from now on. It carries the version that was seen, so that of several who
// take it one succeeds.
func (s snapshot) taken(identity string, now time.Time) *coordinationv1.Lease {
	lease, transitions := &coordinationv1.Lease{}, int32(0)
	if s.lease != nil {
		lease = s.lease.DeepCopy()
		transitions = 1
		if before := lease.Spec.LeaseTransitions; before != nil {
			transitions += *before
		}
	}
	at, seconds := metav1.NewMicroTime(now), int32(duration/time.Second)
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: &identity, LeaseDurationSeconds: &seconds, AcquireTime: &at, RenewTime: &at, LeaseTransitions: &transitions,
	}
	return lease
}

// renewed returns the Lease as its holder holds it on.
func (s snapshot) renewed(now time.Time) *coordinationv1.Lease {
	lease, at := s.lease.DeepCopy(), metav1.NewMicroTime(now)
	lease.Spec.RenewTime = &at
	return lease
}

// released returns the Lease as its holder leaves it: whoever wants it may take it at once.
func (s snapshot) released(now time.Time) *coordinationv1.Lease {
	lease := s.renewed(now)
	lease.Spec.HolderIdentity = new("")
	return lease
}
