package reconcile

import (
	"testing"

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
