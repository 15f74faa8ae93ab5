// Package chaos lets chance look for faults: two managers reach a real API server through proxies that, as a seed says, delay,
// refuse and cut what passes, while a user, from the same seed, changes and kills whatever there is. When that ends, the exact
// state that the rules ask for must stand within moments, and then there must be silence.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

const (
	// within is how soon after the last fault the exact end state must stand. It begins anew with all that a replica still asks
	// for: a busy machine makes everything slow, and pauses no longer.
	within = 10 * time.Second
	// hang is how long it is waited for what is late, to tell late from never, and for what never ends.
	hang = time.Minute
	// silence is for how long nothing may be asked then, and quietness how soon that must begin: the signer of a certificate
	// is given half a minute, and events are held back for some seconds.
	silence   = 5 * time.Second
	quietness = 45 * time.Second
)

// world is a control plane with the product installed.
type world struct {
	cluster *cluster.Cluster
	client  kubernetes.Interface
	objects *typed.Client
	binary  string
}

// outcome is what became of a seed.
type outcome struct {
	hostility hostility
	steps     int
	rounds    int           // of faults and what must come of them
	slowest   time.Duration // the longest that it took after a round
	found     []string      // what is wrong
	journal   *journal
	logs      map[string]string // of the replicas
}

// play runs a seed on a control plane: faults for so long, and then none.
func play(ctx context.Context, w world, dir string, seed uint64, long time.Duration) (o outcome, err error) {
	o = outcome{hostility: newHostility(seed), journal: newJournal(), logs: map[string]string{}}
	rs, err := startReplicas(ctx, w.cluster, w.client, w.binary, dir, seed, o.journal)
	if err != nil {
		return o, err
	}
	defer func() {
		for i, m := range rs.all() {
			o.logs[fmt.Sprintf("replica-%d-process-%d.log", i, m.Pid())] = m.Log()
		}
	}()
	r := &run{world: w, outcome: &o, replicas: rs, script: newScript(seed), seed: seed}
	err = r.play(ctx, long)
	if ended := rs.end(); ended != nil {
		o.found = append(o.found, ended.Error())
	}
	for _, m := range rs.all() {
		if strings.Contains(m.Log(), "chaos-secret-") {
			o.found = append(o.found, "a replica's log holds a password")
		}
	}
	o.found = append(o.found, rs.found()...)
	return o, err
}

// run is a seed being played.
type run struct {
	world
	*outcome
	replicas *replicas
	script   *script
	seed     uint64
	reaches  int // how often it was decided which replicas can reach the API server
}

func (r *run) play(ctx context.Context, long time.Duration) error {
	if err := r.await(ctx, hang, func() error { return r.replicas.ready(ctx) }); err != nil {
		return fmt.Errorf("starting the replicas: %w", err)
	}
	var calm time.Time
	for end := time.Now().Add(long); time.Now().Before(end) && len(r.found) == 0; r.rounds++ {
		if err := r.rage(ctx); err != nil {
			return err
		}
		r.journal.note("chaos", "the faults of round %d have ended", r.rounds)
		if err := r.await(ctx, hang, r.replicas.steady); err != nil {
			return err
		}
		calm = time.Now()
		if err := r.converge(ctx, calm); err != nil {
			return err
		}
	}
	if len(r.found) > 0 {
		return nil
	}
	if err := r.await(ctx, time.Until(calm.Add(quietness)), func() error { return r.silent(ctx) }); err != nil {
		r.found = append(r.found, fmt.Sprintf("there is no silence: %v", err))
		return nil
	}
	if err := r.exact(ctx); err != nil {
		r.found = append(r.found, fmt.Sprintf("the end state did not last:\n%v", err))
		return nil
	}
	return r.clean(ctx)
}

// converge holds the state that is left against what it must be.
func (r *run) converge(ctx context.Context, calm time.Time) error {
	if err := r.replicas.freeLease(ctx); err != nil {
		return err
	}
	var idle time.Duration
	last := r.await(ctx, hang, func() error {
		idle = max(idle, time.Since(r.lastNews(calm)))
		return r.exact(ctx)
	})
	took := time.Since(calm).Round(time.Millisecond)
	r.slowest = max(r.slowest, took)
	switch {
	case last != nil:
		r.found = append(r.found, fmt.Sprintf("the end state of round %d does not stand, never within %s:\n%v", r.rounds, hang, last))
	case idle > within+time.Second: // it is not looked all the time
		r.found = append(r.found, fmt.Sprintf("the end state of round %d stood only after %s", r.rounds, took))
	default:
		r.journal.note("chaos", "the end state stands after %s", took)
	}
	return nil
}

// lastNews returns when a replica last asked for something, or calm where none has since.
func (r *run) lastNews(calm time.Time) time.Time {
	for _, p := range r.replicas.proxies {
		if at := p.silentSince(); at.After(calm) {
			calm = at
		}
	}
	return calm
}

// rage lets the faults and the user loose for a while. That is short: the longer it goes on, the more of what went wrong is put
// right by the way.
func (r *run) rage(ctx context.Context) error {
	long := 500*time.Millisecond + time.Duration(source(r.seed, "round", r.rounds).Int64N(int64(2500*time.Millisecond)))
	for _, p := range r.replicas.proxies {
		p.set(true)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.Now().Add(long)
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ; ctx.Err() == nil; r.reaches++ {
			reach := r.hostility.reach(r.seed, r.reaches)
			for i, p := range r.replicas.proxies {
				p.reach(reach.replicas[i])
			}
			pause(ctx, reach.lasts)
		}
	})
	defer func() {
		cancel()
		swapping.Wait()
		for _, p := range r.replicas.proxies {
			p.set(false)
			p.reach(true)
		}
	}()
	u := &user{client: r.client, objects: r.objects, replicas: r.replicas}
	for time.Now().Before(end) {
		next := r.script.next()
		pause(ctx, next.pause)
		began := time.Now()
		err := next.do(ctx, u)
		r.steps++
		r.journal.note("user", "step %d: %s (%s)", r.steps, next.what, time.Since(began).Round(time.Millisecond))
		if err != nil {
			return fmt.Errorf("step %d: %s: %w", r.steps, next.what, err)
		}
	}
	return nil
}

func (r *run) exact(ctx context.Context) error {
	seen, err := look(ctx, r.client, r.objects)
	if err != nil {
		return err
	}
	if found := differences(seen, r.script.model); len(found) > 0 {
		return errors.New("  " + strings.Join(found, "\n  "))
	}
	return nil
}

func (r *run) silent(ctx context.Context) error {
	if err := r.replicas.ready(ctx); err != nil {
		return err
	}
	for _, p := range r.replicas.proxies {
		if lasted := time.Since(p.silentSince()); lasted < silence {
			return fmt.Errorf("replica %s asked for something at %s", p.name, p.silentSince().UTC().Format("15:04:05.000"))
		}
	}
	return nil
}

// clean deletes every object, which must leave nothing behind, and the namespaces, without waiting for their end.
func (r *run) clean(ctx context.Context) error {
	u := &user{client: r.client, objects: r.objects}
	r.journal.note("user", "delete every object")
	for name := range r.script.invalid {
		if err := u.deleteObject(ctx, name); err != nil {
			return err
		}
		delete(r.script.invalid, name)
	}
	if err := r.await(ctx, hang, func() error { return r.exact(ctx) }); err != nil {
		r.found = append(r.found, fmt.Sprintf("deleted objects leave something behind:\n%v", err))
	}
	for name := range r.script.namespaces {
		if err := u.deleteNamespace(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// await waits until check returns nil, and returns what it returned last.
func (r *run) await(ctx context.Context, limit time.Duration, check func() error) error {
	end := time.Now().Add(limit)
	for before := ""; ; {
		err := check()
		if err != nil && err.Error() != before {
			before = err.Error()
			r.journal.note("chaos", "not yet: %.800s", before)
		}
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		pause(ctx, 100*time.Millisecond)
	}
}
