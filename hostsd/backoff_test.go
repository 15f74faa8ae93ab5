package hostsd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPace(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const resync = 5 * time.Minute
	t.Run("an idle pass comes after the resync period, jittered by a tenth", func(t *testing.T) {
		b := repairBackoff{resync: resync}
		assert.Equal(t, start.Add(270*time.Second), b.passed(start, false, false, 0))
		assert.Equal(t, start.Add(330*time.Second), b.passed(start, false, false, 1))
	})
	t.Run("changes are answered promptly", func(t *testing.T) {
		b := repairBackoff{resync: resync}
		b.passed(start, false, false, 0.5)
		assert.Equal(t, start.Add(50*time.Millisecond), b.configChanged(start))
		assert.Equal(t, start.Add(100*time.Millisecond), b.fileChanged(start))
	})
	t.Run("failures are retried ever later, up to half a minute", func(t *testing.T) {
		b := repairBackoff{resync: resync}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			assert.Equal(t, start.Add(want*time.Second), b.passed(start, true, false, 0.5))
			assert.Equal(t, start.Add(want*time.Second), b.fileChanged(start), "a change hastens no retry: it may be our own")
		}
		b.passed(start, false, false, 0.5)
		assert.Equal(t, start.Add(time.Second), b.passed(start, true, false, 0.5), "a success starts anew")
	})
	t.Run("a retry is never later than the resync", func(t *testing.T) {
		b := repairBackoff{resync: time.Second, failures: 5}
		assert.Equal(t, start.Add(time.Second), b.passed(start, true, false, 0.5))
	})
	t.Run("what is undone for an hour takes few repairs, and then prompt ones", func(t *testing.T) {
		b := repairBackoff{resync: resync}
		now, repairs := start, 0
		for now.Before(start.Add(time.Hour)) {
			b.passed(now, false, true, 0.5) // repaired, and undone at once
			repairs++
			now = b.fileChanged(now)
		}
		assert.InDelta(t, 3600/10, repairs, 10)
		now = now.Add(2 * time.Minute)
		b.passed(now, false, true, 0.5)
		assert.Equal(t, now.Add(200*time.Millisecond), b.fileChanged(now))
	})
}
