package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDoubled(t *testing.T) {
	for name, c := range map[string]struct {
		first   time.Duration
		times   int
		longest time.Duration
		want    time.Duration
	}{
		"not once":                   {5 * time.Second, 0, 5 * time.Minute, 5 * time.Second},
		"less than not once":         {5 * time.Second, -1, 5 * time.Minute, 5 * time.Second},
		"three times":                {5 * time.Second, 3, 5 * time.Minute, 40 * time.Second},
		"no more than the longest":   {5 * time.Second, 6, 5 * time.Minute, 5 * time.Minute},
		"so often that it overflows": {5 * time.Second, 1 << 40, 5 * time.Minute, 5 * time.Minute},
		"a first above the longest":  {time.Hour, 1, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, Doubled(c.first, c.times, c.longest)) })
	}
}

func TestPausesBetweenFailuresDoubleUpToTheLongest(t *testing.T) {
	pauses := Between(100*time.Millisecond, 2*time.Second)
	for _, least := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000, 2000} {
		pause := pauses.Step()
		assert.GreaterOrEqual(t, pause, least*time.Millisecond)
		assert.LessOrEqual(t, pause, least*time.Millisecond*3/2)
	}
}

func TestAWriteIsFollowedByRest(t *testing.T) {
	for name, c := range map[string]struct{ took, want time.Duration }{
		"after a quick one":                       {time.Millisecond, 50 * time.Millisecond},
		"a slow one leaves eight ninths idle":     {20 * time.Millisecond, 160 * time.Millisecond},
		"the slowest one is waited for no longer": {time.Minute, LongestAfterWrite},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, AfterWrite(c.took)) })
	}
}

func TestOthersAreAnsweredAtOnceAndThenOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restores, began := Restores(), time.Now()
		for range 20 {
			require.NoError(t, restores.Wait(t.Context()))
		}
		assert.Zero(t, time.Since(began))
		for range 3 {
			require.NoError(t, restores.Wait(t.Context()))
		}
		assert.InDelta(t, 3*time.Second, time.Since(began), float64(time.Millisecond))
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Sleep(t.Context(), time.Second)
		assert.Equal(t, time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		Sleep(ctx, time.Hour)
		assert.Equal(t, 2*time.Second, time.Since(began))
	})
}
