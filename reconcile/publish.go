package reconcile

import (
	"context"
	"encoding/json"
	"log/slog"
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
	queue    workqueue.TypedRateLimitingInterface[string]

	mu      sync.Mutex
	pending map[string]bool
	written map[string]time.Time
}

func newStatusWriter(config Config, state *State, gone func(string)) *statusWriter {
	return &statusWriter{
		log: config.Log, client: config.Client, index: config.Index, follower: config.Follower,
		state: state, gone: gone,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](statusPeriod, 30*time.Second),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "statuses"}),
		pending: map[string]bool{},
		written: map[string]time.Time{},
	}
}

// touch notes that the status of these ImagePullSecrets may have changed.
func (w *statusWriter) touch(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if w.pending[name] {
			continue
		}
		w.pending[name] = true
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
		w.mu.Lock()
		delete(w.pending, name)
		w.mu.Unlock()
		if err := w.write(ctx, name); err != nil && ctx.Err() == nil {
			w.log.Warn("status was not written", "imagePullSecret", name, "error", err)
			w.queue.AddRateLimited(name)
		} else {
			w.queue.Forget(name)
		}
		w.queue.Done(name)
	}
}

func (w *statusWriter) stop() { w.queue.ShutDown() }

func (w *statusWriter) write(ctx context.Context, name string) error {
	observed, found := w.follower.Observed(name)
	if !found {
		w.gone(name)
		return nil
	}
	now := time.Now().Truncate(time.Second)
	var status v1.ImagePullSecretStatus
	if rule := w.index.Rules().Get(name); rule != nil {
		status = Summarize(rule, w.state, observed.Status, now)
	} else if errs := w.index.Rules().Invalid(name); len(errs) > 0 {
		status = Reject(errs.ToAggregate(), observed.Generation, observed.Status, now)
	} else {
		w.gone(name) // it is being deleted
		return nil
	}
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
	_, err = w.client.Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
