// Package status writes the status of ImagePullSecrets, records events on them, and knows how far each has got.
//
// Package plan decides what a status says. A Writer is notified of what may have changed, and looks at the state when it is time to
// write.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

const (
	// delay gathers changes that happen together into one write of the status.
	delay = 100 * time.Millisecond
	// period is the minimum time between two writes of one status.
	period = time.Second
	// maxYield is how long a status gives way to Secrets and entries that still have to be written, yieldDelay how long at a time. A few
	// statuses, up to unyielding, do not give way: they cost little, and show progress.
	maxYield   = 30 * time.Second
	yieldDelay = 250 * time.Millisecond
	unyielding = 10
	// writeTimeout is how long the write of a status may take: statuses are written one at a time.
	writeTimeout = 30 * time.Second
)

// Config is what a Writer needs to run.
type Config struct {
	Log      *slog.Logger
	Client   *typed.Client
	Index    *pullsecret.Index
	Informer *informer.Informer
	State    *plan.State
	// Gone is called for an ImagePullSecret that no longer exists.
	Gone func(imagePullSecret string)
	// Busy reports whether more namespaces wait than can be reconciled at a time.
	Busy func() bool
	// Derived returns why the derived attachments are outdated; nil where they are not. It may be nil.
	Derived func() (*pullsecret.Outdated, <-chan struct{})
	// Validity returns the result of the last check of a rule's credential, nil where it has not been checked. It may be nil.
	Validity func(rule *pullsecret.Rule) *credential.Validity
	// Reached returns how far a rule's registry is reachable from its private network; nil where that is not known yet. It may be nil.
	Reached func(rule *pullsecret.Rule) *pullsecret.Reach
	// Healing reports on the pods that an ImagePullSecret heals. It may be nil.
	Healing func(imagePullSecret string) plan.Healing
	// Recorder records events; it may be nil.
	Recorder record.EventRecorder
	// QueueMetrics may be nil.
	QueueMetrics workqueue.MetricsProvider
}

// Writer writes the status of ImagePullSecrets: soon after something changed, each at most once a second, and only where the status
// changed.
type Writer struct {
	Config
	denied   *plan.DeniedWatches
	events   *eventRecorder
	progress *progressCache
	queue    workqueue.TypedRateLimitingInterface[string]

	mu      sync.Mutex
	pending map[string]time.Time // since when, by name
	written map[string]time.Time
}

// NewWriter returns a Writer for one term of leadership.
func NewWriter(config Config) *Writer {
	return &Writer{
		Config: config,
		denied: plan.NewDeniedWatches(), events: newEventRecorder(config.Recorder), progress: newProgressCache(),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](period, 30*time.Second),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "statuses", MetricsProvider: config.QueueMetrics}),
		pending: map[string]time.Time{},
		written: map[string]time.Time{},
	}
}

// Enqueue notes that the status of these ImagePullSecrets may have changed.
func (w *Writer) Enqueue(imagePullSecrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range imagePullSecrets {
		if _, waits := w.pending[name]; waits {
			continue
		}
		w.pending[name] = time.Now()
		w.queue.AddAfter(name, max(delay, period-time.Since(w.written[name])))
	}
}

// Wrote notes a write that succeeded, and how often by now it has repaired what someone had undone.
func (w *Writer) Wrote(change plan.Change, repairs int, now time.Time) {
	w.events.wrote(change, repairs, now)
}

// Answered notes how the API server answered a list or the start of a watch: err is nil where it allowed it.
func (w *Writer) Answered(request plan.WatchRequest, err error) {
	if w.denied.Answered(request, err, time.Now()) {
		w.concerns(request.Secret)
	}
}

// Withheld notes why the Secrets of a name are not even requested; err is nil where they are.
func (w *Writer) Withheld(secret string, err error) {
	if w.denied.Withheld(secret, err, time.Now()) {
		w.concerns(secret)
	}
}

// concerns enqueues the ImagePullSecret of that Secret, or all where it is blank.
func (w *Writer) concerns(secret string) {
	rules := w.Index.Rules()
	if secret == "" {
		w.Enqueue(rules.Names()...)
		return
	}
	if name := pullsecret.ImagePullSecretName(secret); rules.Get(name) != nil || rules.Invalid(name) != nil {
		w.Enqueue(name)
	}
}

// Unwatched notes that the Secrets of that name are no longer watched.
func (w *Writer) Unwatched(secret string) { w.denied.Forget(secret) }

// Progress returns how far each ImagePullSecret had got when its status was last computed. It never waits for a write.
func (w *Writer) Progress() []plan.Progress { return w.progress.all() }

// Run writes until Stop is called.
func (w *Writer) Run(ctx context.Context) {
	for {
		name, stopped := w.queue.Get()
		if stopped {
			return
		}
		w.giveWay(ctx, name)
		if err := w.write(ctx, name); err != nil && ctx.Err() == nil {
			w.Log.Warn("status was not written", "imagePullSecret", name, "error", err)
			w.queue.AddRateLimited(name)
		} else {
			w.queue.Forget(name)
		}
		w.queue.Done(name)
	}
}

// Stop ends Run.
func (w *Writer) Stop() { w.queue.ShutDown() }

// giveWay returns once a status need not wait any longer, or when ctx ends. The statuses behind it wait, too: checking all of them again
// and again would take time from the very work that they give way to.
func (w *Writer) giveWay(ctx context.Context, name string) {
	for w.yields(name, time.Now()) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(yieldDelay):
		}
	}
}

// yields reports whether a status, one of many, has to wait a little longer, since there is more urgent work: credentials come before
// their status. Otherwise the status is no longer pending.
func (w *Writer) yields(name string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, waits := w.pending[name]
	if waits && len(w.pending) > unyielding && now.Sub(since) < maxYield && w.Busy() {
		return true
	}
	delete(w.pending, name)
	return false
}

// write writes the status of one ImagePullSecret, where it has changed.
func (w *Writer) write(ctx context.Context, name string) error {
	if w.early(name) {
		return nil
	}
	before, found := w.Informer.Get(name)
	if !found {
		w.forget(name)
		return nil
	}
	status, known := w.look(name, before, time.Now().Truncate(time.Second))
	if !known || equality.Semantic.DeepEqual(status, before.Status) {
		return nil
	}
	// The whole status in one operation: a merge patch would keep lists that have become empty.
	body, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": status}})
	if err != nil {
		return fmt.Errorf("encoding the status of image pull secret %s: %w", name, err)
	}
	w.mu.Lock()
	w.written[name] = time.Now()
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = w.Client.Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: v1.FieldManager}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// look returns the current status of an ImagePullSecret; false where there is nothing to say yet, or no longer.
func (w *Writer) look(name string, before informer.Reported, now time.Time) (status v1.ImagePullSecretStatus, known bool) {
	rule, errs := w.Index.Rules().Get(name), w.Index.Rules().Invalid(name)
	var failures []v1.Failure
	switch {
	case rule != nil && !rule.Known() && rule.Unread == nil:
		return status, false // it is enqueued again once its credential has been read, or could not be read
	case rule != nil:
		unseen := w.denied.Failures(rule.Secret)
		failures = append(slices.Clone(unseen), w.State.Failures(name)...)
		failures = append(failures, plan.Unread(rule, before.Status, now)...)
		if w.State.Complete(rule) {
			status = plan.Summarize(rule, w.State, before.Status, now, unseen...)
		} else if len(failures) > 0 {
			status = plan.Blind(failures, rule.Generation, before.Status, now)
		} else {
			return status, false // it is enqueued again once everything has been seen
		}
		status.Conditions = plan.SetIssued(status.Conditions, rule, now)
		if w.Validity != nil {
			plan.SetValid(&status, rule, before.Status, w.Validity(rule), now)
		}
		status = plan.SetReached(status, rule, w.reached(rule), before.Status, now)
		if w.Healing != nil {
			plan.SetHealing(&status, rule, w.Healing(name), now)
		}
		if again := w.events.record(name, rule.UID, before.Status, status, failures, time.Now()); again > 0 {
			w.queue.AddAfter(name, again)
		}
	case len(errs) > 0:
		failures = []v1.Failure{{Reason: plan.ReasonInvalidSpec}}
		status = plan.Reject(errs.ToAggregate(), before.Generation, before.Status, now)
	default:
		w.forget(name) // it is being deleted
		return status, false
	}
	if w.Derived != nil {
		problem, _ := w.Derived()
		status.Conditions = plan.SetOutdated(status.Conditions, problem, name, before.Generation, now)
	}
	w.progress.put(plan.ProgressOf(name, rule, status, failures))
	return status, true
}

// reached returns how far a rule's registry is reachable from its private network; nil where that is not known.
func (w *Writer) reached(rule *pullsecret.Rule) *pullsecret.Reach {
	if w.Reached == nil {
		return nil
	}
	return w.Reached(rule)
}

// early reports whether a status was written less than a period ago, and enqueues it again then.
func (w *Writer) early(name string) bool {
	w.mu.Lock()
	recent := time.Since(w.written[name]) < period
	w.mu.Unlock()
	if recent {
		w.Enqueue(name)
	}
	return recent
}

// forget forgets an ImagePullSecret that no longer exists.
func (w *Writer) forget(name string) {
	w.events.forget(name)
	w.progress.remove(name)
	w.mu.Lock()
	delete(w.written, name)
	w.mu.Unlock()
	w.Gone(name)
}
