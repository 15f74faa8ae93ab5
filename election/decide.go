package election

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// snapshot is the Lease as it was last seen, and since when it has been like this by the clock of this process. The holder's clock is
// never used, so it does not matter how far it is off.
type snapshot struct {
	lease *coordinationv1.Lease // nil where there is none
	since time.Time             // zero if there never was a Lease
}

// holder returns who holds the Lease; blank where nobody does.
func (s snapshot) holder() string {
	if s.lease == nil || s.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *s.lease.Spec.HolderIdentity
}

// next returns the snapshot after the Lease was seen like this; a nil lease means that there is none.
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

// vacantIn returns for how long the Lease must still not be taken. A holder has as long as the Lease says, from when it was last seen
// to change. A Lease that was deleted counts as held, since its holder leads until it notices.
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

// taken returns the Lease as held by identity from now on. It has the version that was seen, so that only one of several candidates
// can take it.
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

// renewed returns the Lease as renewed by its holder.
func (s snapshot) renewed(now time.Time) *coordinationv1.Lease {
	lease, at := s.lease.DeepCopy(), metav1.NewMicroTime(now)
	lease.Spec.RenewTime = &at
	return lease
}

// released returns the Lease as released by its holder: anybody may take it at once.
func (s snapshot) released(now time.Time) *coordinationv1.Lease {
	lease := s.renewed(now)
	lease.Spec.HolderIdentity = new("")
	return lease
}
