package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

// birthProgram is how many namespaces are created, how many a second, and among what.
type birthProgram struct {
	name      string // of the benchmark
	births    int
	perSecond int
	// among so many namespaces, into all of which a new password is on its way; 0 for none, and nothing else to do.
	among int
	// idle is how long to count what the manager asks for while nothing happens; 0 for not at all.
	idle time.Duration
}

// quietBirths are births while nothing else is to be done.
func quietBirths(n int, idle time.Duration) birthProgram {
	return birthProgram{name: "birth", births: n, perSecond: quietRate, idle: idle}
}

var (
	birthStorm     = birthProgram{name: "birth, 100 a second", births: 6000, perSecond: 100}
	birthInReissue = birthProgram{name: "birth, during a re-issue", births: 400, perSecond: quietRate, among: 5000}
)

// quietRate is how many namespaces are created a second where they are not to be many.
const quietRate = 20

// lastNews is how long after the last change events may still tell of it: they are held back to stand for many writes.
const lastNews = 35 * time.Second

// How long a new namespace may wait for its Secret, over the answer of a bare loop.
const (
	birthGoalP50 = 1.2
	birthGoalP99 = 1
)

// repasswordEvery is how soon another password follows while one is to be on its way all the time.
const repasswordEvery = 2 * time.Second

// birth measures what a namespace is like when it is first seen, and counts what it costs: with the manager, and before and after that with
// a loop that does nothing but answer each new namespace with a POST.
func birth(ctx context.Context, r *report, binary string, p birthProgram) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()
	if p.among > 0 {
		if err := w.namespaces(ctx, numbered("bench", 0, p.among)); err != nil {
			return err
		}
		if _, err := w.bareIssue(ctx, bareSecret); err != nil {
			return err
		}
	}
	before, err := w.birthsOfBare(ctx, p, "before")
	if err != nil {
		return err
	}
	if err := w.create(ctx); err != nil {
		return err
	}
	m, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Ready(ctx), w.complete(ctx, max(1, p.among))); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // the last write of the status
	born, err := w.birthsOfManager(ctx, r, p)
	if err != nil {
		return err
	}
	if p.idle > 0 {
		if err := w.whileIdle(r, p.births, p.idle); err != nil {
			return err
		}
	}
	if err := w.stop(ctx, m); err != nil {
		return err
	}
	after, err := w.birthsOfBare(ctx, p, "after")
	if err != nil {
		return err
	}
	confined, err := w.confined(ctx)
	if err != nil {
		return err
	}
	if p.among > 0 {
		if _, err := confined.bareIssue(ctx, bareSecret); err != nil {
			return err
		}
	}
	held, err := confined.birthsOfBare(ctx, p, "held")
	if err != nil {
		return err
	}
	born.figures(r, p, before.and(after), held)
	return nil
}

// whileIdle counts the calls of a manager that has nothing to do.
func (w *world) whileIdle(r *report, n int, idle time.Duration) error {
	time.Sleep(lastNews)
	began := time.Now()
	time.Sleep(idle)
	calls, err := w.requests(began)
	if err != nil {
		return err
	}
	leases := slices.DeleteFunc(slices.Clone(calls), func(request cluster.Request) bool { return request.Resource != "leases" })
	r.add("calls", "while idle, but for the Lease", n, count, float64(len(calls)-len(leases))).atMost(0)
	r.add("calls", "for the Lease", n, perMinute, float64(len(leases))/idle.Minutes())
	return nil
}

// upkeep reports whether a call is made at a steady pace, however much there is to do: the Lease, the status, which is
// written once a second at most, and events, each of which stands for many writes.
func upkeep(request cluster.Request) bool {
	return request.Resource == "leases" || request.Subresource == "status" || request.Resource == "events"
}

// bareSecret is the Secret that a bare loop writes again and again.
const bareSecret = "floor"

// birthsOfBare measures half as many births, which a bare loop answers, while another one writes into every other namespace where the program says so.
func (w *world) birthsOfBare(ctx context.Context, p birthProgram, prefix string) (born births, err error) {
	own := func() (err error) {
		born, err = w.bareBirths(ctx, prefix, (p.births+1)/2, p.perSecond)
		return err
	}
	if p.among == 0 {
		err = own()
		return born, err
	}
	err = meanwhile(func(generation int) error {
		_, err := w.bareApply(ctx, bareSecret, generation)
		return err
	}, own)
	return born, err
}

// birthsOfManager measures births that the manager answers, while it re-issues a credential where the program says so.
func (w *world) birthsOfManager(ctx context.Context, r *report, p birthProgram) (born births, err error) {
	own := func() (err error) {
		born, err = w.births(ctx, "born", p.births, p.perSecond, pullsecret.SecretName("bench"))
		return err
	}
	if p.among > 0 {
		err = meanwhile(func(generation int) error {
			defer time.Sleep(repasswordEvery)
			return w.repassword(ctx, "bench", generation)
		}, own)
		return born, errors.Join(err, w.complete(ctx, p.among+p.births))
	}
	began := time.Now()
	if err := errors.Join(own(), w.complete(ctx, p.births)); err != nil {
		return births{}, err
	}
	calls, err := w.requests(began)
	if err != nil {
		return births{}, err
	}
	r.add("calls", "per new namespace", p.births, count, float64(len(slices.DeleteFunc(calls, upkeep)))/float64(p.births)).atMost(1)
	return born, nil
}

// meanwhile calls one function again and again, with 1, 2, 3 ..., until the other has returned.
func meanwhile(again func(int) error, once func() error) error {
	done := make(chan struct{})
	var repeating sync.WaitGroup
	var err error
	repeating.Go(func() {
		for n := 1; err == nil; n++ {
			select {
			case <-done:
				return
			default:
				err = again(n)
			}
		}
	})
	failed := once()
	close(done)
	repeating.Wait()
	return errors.Join(failed, err)
}
