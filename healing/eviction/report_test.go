package eviction

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/healing"
)

func TestATallyKeepsTheFirstByName(t *testing.T) {
	tally := tally{counts: map[healing.Reason]int{}}
	for _, i := range rand.Perm(100) {
		tally.add(unhealed{namespace: fmt.Sprintf("team-%d", i/50), name: fmt.Sprintf("pod-%02d", i%50), reason: healing.NoController})
	}
	assert.Equal(t, 100, tally.all)
	assert.Equal(t, map[healing.Reason]int{healing.NoController: 100}, tally.counts)
	assert.Len(t, tally.first, maxUnhealed)
	for i, one := range tally.first {
		assert.Equal(t, fmt.Sprintf("team-0/pod-%02d", i), one.failure().NamespacedName)
	}
}
