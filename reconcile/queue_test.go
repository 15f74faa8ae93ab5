package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestQueueLetsNewNamespacesOvertake(t *testing.T) {
	queue := newQueue(func(namespace string) bool { return namespace == "new" }, nil)
	for _, namespace := range []string{"a", "b", "new", "c", "a"} {
		queue.Add(namespace)
	}
	var order []string
	for range 4 {
		namespace, _, _ := queue.Get()
		order = append(order, namespace)
		queue.Done(namespace)
	}
	assert.Equal(t, []string{"new", "a", "b", "c"}, order)
	assert.Zero(t, queue.Len())
	queue.ShutDown()
}

func TestNewNamespacesAreComparedAfterTheirHeadStart(t *testing.T) {
	t.Run("one is, and not before", func(t *testing.T) {
		queue := newQueue(func(string) bool { return true }, nil)
		defer queue.ShutDown()
		for i := range 20 {
			seen := time.Now()
			queue.AddNew(fmt.Sprint("team-", i))
			namespace, part, _ := queue.Get()
			assert.GreaterOrEqual(t, time.Since(seen), headStart)
			assert.Equal(t, fmt.Sprint("team-", i), namespace)
			assert.True(t, part.IsWhole())
			queue.Done(namespace)
		}
	})
	t.Run("all are where many come at once", func(t *testing.T) {
		queue := newQueue(func(string) bool { return true }, nil)
		defer queue.ShutDown()
		const many = 10 * maxNewcomers
		for i := range many {
			queue.AddNew(fmt.Sprint("team-", i))
		}
		seen := map[string]bool{}
		for len(seen) < many {
			namespace, _, _ := queue.Get()
			seen[namespace] = true
			queue.Done(namespace)
		}
	})
	t.Run("none is after a shutdown, and adding keeps nobody waiting", func(t *testing.T) {
		queue := newQueue(func(string) bool { return true }, nil)
		queue.ShutDown()
		for i := range 2 * maxNewcomers {
			queue.AddNew(fmt.Sprint("team-", i))
		}
		_, _, stopped := queue.Get()
		assert.True(t, stopped)
	})
}
