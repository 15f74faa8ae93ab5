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
		namespace, stopped := c.queue.Get()
		if stopped {
			return
		}
		c.handle(ctx, namespace)
		c.queue.Done(namespace)
	}
}

func (c *Controller) handle(ctx context.Context, namespace string) {
	began := time.Now()
	err := c.sync(ctx, namespace)
	if ctx.Err() == nil {
		c.Observer.synced(resultOf(err), time.Since(began))
	} else if err != nil {
		return
	}
	again := false
	for _, err := range leaves(err) {
		var put *putOff
		again = again || !errors.As(err, &put)
		c.logFailure(namespace, err)
	}
	if again {
		c.queue.AddRateLimited(namespace)
		return
	}
	c.queue.Forget(namespace)
}

// sync makes the writes that a namespace lacks. One that fails does not keep the others from being made.
func (c *Controller) sync(ctx context.Context, name string) error {
	namespace, found := c.state.View(name)
	if !found {
		return nil
	}
	planned, more, errs := c.plan(ctx, namespace)
	c.refusals.Retain(name, planned.Changes)
	for _, change := range planned.Changes {
		problems, err := c.attempt(ctx, change, namespace)
		planned.Problems = append(planned.Problems, problems...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	c.tellOdd(ctx, namespace, planned.Odd) // behind the writes, which it keeps waiting
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for i := range planned.Problems {
		if planned.Problems[i].Since.IsZero() {
			planned.Problems[i].Since = now
		}
	}
	if changed := c.state.SetProblems(name, planned.Problems); changed || len(planned.Changes) > 0 {
		c.enqueueStatuses(name)
		// A removal concerns an ImagePullSecret that does not select the namespace any more.
		for _, problem := range append(planned.Problems, namespace.Problems...) {
			c.status.Enqueue(problem.ImagePullSecret)
		}
	}
	c.mu.Lock()
	c.seen[name] = true
	c.mu.Unlock()
	if more {
		c.queue.Add(name) // behind the others
	}
	return errors.Join(errs...)
}

// attempt makes one change, unless it has to wait, and returns what became of it.
func (c *Controller) attempt(ctx context.Context, change plan.Change, namespace plan.Namespace) ([]plan.Problem, error) {
	now := time.Now()
	if repairs, until, held := c.repairs.Held(change, now); held {
		c.queue.AddAfter(namespace.Name, until.Sub(now))
		return c.reported(plan.Contended(change, repairs, until, namespace), namespace), nil
	}
	version := plan.VersionOf(change, namespace)
	if problems, until, held := c.refusals.Held(change, version, now); held {
		c.queue.AddAfter(namespace.Name, until.Sub(now))
		return problems, nil
	}
	err := c.write(ctx, change)
	if removal, is := change.(plan.DeleteSecret); is && !plan.Permanent(err) {
		c.lookups.Forget(namespace.Name, removal.Name) // it is gone, or not what was looked up
	}
	if err == nil {
		if edit, is := change.(plan.EditAccount); is && edit.Rest {
			c.queue.Add(namespace.Name) // behind the others
		}
		for _, released := range c.refusals.Wrote(change) {
			c.queue.Add(released)
		}
		return nil, nil
	}
	if issue, is := change.(plan.IssueSecret); is && !issue.Exists && apierrors.IsConflict(err) {
		c.secrets.watch(c.term, issue.Rule.Name) // it is somebody else's, and will be known soon
	}
	problems := c.reported(plan.ProblemsOf(change, err), namespace)
	failed := fmt.Errorf("%s: %w", change, err)
	if plan.Permanent(err) {
		now = time.Now()
		until := c.refusals.Refused(change, version, err, problems, now)
		c.queue.AddAfter(namespace.Name, until.Sub(now))
		failed = &putOff{failed}
	}
	return problems, failed
}

// reported returns the problems that a status tells of, each once: those of ImagePullSecrets that there are, or whose Secret is known.
// An account may list any number of names that never were one's.
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

// putOff is a write that was refused, and is tried again at a time of its own.
type putOff struct{ error }

func (p *putOff) Unwrap() error { return p.error }

// probe tries, now and then, whether a permission that was missing has been granted, until ctx ends.
func (c *Controller) probe(ctx context.Context) {
	wait.UntilWithContext(ctx, func(context.Context) {
		for _, namespace := range c.refusals.Probes(time.Now()) {
			c.queue.Add(namespace)
		}
	}, time.Second)
}
