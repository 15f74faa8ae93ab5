package reconcile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLines(t *testing.T) {
	l, noon := newLogLimiter(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	say := func(after time.Duration, what string) (int, bool) { return l.admit(what, time.Minute, noon.Add(after)) }
	_, said := say(0, "a")
	assert.True(t, said)
	for range 3 {
		_, said = say(time.Second, "a")
		assert.False(t, said)
	}
	_, said = say(time.Second, "b")
	assert.True(t, said, "another reason is another line")
	alike, said := say(time.Minute, "a")
	assert.True(t, said)
	assert.Equal(t, 3, alike)
}
