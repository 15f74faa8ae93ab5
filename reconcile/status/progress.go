package status

import (
	"maps"
	"slices"
	"sync"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// progressCache holds the latest Progress of every ImagePullSecret. A reader never waits for reconciliation, nor makes it wait.
type progressCache struct {
	mu     sync.Mutex
	byName map[string]plan.Progress
}

func newProgressCache() *progressCache { return &progressCache{byName: map[string]plan.Progress{}} }

func (c *progressCache) put(progress plan.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName[progress.ImagePullSecret] = progress
}

func (c *progressCache) remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
}

func (c *progressCache) all() []plan.Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.byName))
}
