package reconcile

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// statusWriter writes the status of ImagePullSecrets: soon after something changed, at most once in statusPeriod each, and
// never where nothing did.
type statusWriter struct {
	log      *slog.Logger
	client   *typed.Client
	index    *pullsecret.Index
	follower *Follower
	state    *State
	gone     func(imagePullSecret string) // called for one that is no longer there
	busy     func() bool                  // whether there is more to issue than can be under way
	derived  func() (*pullsecret.Outdated, <-chan struct{})
	access   *access
	news     *bulletins
	board    *board
	queue    workqueue.TypedRateLimitingInterface[string]

	mu      sync.Mutex
	pending map[string]time.Time // since when, by name
	written map[string]time.Time
}

func newStatusWriter(config Config, state *State, gone func(string), busy func() bool) *statusWriter {
	w := &statusWriter{
		log: config.Log, client: config.ImagePullSecrets, index: config.Index, follower: config.Follower,
		state: state, gone: gone, busy: busy, derived: config.Derived, news: newBulletins(config.Recorder), board: &board{byName: map[string]Progress{}},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](statusPeriod, 30*time.Second),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "statuses", MetricsProvider: config.QueueMetrics}),
		pending: map[string]time.Time{},
		written: map[string]time.Time{},
	}
	w.access = &access{
		refused: map[watched]v1.Failure{},
		now:     func() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) },
		changed: func(secret string) {
			for _, name := range config.Index.Rules().Names() {
				if secret == "" || secret == pullsecret.SecretName(name) {
					w.touch(name)
				}
			}
		},
	}
	return w
}

// touch notes that the status of these ImagePullSecrets may have changed.
func (w *statusWriter) touch(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if _, waits := w.pending[name]; waits {
			continue
		}
		w.pending[name] = time.Now()
		w.queue.AddAfter(name, max(statusDelay, statusPeriod-time.Since(w.written[name])))
	}
}

// run writes until stop is called.
func (w *statusWriter) run(ctx context.Context) {
	for {
		name, stopped := w.queue.Get()
		if stopped {
			return
		}
		if w.yields(name, time.Now()) {
			w.queue.Done(name)
			w.queue.AddAfter(name, yieldPause)
			continue
		}
		if err := w.write(ctx, name); err != nil && ctx.Err() == nil {
			w.log.Warn("status was not written", "imagePullSecret", name, "error", err)
			w.queue.AddRateLimited(name)
		} else {
			w.queue.Forget(name)
		}
		w.queue.Done(name)
	}
}

// yields reports whether a status, one of many, waits a little longer, since there is more urgent work: credentials come before what
// is told of them. Otherwise it is no longer pending.
func (w *statusWriter) yields(name string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, waits := w.pending[name]
	if waits && len(w.pending) > fewStatuses && now.Sub(since) < statusPatience && w.busy() {
		return true
	}
	delete(w.pending, name)
	return false
}

func (w *statusWriter) stop() { w.queue.ShutDown() }

func (w *statusWriter) write(ctx context.Context, name string) error {
	if w.early(name) {
		return nil
	}
	observed, found := w.follower.Observed(name)
	if !found {
		w.leave(name)
		return nil
	}
	now := time.Now().Truncate(time.Second)
	rule, errs := w.index.Rules().Get(name), w.index.Rules().Invalid(name)
	var status v1.ImagePullSecretStatus
	var failures []v1.Failure
	switch {
	case rule != nil:
		unseen := w.access.failures(rule.Secret)
		failures = append(slices.Clone(unseen), w.state.Failures(name)...)
		if w.state.Complete(rule.Secret) {
			status = Summarize(rule, w.state, observed.Status, now, unseen...)
		} else if len(failures) > 0 {
			status = Blind(failures, rule.Generation, observed.Status, now)
		} else {
			return nil // it is looked at again once everything has been seen
		}
		if again := w.news.publish(name, rule.UID, status, failures, time.Now()); again > 0 {
			w.queue.AddAfter(name, again)
		}
	case len(errs) > 0:
		failures = []v1.Failure{{Reason: ReasonInvalidSpec}}
		status = Reject(errs.ToAggregate(), observed.Generation, observed.Status, now)
	default:
		w.leave(name) // it is being deleted
		return nil
	}
	if w.derived != nil {
		problem, _ := w.derived()
		status.Conditions = outdated(status.Conditions, problem, name, observed.Generation, now)
	}
	w.board.put(progressOf(name, status, failures))
	if equality.Semantic.DeepEqual(status, observed.Status) {
		return nil
	}
	// The whole status in one operation: a merge would keep the lists that have become empty.
	body, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": status}})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.written[name] = time.Now()
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	_, err = w.client.Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// early reports whether a status was written less than statusPeriod ago, and comes back to it.
func (w *statusWriter) early(name string) bool {
	w.mu.Lock()
	recent := time.Since(w.written[name]) < statusPeriod
	w.mu.Unlock()
	if recent {
		w.touch(name)
	}
	return recent
}

// leave forgets an ImagePullSecret that is no longer there.
func (w *statusWriter) leave(name string) {
	w.news.forget(name)
	w.board.remove(name)
	w.mu.Lock()
	delete(w.written, name)
	w.mu.Unlock()
	w.gone(name)
}
