package status

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAStatusGivesWayToSecretsForAWhile(t *testing.T) {
	busy := true
	w := NewWriter(Config{Busy: func() bool { return busy }})
	t.Cleanup(w.Stop)
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w.pending["r"] = since
	assert.False(t, w.yields("r", since), "a few cost little")
	for i := range unyielding {
		w.pending[fmt.Sprint(i)] = since
	}
	w.pending["r"] = since
	assert.True(t, w.yields("r", since.Add(maxYield-time.Second)))
	assert.Contains(t, w.pending, "r", "it is not enqueued anew meanwhile")
	assert.False(t, w.yields("r", since.Add(maxYield)), "not for ever")
	assert.NotContains(t, w.pending, "r")
	w.pending["r"] = since
	busy = false
	assert.False(t, w.yields("r", since))
}
