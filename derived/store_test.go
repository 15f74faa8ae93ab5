package derived

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/latest"
)

func TestRelisted(t *testing.T) {
	now := kept(attaching("a"))
	seen := now
	seen.holds, seen.read = nil, 0
	seen.version = 4 // the last but one
	name := partName(0)
	t.Run("what nobody wrote to is known still", func(t *testing.T) {
		same := seen
		same.version = 6
		have := relisted(map[string]stored{name: now}, map[string]stored{name: same}, latest.Relist{Version: 7})
		assert.True(t, have[name].known())
	})
	t.Run("what was written since stays as it is known", func(t *testing.T) {
		have := relisted(map[string]stored{name: now}, map[string]stored{name: seen}, latest.Relist{Version: 4})
		assert.Equal(t, now, have[name])
	})
	t.Run("what is not listed is gone", func(t *testing.T) {
		assert.Empty(t, relisted(map[string]stored{name: now}, nil, latest.Relist{Version: 7}))
	})
	t.Run("after a backup was restored an equal generation may be another one: it is read again", func(t *testing.T) {
		have := relisted(map[string]stored{name: now}, map[string]stored{name: seen}, latest.Relist{Version: 4, Rewound: true})
		assert.Equal(t, seen, have[name])
		assert.False(t, have[name].known())
	})
}
