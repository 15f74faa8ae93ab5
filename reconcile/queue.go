package reconcile

import (
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// queue holds the namespaces in which something has to be compared, and what: single objects, or everything. Everything that happens to a
// namespace while it waits, or is worked on, is handled together.
type queue struct {
	agenda     plan.Agenda
	namespaces workqueue.TypedInterface[string]
	// later are the objects with a time of their own: the delay of an object that fails depends on its own failures, whatever else happens
	// in its namespace.
	later     workqueue.TypedRateLimitingInterface[plan.ObjectKey]
	newcomers *newcomers
}

// newQueue returns a queue in which namespaces that urgent reports overtake the rest: a new namespace does not wait until a new password
// has been written to thousands of old ones. Failures are retried after 10 ms, with a growing delay of up to 30 s.
func newQueue(urgent func(namespace string) bool, metrics workqueue.MetricsProvider) *queue {
	q := &queue{
		namespaces: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{
			Name: "namespaces", MetricsProvider: metrics,
			Queue: &lanes{
				urgent: urgent,
				fast:   workqueue.DefaultQueue[string](),
				slow:   workqueue.DefaultQueue[string](),
			},
		}),
		later: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[plan.ObjectKey](10*time.Millisecond, 30*time.Second),
			workqueue.TypedRateLimitingQueueConfig[plan.ObjectKey]{
				DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[plan.ObjectKey]{
					Name: "namespaces", MetricsProvider: metrics, Queue: workqueue.NewTyped[plan.ObjectKey](),
				}),
			}),
	}
	q.newcomers = newNewcomers(q.Add)
	go q.forward()
	return q
}

// forward adds what is due, until ShutDown.
func (q *queue) forward() {
	for {
		key, stopped := q.later.Get()
		if stopped {
			return
		}
		q.AddObject(key)
		q.later.Done(key)
	}
}

// Add enqueues all of a namespace.
func (q *queue) Add(namespace string) { q.AddObject(plan.NamespaceKey(namespace)) }

// AddObject enqueues an object, or all of a namespace.
func (q *queue) AddObject(key plan.ObjectKey) {
	q.agenda.Add(key)
	q.namespaces.Add(key.Namespace)
}

// AddNew queues a whole namespace that the API server itself may not have seen yet.
func (q *queue) AddNew(namespace string) { q.newcomers.Add(namespace) }

// AddAfter enqueues an object, or all of a namespace, after a pause.
func (q *queue) AddAfter(key plan.ObjectKey, pause time.Duration) { q.later.AddAfter(key, pause) }

// Retry enqueues what failed again, after a pause that grows until Forget.
func (q *queue) Retry(key plan.ObjectKey) { q.later.AddRateLimited(key) }

// Forget resets that pause, since nothing failed.
func (q *queue) Forget(key plan.ObjectKey) { q.later.Forget(key) }

// Retries returns how often the key was retried since Forget.
func (q *queue) Retries(key plan.ObjectKey) int { return q.later.NumRequeues(key) }

// Get waits for a namespace, and returns the part of it to compare. The caller has to call Done.
func (q *queue) Get() (namespace string, part plan.Part, stopped bool) {
	namespace, stopped = q.namespaces.Get()
	return namespace, q.agenda.Take(namespace), stopped
}

// Done marks a namespace as no longer being worked on.
func (q *queue) Done(namespace string) { q.namespaces.Done(namespace) }

// Len returns the number of waiting namespaces.
func (q *queue) Len() int { return q.namespaces.Len() }

// ShutDown makes Get report that the queue has stopped, once it is empty.
func (q *queue) ShutDown() {
	q.newcomers.end()
	q.later.ShutDown()
	q.namespaces.ShutDown()
}

// lanes is the order in which a workqueue hands out what it holds.
type lanes struct {
	urgent     func(string) bool
	fast, slow workqueue.Queue[string]
}

// Touch does nothing: a waiting namespace keeps its place.
func (l *lanes) Touch(string) {}

// Push adds a namespace at the end of its lane.
func (l *lanes) Push(namespace string) {
	if l.urgent(namespace) {
		l.fast.Push(namespace)
		return
	}
	l.slow.Push(namespace)
}

// Len returns the length of both lanes.
func (l *lanes) Len() int { return l.fast.Len() + l.slow.Len() }

// Pop takes the next namespace, from the fast lane first.
func (l *lanes) Pop() string {
	if l.fast.Len() > 0 {
		return l.fast.Pop()
	}
	return l.slow.Pop()
}
