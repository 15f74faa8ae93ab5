package main

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// What 50,000 namespaces with two ServiceAccounts each may cost.
const (
	scaleGoal       = 1.05 // of the time of bare writes
	scaleMemoryGoal = 160  // MiB
	silenceGoal     = 10   // seconds
)

// quietFor is how long a manager must have asked for nothing to count as silent.
const quietFor = 15 * time.Second

// scale measures, installed as by default, in n namespaces with two ServiceAccounts each, how long a manager takes to bring all in line,
// what it holds, how soon one that restarts is silent again, and what all of that is to the control plane.
func scale(ctx context.Context, r *report, binary string, n int, idle time.Duration) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()
	empty, err := w.footprint(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := w.namespaces(ctx, numbered("bench", 0, n), "builder"); err != nil {
		return err
	}
	r.add("scale", "time to create the namespaces", n, seconds, time.Since(began).Seconds())
	peopled, err := w.footprint(ctx)
	if err != nil {
		return err
	}
	peopled.per(r, "before", n, empty)
	before, err := w.bareIssue(ctx, "floor-before")
	if err != nil {
		return err
	}
	own, err := w.scaleUp(ctx, r, n, idle)
	if err != nil {
		return err
	}
	if err := errors.Join(w.silence(ctx, r, n), w.listing(ctx, r, n)); err != nil {
		return err
	}
	after, err := w.bareIssue(ctx, "floor-after")
	if err != nil {
		return err
	}
	held, err := w.heldIssue(ctx)
	if err != nil {
		return err
	}
	floor := mean(before, after)
	r.add("scale", "time over bare writes that the policies hold, too", n, ratio, own.clock.Seconds()/held.clock.Seconds())
	r.add("scale", "processor time over bare writes that the policies hold, too", n, ratio, own.processor.Seconds()/held.processor.Seconds())
	r.add("scale", "time over bare writes", n, ratio, own.clock.Seconds()/floor.clock.Seconds()).atMost(scaleGoal)
	r.add("scale", "processor time over bare writes", n, ratio, own.processor.Seconds()/floor.processor.Seconds())
	r.add("scale", "time", n, seconds, own.clock.Seconds())
	r.add("scale", "time of bare writes before", n, seconds, before.clock.Seconds())
	r.add("scale", "time of bare writes after", n, seconds, after.clock.Seconds())
	return nil
}

// heldIssue is bareIssue under the policies that restrict the manager.
func (w *world) heldIssue(ctx context.Context) (cost, error) {
	confined, err := w.confined(ctx)
	if err != nil {
		return cost{}, err
	}
	return confined.bareIssue(ctx, "floor")
}

// scaleUp has a manager bring all in line, and ends it.
func (w *world) scaleUp(ctx context.Context, r *report, n int, idle time.Duration) (own cost, err error) {
	before, err := w.footprint(ctx)
	if err != nil {
		return cost{}, err
	}
	if err := w.create(ctx); err != nil {
		return cost{}, err
	}
	began := time.Now()
	var m *manager.Manager
	own, err = costOf(func() error {
		if m, err = w.start(ctx); err != nil {
			return err
		}
		return w.complete(ctx, n)
	})
	if err != nil {
		return cost{}, err
	}
	after, err := w.footprint(ctx)
	if err != nil {
		return cost{}, err
	}
	processor, err := cpuTime(m.Pid())
	if err != nil {
		return cost{}, err
	}
	writes, err := w.span(began, issues)
	if err != nil {
		return cost{}, err
	}
	own.clock = writes.last.Sub(began)
	time.Sleep(idle)
	rest, most, err := resident(m.Pid())
	if err != nil {
		return cost{}, err
	}
	r.add("scale", "writes for each namespace", n, count, float64(writes.count)/float64(n))
	r.add("scale", "refused writes", n, count, float64(writes.refused)).atMost(0)
	r.add("scale", "processor time of the manager", n, seconds, processor.Seconds())
	r.add("scale", "memory at rest", n, mebibytes, rest).atMost(scaleMemoryGoal)
	r.add("scale", "memory at most while bringing all in line", n, mebibytes, most).atMost(scaleMemoryGoal)
	after.per(r, "of the manager", n, before)
	r.add("scale", "etcd in use in the end", n, mebibytes, after.etcd/mebibyte)
	r.add("scale", "API server's memory in the end", n, mebibytes, after.apiServer)
	return own, m.Stop()
}

// silence starts a manager where all is in line, and measures how soon it asks for nothing but its Lease.
func (w *world) silence(ctx context.Context, r *report, n int) error {
	began := time.Now()
	m, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := m.Ready(ctx); err != nil {
		return err
	}
	r.add("scale", "restart: until it is ready", n, seconds, time.Since(began).Seconds())
	time.Sleep(quietFor)
	rest, most, err := resident(m.Pid())
	if err != nil {
		return err
	}
	requests, err := w.requests(began)
	if err != nil {
		return err
	}
	asked := spanOfAll(requests, func(request cluster.Request) bool { return request.Resource != "leases" })
	writes := spanOf(requests, issues)
	r.add("scale", "restart: until it is silent", n, seconds, asked.last.Sub(began).Seconds()).atMost(silenceGoal)
	r.add("scale", "restart: calls until then", n, count, float64(asked.count))
	r.add("scale", "restart: writes of Secrets and ServiceAccounts", n, count, float64(writes.count)).atMost(0)
	r.add("scale", "restart: memory at rest", n, mebibytes, rest).atMost(scaleMemoryGoal)
	r.add("scale", "restart: memory at most", n, mebibytes, most).atMost(scaleMemoryGoal)
	return w.stop(ctx, m)
}

// listing measures what a list of the Secrets takes, and how large the policy's parameter is.
func (w *world) listing(ctx context.Context, r *report, n int) error {
	began := time.Now()
	named := metav1.ListOptions{FieldSelector: "metadata.name=" + pullsecret.SecretName("bench")}
	if _, err := w.client.CoreV1().Secrets("").List(ctx, named); err != nil {
		return err
	}
	r.add("scale", "a list of its Secrets, whole", n, seconds, time.Since(began).Seconds())
	derived, err := w.derivedBytes(ctx)
	if err != nil {
		return err
	}
	r.add("scale", "the policy's parameter", n, bytesEach, derived)
	return nil
}
