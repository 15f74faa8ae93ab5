package reconcile

import (
	"time"

	"k8s.io/client-go/util/workqueue"
)

// newQueue returns a queue of namespaces in which those that urgent reports overtake the rest: a new namespace does not
// wait for a password's way through thousands of old ones. Failures are retried after 10 ms, then ever later, up to 30 s.
func newQueue(urgent func(namespace string) bool, metrics workqueue.MetricsProvider) workqueue.TypedRateLimitingInterface[string] {
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{
		Name: "namespaces", MetricsProvider: metrics,
		Queue: &lanes{
			urgent: urgent,
			fast:   workqueue.DefaultQueue[string](),
			slow:   workqueue.DefaultQueue[string](),
		},
	})
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](10*time.Millisecond, 30*time.Second),
		workqueue.TypedRateLimitingQueueConfig[string]{
			Name: "namespaces", MetricsProvider: metrics,
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
				Name: "namespaces", MetricsProvider: metrics, Queue: queue,
			}),
		})
}

// lanes is the order in which a workqueue hands out what it holds.
type lanes struct {
	urgent     func(string) bool
	fast, slow workqueue.Queue[string]
}

// Touch does nothing: what waits keeps its place.
func (l *lanes) Touch(string) {}

// Push adds a namespace at the end of its lane.
func (l *lanes) Push(namespace string) {
	if l.urgent(namespace) {
		l.fast.Push(namespace)
		return
	}
	l.slow.Push(namespace)
}

// Len counts both lanes.
func (l *lanes) Len() int { return l.fast.Len() + l.slow.Len() }

// Pop takes from the fast lane first.
func (l *lanes) Pop() string {
	if l.fast.Len() > 0 {
		return l.fast.Pop()
	}
	return l.slow.Pop()
}
