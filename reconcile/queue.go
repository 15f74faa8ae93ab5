package reconcile

import (
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// queue holds the namespaces of which something is to be compared, and what: single objects, or all. What happens to one while it
// waits, or is worked on, is worked on together.
type queue struct {
	agenda     plan.Agenda
	namespaces workqueue.TypedInterface[string]
	// later are the objects that are compared at a time of their own: each that fails waits for as long as its own failures say,
	// whatever else happens in its namespace.
	later workqueue.TypedRateLimitingInterface[plan.ObjectKey]
}

// newQueue returns a queue of namespaces in which those that urgent reports overtake the rest: a new namespace does not
// wait for a password's way through thousands of old ones. Failures are retried after 10 ms, then ever later, up to 30 s.
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

// Add has all of a namespace compared.
func (q *queue) Add(namespace string) { q.AddObject(plan.NamespaceKey(namespace)) }

// AddObject has an object compared, or all of a namespace.
func (q *queue) AddObject(key plan.ObjectKey) {
	q.agenda.Add(key)
	q.namespaces.Add(key.Namespace)
}

// AddAfter has an object compared, or all of a namespace, after a pause.
func (q *queue) AddAfter(key plan.ObjectKey, pause time.Duration) { q.later.AddAfter(key, pause) }

// Retry has what failed compared again, after a pause that grows until Forget.
func (q *queue) Retry(key plan.ObjectKey) { q.later.AddRateLimited(key) }

// Forget takes in that nothing failed.
func (q *queue) Forget(key plan.ObjectKey) { q.later.Forget(key) }

// Retries returns how often it has failed.
func (q *queue) Retries(key plan.ObjectKey) int { return q.later.NumRequeues(key) }

// Get waits for a namespace, and returns what of it is to be compared. Done has to follow.
func (q *queue) Get() (namespace string, part plan.Part, stopped bool) {
	namespace, stopped = q.namespaces.Get()
	return namespace, q.agenda.Take(namespace), stopped
}

// Done takes in that a namespace is no longer worked on.
func (q *queue) Done(namespace string) { q.namespaces.Done(namespace) }

// Len counts the namespaces that wait.
func (q *queue) Len() int { return q.namespaces.Len() }

// ShutDown ends it.
func (q *queue) ShutDown() {
	q.later.ShutDown()
	q.namespaces.ShutDown()
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
