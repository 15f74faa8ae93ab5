package derived

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPauseAfter(t *testing.T) {
	for name, c := range map[string]struct{ before, last, want time.Duration }{
		"the first write":                      {0, 2 * time.Second, 50 * time.Millisecond},
		"quick ones":                           {time.Millisecond, time.Millisecond, 50 * time.Millisecond},
		"slow ones leave seven eighths idle":   {30 * time.Millisecond, 20 * time.Millisecond, 160 * time.Millisecond},
		"a slow one among quick ones":          {5 * time.Millisecond, time.Second, 50 * time.Millisecond},
		"the slowest are waited for no longer": {time.Minute, time.Minute, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, pauseAfter(c.before, c.last)) })
	}
}
