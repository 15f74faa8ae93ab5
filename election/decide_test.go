package election

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// lease returns one of that version, held by holder and renewed at that time by the holder's own clock.
func lease(version, holder string, renewed time.Time) *coordinationv1.Lease {
	at := metav1.NewMicroTime(renewed)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "lease", UID: "1", ResourceVersion: version},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: new(int32(15)), AcquireTime: &at, RenewTime: &at, LeaseTransitions: new(int32(3)),
		},
	}
}

func TestVacantIn(t *testing.T) {
	brief := lease("1", "a", noon)
	brief.Spec.LeaseDurationSeconds = new(int32(4))
	silent := lease("1", "a", noon)
	silent.Spec.LeaseDurationSeconds = nil
	for _, test := range []struct {
		name string
		seen snapshot
		now  time.Time
		want time.Duration
	}{
		{"one that never was can be taken", snapshot{}, noon, 0},
		{"one that was given up can be taken", snapshot{lease("1", "", noon), noon}, noon, 0},
		{"one that was just renewed is good for as long as it says", snapshot{lease("1", "a", noon), noon}, noon, 15 * time.Second},
		{"its time runs", snapshot{lease("1", "a", noon), noon}, noon.Add(14 * time.Second), time.Second},
		{"one that was not renewed can be taken", snapshot{lease("1", "a", noon), noon}, noon.Add(15 * time.Second), 0},
		{"it stays so", snapshot{lease("1", "a", noon), noon}, noon.Add(time.Hour), 0},
		{"its holder says how long it is good", snapshot{brief, noon}, noon.Add(time.Second), 3 * time.Second},
		{"a holder that does not say has as long as we", snapshot{silent, noon}, noon.Add(time.Second), 14 * time.Second},
		{"the holder's clock is not asked", snapshot{lease("1", "a", noon.Add(-time.Hour)), noon}, noon.Add(5 * time.Second), 10 * time.Second},
		{"the holder of a deleted one has its time to notice", snapshot{nil, noon}, noon.Add(5 * time.Second), 10 * time.Second},
		{"a deleted one can be taken after that", snapshot{nil, noon}, noon.Add(15 * time.Second), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, test.seen.vacantIn(test.now))
		})
	}
}

func TestSightings(t *testing.T) {
	later := noon.Add(time.Second)
	held := snapshot{lease("5", "a", noon), noon}
	gone := snapshot{nil, noon}
	labelled := lease("6", "a", noon)
	labelled.Labels = map[string]string{"seen": "true"}
	other := lease("6", "a", noon)
	other.UID = "2"

	assert.Equal(t, snapshot{held.lease, later}, snapshot{}.next(held.lease, later), "the first")
	assert.Equal(t, snapshot{lease("6", "a", later), later}, held.next(lease("6", "a", later), later), "a renewal")
	assert.Equal(t, snapshot{lease("6", "b", noon), later}, held.next(lease("6", "b", noon), later), "another holder")
	assert.Equal(t, snapshot{lease("4", "b", noon), later}, held.next(lease("4", "b", noon), later),
		"one that was restored has its time, old as it is")
	assert.Equal(t, snapshot{labelled, noon}, held.next(labelled, later), "a label renews nothing")
	assert.Equal(t, snapshot{other, later}, held.next(other, later), "another one of the same name")
	assert.Equal(t, held, held.next(lease("5", "a", noon), later), "the same again")

	assert.Equal(t, snapshot{nil, later}, held.next(nil, later), "a deletion")
	assert.Equal(t, gone, gone.next(nil, later), "it stays deleted")
	assert.Equal(t, snapshot{}, snapshot{}.next(nil, later), "nothing was there, and nothing is")
}

func TestWrites(t *testing.T) {
	later := noon.Add(20 * time.Second)
	held := snapshot{lease("5", "a", noon), noon}
	before := held.lease.DeepCopy()

	taken := held.taken("b", later)
	assert.Equal(t, "5", taken.ResourceVersion, "it is written over what was seen")
	assert.Equal(t, "b", *taken.Spec.HolderIdentity)
	assert.Equal(t, int32(15), *taken.Spec.LeaseDurationSeconds)
	assert.Equal(t, int32(4), *taken.Spec.LeaseTransitions)
	assert.Equal(t, later, taken.Spec.AcquireTime.Time)
	assert.Equal(t, later, taken.Spec.RenewTime.Time)

	renewed := held.renewed(later)
	assert.Equal(t, "5", renewed.ResourceVersion)
	assert.Equal(t, "a", *renewed.Spec.HolderIdentity)
	assert.Equal(t, noon, renewed.Spec.AcquireTime.Time)
	assert.Equal(t, later, renewed.Spec.RenewTime.Time)
	assert.Equal(t, int32(3), *renewed.Spec.LeaseTransitions)

	released := held.released(later)
	assert.Equal(t, "5", released.ResourceVersion)
	assert.Zero(t, snapshot{released, later}.vacantIn(later), "others may take it at once")

	first := snapshot{}.taken("a", noon)
	assert.Empty(t, first.ResourceVersion, "it is written only where there is none")
	assert.Zero(t, *first.Spec.LeaseTransitions)
	assert.Equal(t, before, held.lease, "what was seen is not written to")
}
