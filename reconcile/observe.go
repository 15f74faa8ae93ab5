package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Result is how something that was attempted has ended.
type Result string

// The results there are.
const (
	ResultSuccess  Result = "success"
	ResultConflict Result = "conflict" // someone else wrote first; it is planned anew at once
	ResultGone     Result = "gone"     // the object or its namespace went away meanwhile, and needs nothing more
	ResultError    Result = "error"
)

// resultOf returns the result of an attempt that may have failed in several ways: the worst of them.
func resultOf(err error) Result {
	result := ResultSuccess
	for _, err := range leaves(err) {
		switch {
		case errors.Is(err, errGone):
			result = ResultGone
		case !apierrors.IsConflict(err):
			return ResultError
		case result == ResultSuccess:
			result = ResultConflict
		}
	}
	return result
}

// Observer is told what a Controller does, for metrics. Either function may be nil. They are called from several goroutines
// and must not block.
type Observer struct {
	// Synced is called after each comparison of a namespace with the rules, writes included.
	Synced func(result Result, took time.Duration)
	// Wrote is called after each write, with the kind of object ("secret" or "serviceaccount") and the verb ("issue",
	// "reissue", "delete" or "edit").
	Wrote func(object, verb string, result Result)
}

func (o Observer) synced(result Result, took time.Duration) {
	if o.Synced != nil {
		o.Synced(result, took)
	}
}

func (o Observer) wrote(change Change, result Result) {
	if o.Wrote == nil {
		return
	}
	switch change := change.(type) {
	case IssueSecret:
		verb := "issue"
		if change.Exists {
			verb = "reissue"
		}
		o.Wrote("secret", verb, result)
	case DeleteSecret:
		o.Wrote("secret", "delete", result)
	case EditAccount:
		o.Wrote("serviceaccount", "edit", result)
	}
}

// write makes one change, and tells whoever counts them. A write that nothing needs any more is neither a success nor an error.
func (c *Controller) write(ctx context.Context, change Change) error {
	defer c.state.Writing(placeOf(change))()
	err := c.writer.write(ctx, change)
	if c.Log.Enabled(ctx, slog.LevelDebug) { // to put a change into words costs as much as to encode it
		c.Log.Debug("change was written", "change", change.String(), "error", err)
	}
	if err == nil || ctx.Err() == nil { // what the end of the term cut short says nothing
		c.Observer.wrote(change, resultOf(err))
	}
	now := time.Now()
	var without *undone
	switch {
	case errors.Is(err, errGone):
		if account, ok := change.(EditAccount); ok {
			c.fights.forgetAccount(account.Namespace, account.Name)
		}
		return nil
	case errors.As(err, &without):
		without.repeated = c.fights.wrote(change, now, true) > 0
	case err == nil:
		c.status.news.wrote(change, c.fights.wrote(change, now, false), now)
	}
	return err
}

// Progress is how far one ImagePullSecret has got: the counts of its status, as of the last look at it.
type Progress struct {
	ImagePullSecret                 string
	SecretsDesired, SecretsPresent  int32
	AccountsDesired, AccountsServed int32
	Ready                           bool
	// Failures counts what fails by reason, all of it.
	Failures map[string]int
}

func progressOf(name string, status v1.ImagePullSecretStatus, failures []v1.Failure) Progress {
	return Progress{
		ImagePullSecret: name,
		SecretsDesired:  status.SecretsDesired, SecretsPresent: status.SecretsSuccess,
		AccountsDesired: status.SAsDesired, AccountsServed: status.SAsSuccess,
		Ready:    meta.IsStatusConditionTrue(status.Conditions, v1.ConditionReady),
		Failures: countReasons(failures),
	}
}

// bulletins gathers the news of every ImagePullSecret and records them as events.
type bulletins struct {
	recorder record.EventRecorder // nil records nothing

	mu     sync.Mutex
	byName map[string]*bulletin // by ImagePullSecret
}

func newBulletins(recorder record.EventRecorder) *bulletins {
	return &bulletins{recorder: recorder, byName: map[string]*bulletin{}}
}

// wrote takes in a successful write; repairs says how often it has put right what had been written before. Of a fight it is
// told that there is one, and not of every round.
func (b *bulletins) wrote(change Change, repairs int, now time.Time) {
	issue, ok := change.(IssueSecret)
	if !ok || b.recorder == nil || repairs > promptRepairs {
		return
	}
	reason := EventIssued
	switch {
	case issue.Replaces != nil:
		reason = EventReplaced
	case repairs > 0:
		reason = EventRestored
	case issue.Exists:
		reason = EventReissued
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(issue.Rule.Name).wrote(reason, issue.Namespace, now)
}

// publish records the events that are due on an ImagePullSecret, and returns after how long to look again, if at all.
func (b *bulletins) publish(name string, uid types.UID, status v1.ImagePullSecretStatus, failures []v1.Failure, now time.Time) (again time.Duration) {
	if b.recorder == nil {
		return 0
	}
	b.mu.Lock()
	events, again := b.of(name).due(pullsecret.SecretName(name), status, failures, now)
	b.mu.Unlock()
	subject := &corev1.ObjectReference{APIVersion: v1.GroupVersion.String(), Kind: v1.Kind.Kind, Name: name, UID: uid}
	for _, event := range events {
		b.recorder.Event(subject, event.kind, event.reason, event.message)
	}
	return again
}

func (b *bulletins) of(name string) *bulletin {
	if b.byName[name] == nil {
		b.byName[name] = &bulletin{}
	}
	return b.byName[name]
}

func (b *bulletins) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byName, name)
}

// board holds the latest Progress of every ImagePullSecret. Whoever reads it never waits for reconciliation, nor makes it wait.
type board struct {
	mu     sync.Mutex
	byName map[string]Progress
}

func (b *board) put(progress Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byName[progress.ImagePullSecret] = progress
}

func (b *board) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byName, name)
}

func (b *board) all() []Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.byName))
}
