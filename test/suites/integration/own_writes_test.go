package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOwnWritesAreNotAskedAbout reads the manager's count of admission requests: to have every write of its own reviewed by
// itself would cost as much again as the write.
func TestOwnWritesAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	const total = 20
	w := newWorld(t)
	for i := range total {
		w.Namespace(fmt.Sprintf("own-%02d", i))
	}
	m := w.run()
	asked := func() int {
		text, err := m.Get(w.Ctx, "/metrics")
		require.NoError(t, err)
		count := 0
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "tcr_assistant_admission_") && strings.Contains(line, `webhook="mutating"`) &&
				strings.Contains(line, "_count") {
				var n int
				_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n)
				require.NoError(t, err)
				count += n
			}
		}
		return count
	}
	before := asked()
	w.Create("own")
	for i := range total {
		w.Holds(fmt.Sprintf("own-%02d", i), "own")
	}
	assert.Equal(t, before, asked(), "entries were added to accounts that stood already without a question")
	w.account("own-00", "builder")
	w.Holds("own-00", "own")
	assert.Greater(t, asked(), before, "what others write is asked about, and counted")
}
