package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func (c *Controller) work(ctx context.Context) {
	for {
		namespace, part, stopped := c.queue.Get()
		if stopped {
			return
		}
		c.handle(ctx, namespace, part)
		c.queue.Done(namespace)
	}
}

func (c *Controller) handle(ctx context.Context, namespace string, part plan.Part) {
	if part.Empty() {
		return // an earlier turn has taken it already
	}
	began := time.Now()
	failures := c.sync(ctx, namespace, part)
	if ctx.Err() == nil {
		c.Observer.synced(resultOf(failures), time.Since(began))
	} else if len(failures) > 0 {
		return
	}
	again := map[plan.ObjectKey]bool{}
	for _, failed := range failures {
		var put *putOff
		again[failed.key] = again[failed.key] || !errors.As(failed.err, &put)
		c.logFailure(namespace, failed.err)
	}
	for key := range part.Keys(namespace) {
		if !again[key] {
			c.queue.Forget(key)
		}
	}
	for key, again := range again {
		if again {
			c.queue.Retry(key)
		}
	}
}

// failure is why an object, or a namespace as a whole, could not be reconciled.
type failure struct {
	key plan.ObjectKey
	err error
}

// sync makes the writes that a part of a namespace lacks. A write that fails does not prevent the others.
func (c *Controller) sync(ctx context.Context, name string, part plan.Part) (failures []failure) {
	namespace, found := c.state.ViewPart(name, part)
	if !found {
		return nil
	}
	planned, known, more := plan.Plan{}, false, false
	if !part.IsWhole() {
		planned, known = c.planPart(namespace, part)
	}
	if !known {
		part = plan.Whole()
		if namespace, found = c.state.View(name); !found {
			return nil
		}
		planned, more, failures = c.plan(ctx, namespace)
	}
	c.refusals.Retain(name, part, planned.Changes)
	for _, change := range planned.Changes {
		problems, err := c.attempt(ctx, change, namespace)
		planned.Problems = append(planned.Problems, problems...)
		if err != nil {
			failures = append(failures, failure{plan.KeyOf(change), err})
		}
	}
	c.tellOdd(ctx, namespace, part, planned.Odd) // after the writes: it makes requests of its own, which would delay them
	c.tellProblems(name, part, planned)
	if part.IsWhole() {
		c.mu.Lock()
		c.seen[name] = true
		c.mu.Unlock()
	}
	if more {
		c.queue.Add(name) // behind the others
	}
	return failures
}

// tellProblems records the problems that were left in a part of a namespace, and enqueues the statuses where something has changed.
func (c *Controller) tellProblems(name string, part plan.Part, planned plan.Plan) {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for i := range planned.Problems {
		if planned.Problems[i].Since.IsZero() {
			planned.Problems[i].Since = now
		}
	}
	concerned, changed := c.state.SetProblems(name, part, planned.Problems)
	if changed || len(planned.Changes) > 0 {
		c.enqueueStatuses(name)
		// A removal concerns an ImagePullSecret that no longer selects the namespace.
		c.status.Enqueue(concerned...)
	}
}

// attempt makes one change, unless it has to wait, and returns the problems it leaves.
func (c *Controller) attempt(ctx context.Context, change plan.Change, namespace plan.Namespace) ([]plan.Problem, error) {
	key, now := plan.KeyOf(change), time.Now()
	if repairs, until, held := c.repairs.Held(change, now); held {
		c.queue.AddAfter(key, until.Sub(now))
		return c.reported(plan.Contended(change, repairs, until, namespace), namespace), nil
	}
	version := plan.VersionOf(change, namespace)
	if problems, until, held := c.refusals.Held(change, version, now); held {
		c.queue.AddAfter(key, until.Sub(now))
		return problems, nil
	}
	err := c.write(ctx, change)
	if removal, is := change.(plan.DeleteSecret); is && !plan.Permanent(err) {
		c.lookups.Forget(namespace.Name, removal.Name) // it is gone, or not what was looked up
	}
	if err == nil {
		for key := range plan.LeavesMore(change, namespace).Keys(namespace.Name) {
			c.queue.AddObject(key) // behind the others
		}
		for _, released := range c.refusals.Wrote(change) {
			c.queue.Add(released)
		}
		return nil, nil
	}
	if issue, is := change.(plan.IssueSecret); is && !issue.Exists && apierrors.IsConflict(err) {
		c.secrets.watch(c.term, issue.Rule.Name) // the Secret is somebody else's; this watch will show it soon
	}
	problems := c.reported(plan.ProblemsOf(change, err), namespace)
	failed := fmt.Errorf("%s: %w", change, err)
	if plan.Permanent(err) {
		now = time.Now()
		until := c.refusals.Refused(change, version, err, problems, now)
		c.queue.AddAfter(key, until.Sub(now))
		failed = &putOff{failed}
	}
	return problems, failed
}

// reported returns the problems that a status reports, each once: those of ImagePullSecrets that exist, or whose Secret is known. An
// account may list any number of names that never belonged to an ImagePullSecret.
func (c *Controller) reported(problems []plan.Problem, namespace plan.Namespace) []plan.Problem {
	rules, told := c.Index.Rules(), map[plan.Problem]bool{}
	return slices.DeleteFunc(problems, func(problem plan.Problem) bool {
		secret := pullsecret.SecretName(problem.ImagePullSecret)
		known, found := namespace.Secret(secret)
		if told[problem] || rules.Get(problem.ImagePullSecret) == nil && !c.state.Watched(secret) && (!found || !known.Managed) {
			return true
		}
		told[problem] = true
		return false
	})
}

// putOff is a write that was refused, and is retried at a time of its own.
type putOff struct{ error }

func (p *putOff) Unwrap() error { return p.error }

// probe tries from time to time, until ctx ends, whether a permission that was missing has been granted.
func (c *Controller) probe(ctx context.Context) {
	wait.UntilWithContext(ctx, func(context.Context) {
		for _, namespace := range c.refusals.Probes(time.Now()) {
			c.queue.Add(namespace)
		}
	}, time.Second)
}
