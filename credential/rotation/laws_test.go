package rotation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func demo(rotateAfter time.Duration) *Policy {
	return &Policy{UID: uid, Name: "demo", Instance: guangz, Kind: LongTerm, RotateAfter: rotateAfter}
}

// play lets an object live in a world full of faults, and then in peace, and then go. The laws hold at every step.
func play(t *testing.T, seed uint64, steps int) {
	w := newWorld(t, seed)
	w.policy = demo([]time.Duration{time.Minute, time.Hour, 90 * 24 * time.Hour}[w.random.IntN(3)])
	w.faults = []int{0, 10, 40}[w.random.IntN(3)]
	faults, meddling := w.faults, w.chance(30)
	for range steps {
		w.step()
		w.check()
		w.pass()
		switch {
		case w.chance(3):
			w.crash()
		case w.chance(20):
			w.finish()
		case w.chance(2):
			w.policy.Instance = []Instance{guangz, beijing}[w.random.IntN(2)]
		case w.chance(2):
			w.policy.Kind = []Kind{LongTerm, Temporary}[w.random.IntN(2)]
		case meddling && w.chance(3):
			w.meddle()
		case w.chance(2):
			w.lose()
		}
		w.faults = faults
	}
	w.now = w.now.Add(audit) // what was meddled with is found by then
	settled := w.settle(func() bool {
		if w.stored == nil {
			return false
		}
		current, found := w.stored.Current(w.now)
		if found && current.Kind == LongTerm && w.find(current.Instance, current.ID) == nil {
			return false
		}
		all, live := w.ours()
		want := 1
		if w.policy.Kind == Temporary {
			want = 0
		}
		return found && current.Kind == w.policy.Kind && current.Instance == w.policy.Instance &&
			w.held() == current.Serial && all == want && live == want && len(w.stored.Tokens) == 1
	})
	require.True(t, settled, "seed %d: it does not come to rest: %v, %v", seed, w.stored, w.tokens)

	before, _ := w.ours()
	w.stored.Keep, w.policy.Keep = seed%5 == 0, seed%5 == 0
	kept := w.policy.Keep
	w.policy = nil
	w.crash() // it was away when the object went
	require.True(t, w.settle(func() bool { return w.stored == nil }), "seed %d: what is left is never forgotten", seed)
	after, _ := w.ours()
	if kept {
		assert.Equal(t, before, after, "seed %d", seed)
	} else {
		assert.Zero(t, after, "seed %d: a token outlives its object", seed)
	}
}

func TestLaws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		play(t, seed, 60)
		if t.Failed() {
			return
		}
	}
}

func FuzzLaws(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { play(t, seed, int(steps)) })
}
