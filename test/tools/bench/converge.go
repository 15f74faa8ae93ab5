package main

import (
	"context"
	"errors"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// Goals for the time that writing takes, over the time of a bare loop of the same writes: with the policies that are installed by default
// as without them.
var (
	convergenceGoals = map[int]float64{100: 1.5, 1000: 1.2, 5000: 1.08}
	reissueGoal      = 1.1
)

// converge measures, on a fresh control plane of n namespaces, how long a manager that starts takes to bring all of them in
// line, and then to re-issue one credential everywhere: restricted by the policies that are installed with it, or on even
// terms with the bare loops, which no policy concerns. The bare loops run before and after, since a control plane does not
// stay as fast as it was.
func converge(ctx context.Context, r *report, binary string, n int, restricted bool) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()
	suffix := " under policies"
	if !restricted {
		suffix = ""
		if err := w.unrestrict(ctx); err != nil {
			return err
		}
	}
	if err := w.namespaces(ctx, numbered("bench", 0, n)); err != nil {
		return err
	}
	before, err := w.bareIssue(ctx, "floor-before")
	if err != nil {
		return err
	}
	if err := w.create(ctx); err != nil {
		return err
	}

	began := time.Now()
	var m *manager.Manager
	own, err := costOf(func() error {
		if m, err = w.start(ctx); err != nil {
			return err
		}
		return w.complete(ctx, n)
	})
	if err != nil {
		return err
	}
	writes, err := w.span(began, issues)
	if err != nil {
		return err
	}
	own.clock = writes.last.Sub(began)
	cpu, err := cpuTime(m.Pid())
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the last write of the status
	reissued, err := w.reissue(ctx, r, n, suffix)
	if err != nil {
		return err
	}
	if err := w.stop(ctx, m); err != nil {
		return err
	}
	after, err := w.bareIssue(ctx, "floor-after")
	if err != nil {
		return err
	}
	if restricted {
		if err := w.heldFloor(ctx, r, n, suffix, own, reissued); err != nil {
			return err
		}
	}

	floor := mean(before, after)
	over := r.add("convergence"+suffix, "time over bare writes", n, ratio, own.clock.Seconds()/floor.clock.Seconds())
	if goal, set := convergenceGoals[n]; set {
		over.atMost(goal)
	}
	r.add("convergence"+suffix, "processor time over bare writes", n, ratio, own.processor.Seconds()/floor.processor.Seconds())
	r.add("convergence"+suffix, "writes", n, count, float64(writes.count))
	r.add("convergence"+suffix, "refused writes", n, count, float64(writes.refused)).atMost(0)
	r.add("convergence"+suffix, "time", n, seconds, own.clock.Seconds())
	r.add("convergence"+suffix, "time to the first write", n, seconds, writes.first.Sub(began).Seconds())
	r.add("convergence"+suffix, "time of bare writes", n, seconds, floor.clock.Seconds())
	r.add("convergence"+suffix, "processor time of the manager", n, seconds, cpu.Seconds())
	return nil
}

// heldFloor compares what the manager took with bare writes that its policies are evaluated for, too.
func (w *world) heldFloor(ctx context.Context, r *report, n int, suffix string, converged, reissued cost) error {
	confined, err := w.confined(ctx)
	if err != nil {
		return err
	}
	issue, err := confined.bareIssue(ctx, "floor")
	if err != nil {
		return err
	}
	apply, err := confined.bareApply(ctx, "floor", 1)
	if err != nil {
		return err
	}
	const figure = "time over bare writes that the policies hold, too"
	r.add("convergence"+suffix, figure, n, ratio, converged.clock.Seconds()/issue.clock.Seconds())
	r.add("re-issue"+suffix, figure, n, ratio, reissued.clock.Seconds()/apply.clock.Seconds())
	return nil
}

// reissue measures what a new password takes.
func (w *world) reissue(ctx context.Context, r *report, n int, suffix string) (own cost, err error) {
	before, err := w.bareApply(ctx, "floor-before", 1)
	if err != nil {
		return cost{}, err
	}
	targets, err := w.targets(ctx)
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	own, err = costOf(func() error {
		if err := w.repassword(ctx, "bench", 1); err != nil {
			return err
		}
		return w.complete(ctx, n)
	})
	if err != nil {
		return cost{}, err
	}
	writes, err := w.span(began, func(request cluster.Request) bool { return request.Resource == "secrets" })
	if err != nil {
		return cost{}, err
	}
	own.clock = writes.last.Sub(began)
	others, err := w.span(began, func(request cluster.Request) bool {
		return request.Resource != "secrets" && request.Resource != "leases" && request.Subresource != "status" && request.Resource != "events"
	})
	if err != nil {
		return cost{}, err
	}
	after, err := w.bareApply(ctx, "floor-before", 2)
	if err != nil {
		return cost{}, err
	}
	floor := mean(before, after)
	r.add("re-issue"+suffix, "time over bare writes", n, ratio, own.clock.Seconds()/floor.clock.Seconds()).atMost(reissueGoal)
	r.add("re-issue"+suffix, "processor time over bare writes", n, ratio, own.processor.Seconds()/floor.processor.Seconds())
	r.add("re-issue"+suffix, "writes per namespace", n, count, float64(writes.count)/float64(len(targets))).atMost(1)
	r.add("re-issue"+suffix, "other calls", n, count, float64(others.count)).atMost(0)
	r.add("re-issue"+suffix, "time", n, seconds, own.clock.Seconds())
	r.add("re-issue"+suffix, "time of bare writes", n, seconds, floor.clock.Seconds())
	return own, nil
}

// servingSecret holds the webhook's certificate: the one Secret the manager writes that is not a credential's.
const servingSecret = "tcr-assistant-webhook-server-cert"

// span is a number of requests, when the first one arrived and when the last one was answered.
type span struct {
	count, refused int
	first, last    time.Time
}

// span sums up what the manager has asked of the API server since then, of what matches.
func (w *world) span(since time.Time, match func(cluster.Request) bool) (span, error) {
	requests, err := w.requests(since)
	return spanOf(requests, match), err
}

// issues reports whether a request brings a namespace or a ServiceAccount in line.
func issues(request cluster.Request) bool {
	return request.Resource == "secrets" && request.Name != servingSecret || request.Resource == "serviceaccounts"
}

// spanOf sums up those requests that match, but for what only reads.
func spanOf(requests []cluster.Request, match func(cluster.Request) bool) span {
	return spanOfAll(requests, func(request cluster.Request) bool {
		// The leader also reads Secrets by their names, which need not be there: the records of tokens.
		return request.Verb != "list" && request.Verb != "get" && match(request)
	})
}

// spanOfAll sums up those requests that match.
func spanOfAll(requests []cluster.Request, match func(cluster.Request) bool) span {
	var s span
	for _, request := range requests {
		if !match(request) {
			continue
		}
		if request.Code >= 400 {
			s.refused++
		}
		if s.count++; s.count == 1 || request.Received.Before(s.first) {
			s.first = request.Received
		}
		if request.Answered.After(s.last) {
			s.last = request.Answered
		}
	}
	return s
}
