package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// writersProgram is what others do to a cluster in which the product is.
type writersProgram struct {
	births   []int // so many ServiceAccounts stand in one namespace already when others are created in it
	created  int   // so many others
	applied  int   // ServiceAccounts that a tool applies without their entry
	rounds   int   // so often
	flips    int   // edits of an ImagePullSecret that make it invalid, or valid again
	deleted  int   // namespaces at once
	watching time.Duration
}

var (
	manyWriters = writersProgram{births: []int{1000, 3000, 9000}, created: 1000, applied: 500, rounds: 15, flips: 200, deleted: 1000, watching: 30 * time.Second}
	someWriters = writersProgram{created: 400, applied: 30, rounds: 15, flips: 40, deleted: 100, watching: 15 * time.Second}
)

const (
	// writersRate is how many ServiceAccounts are created a second, flipsRate how often an ImagePullSecret is edited.
	writersRate, flipsRate = 200, 10
	// applyPace is how long the tool waits between two rounds.
	applyPace = 500 * time.Millisecond
	// bystanderRate is how often somebody writes whom the product does not concern.
	bystanderRate = 20
	// settling is how long after the last write the manager may still be at work on it: a status waits for a second.
	settling = 2 * time.Second
	// writersNamespace is where they write, bystanderNamespace where somebody else does.
	writersNamespace, bystanderNamespace = "bench-writers", "bench-bystander"
	// fewNamespaces is in how many others the Secret stands.
	fewNamespaces = 50
)

// writersWorld is a world with the product, and one without beside it, in which the same happens.
type writersWorld struct {
	*world
	bare    *world
	program writersProgram
	report  *report
	manager *manager.Manager
}

// toll is what a scenario cost: the manager, and a bystander.
type toll struct {
	events    int
	processor time.Duration // of the manager; without one, of all that made the writes and answered them
	calls     []cluster.Request
	most      float64   // MiB, of the manager
	bystander []float64 // milliseconds, sorted
}

// each returns the milliseconds of processor for each event.
func (t toll) each() float64 { return t.processor.Seconds() * 1000 / float64(t.events) }

// asked counts the manager's calls of a verb for a resource.
func (t toll) asked(resource string, verbs ...string) (number int) {
	for _, call := range t.calls {
		if call.Resource == resource && call.Subresource == "" && (len(verbs) == 0 || slices.Contains(verbs, call.Verb)) {
			number++
		}
	}
	return number
}

// writers measures what the product makes of others that write much, and what they and bystanders notice of it.
func writers(ctx context.Context, r *report, binary string, program writersProgram) (err error) {
	w := &writersWorld{program: program, report: r}
	for _, one := range []**world{&w.world, &w.bare} {
		if *one, err = newWorld(ctx, binary); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, (*one).Stop()) }()
		names := append(numbered("bench", 0, fewNamespaces), writersNamespace, bystanderNamespace)
		if err := errors.Join((*one).namespaces(ctx, names), manager.AcceptAnySpec(ctx, (*one).Cluster)); err != nil {
			return err
		}
	}
	r.Kubernetes = w.Version()
	// At first nothing attaches but the leader, and nothing refuses: what others undo is undone.
	w.args = []string{"--webhook=false"}
	if err := w.begin(ctx); err != nil {
		return err
	}
	for _, scenario := range []func(context.Context) error{w.applies, w.edits} {
		if err := scenario(ctx); err != nil {
			return err
		}
	}
	if len(program.births) == 0 {
		return w.stop(ctx, w.manager)
	}
	if err := errors.Join(w.stop(ctx, w.manager), manager.InstallPolicy(ctx, w.Cluster), w.begin(ctx)); err != nil {
		return err
	}
	return errors.Join(w.creates(ctx), w.deletes(ctx), w.stop(ctx, w.manager))
}

// begin starts the manager, and waits until all is in line.
func (w *writersWorld) begin(ctx context.Context) (err error) {
	if _, err := w.ips.Get(ctx, "bench", metav1.GetOptions{}); err != nil {
		if err := errors.Join(w.create(ctx), w.bare.create(ctx)); err != nil {
			return err
		}
	}
	if w.manager, err = w.start(ctx); err != nil {
		return err
	}
	return errors.Join(w.manager.Ready(ctx), w.complete(ctx, fewNamespaces))
}

// compare has the same happen in both worlds, and reports what a bystander notices. Events are what play returns.
func (w *writersWorld) compare(ctx context.Context, name string, size int, play func(*world) (events int, err error)) (with toll, err error) {
	bare, err := w.bare.toll(ctx, nil, func() (int, error) { return play(w.bare) })
	if err != nil {
		return with, fmt.Errorf("%s without the product: %w", name, err)
	}
	if with, err = w.toll(ctx, w.manager, func() (int, error) { return play(w.world) }); err != nil {
		return with, fmt.Errorf("%s: %w", name, err)
	}
	w.report.add("writers", name+": calls for each", size, count, float64(len(with.calls))/float64(with.events))
	w.report.add("writers", name+": processor for each over all that the write takes", size, ratio, with.each()/bare.each())
	w.report.add("writers", name+": processor for each", size, milliseconds, with.each())
	w.report.add("writers", name+": memory at most", size, mebibytes, with.most)
	for _, percent := range []int{50, 99} {
		figure := fmt.Sprintf("%s: p%d of a bystander", name, percent)
		w.report.add("writers", figure+" over one without the product", size, ratio, percentile(with.bystander, percent)/percentile(bare.bystander, percent))
		w.report.add("writers", figure, size, milliseconds, percentile(with.bystander, percent))
	}
	return with, nil
}

// toll measures play, while a bystander writes. The manager may be nil.
func (w *world) toll(ctx context.Context, m *manager.Manager, play func() (int, error)) (t toll, err error) {
	spent := cpuTimeOfAll
	if m != nil {
		spent = func() (time.Duration, error) { return cpuTime(m.Pid()) }
		if _, _, err := resident(m.Pid()); err != nil {
			return t, err
		}
	}
	began := time.Now()
	before, err := spent()
	if err != nil {
		return t, err
	}
	stop := w.bystander(ctx)
	t.events, err = play()
	if t.bystander = stop(); err != nil {
		return t, err
	}
	time.Sleep(settling)
	after, err := spent()
	if err != nil {
		return t, err
	}
	t.processor = after - before
	if m == nil {
		return t, nil
	}
	if _, t.most, err = resident(m.Pid()); err != nil {
		return t, err
	}
	calls, err := w.requests(began)
	t.calls = slices.DeleteFunc(calls, func(call cluster.Request) bool { return call.Resource == "leases" })
	return t, err
}

// bystander edits a ConfigMap at a steady rate until stop is called, which returns how long each edit took.
func (w *world) bystander(ctx context.Context) (stop func() []float64) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var took []float64
	var running sync.WaitGroup
	edit := func(i int) {
		began := time.Now()
		body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"bystander"},"data":{"edit":"%d"}}`, i)
		options := metav1.PatchOptions{FieldManager: "bystander", Force: new(true)}
		_, err := w.client.CoreV1().ConfigMaps(bystanderNamespace).Patch(ctx, "bystander", types.ApplyPatchType, body, options)
		if err == nil {
			mu.Lock()
			took = append(took, time.Since(began).Seconds()*1000)
			mu.Unlock()
		}
	}
	running.Go(func() {
		tick := time.NewTicker(time.Second / bystanderRate)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				running.Go(func() { edit(i) })
			}
		}
	})
	return func() []float64 {
		cancel()
		running.Wait()
		slices.Sort(took)
		return took
	}
}

// creates has ServiceAccounts created in one namespace, in which ever more stand.
func (w *writersWorld) creates(ctx context.Context) error {
	var first toll
	have := 0
	for i, size := range w.program.births {
		// Without the product it makes no difference how many there are.
		if err := in(numbered("account", have, size), func(name string) error { return w.account(ctx, name) }); err != nil {
			return err
		}
		time.Sleep(2 * settling)
		have = size + w.program.created
		names := numbered("account", size, have)
		with, err := w.compare(ctx, "created in one namespace", size, func(one *world) (int, error) {
			return len(names), paced(len(names), writersRate, func(i int) error { return one.account(ctx, names[i]) })
		})
		if err != nil {
			return err
		}
		if i == 0 {
			first = with
			continue
		}
		w.report.add("writers", fmt.Sprintf("created in one namespace: processor for each over that at %d", w.program.births[0]), size, ratio, with.each()/first.each()).atMost(1.5)
	}
	return nil
}

func (w *world) account(ctx context.Context, name string) error {
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := w.client.CoreV1().ServiceAccounts(writersNamespace).Create(ctx, object, metav1.CreateOptions{})
	return err
}

// paced calls f so often, at that rate, whether those before have returned or not.
func paced(times, rate int, f func(i int) error) error {
	errs := make([]error, times)
	var running sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range times {
		<-tick.C
		running.Go(func() { errs[i] = f(i) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// applies has a tool apply ServiceAccounts without their entry, again and again.
func (w *writersWorld) applies(ctx context.Context) error {
	names := numbered("applied", 0, w.program.applied)
	for _, one := range []*world{w.world, w.bare} {
		if err := in(names, func(name string) error { return one.account(ctx, name) }); err != nil {
			return err
		}
	}
	time.Sleep(settling)
	told := false
	with, err := w.compare(ctx, "applied without the entry", w.program.applied, func(one *world) (int, error) {
		for range w.program.rounds {
			err := in(names, func(name string) error {
				_, err := one.client.CoreV1().ServiceAccounts(writersNamespace).Patch(ctx, name, types.MergePatchType,
					[]byte(`{"imagePullSecrets":[{"name":"theirs"}]}`), metav1.PatchOptions{FieldManager: "gitops"})
				return err
			})
			if err != nil {
				return 0, err
			}
			time.Sleep(applyPace)
			object, err := one.ips.Get(ctx, "bench", metav1.GetOptions{})
			if err != nil {
				return 0, err
			}
			told = told || slices.ContainsFunc(object.Status.Failures, func(failure v1.Failure) bool {
				return failure.Reason == "Contended"
			})
		}
		return w.program.rounds * len(names), nil
	})
	if err != nil {
		return err
	}
	w.report.add("writers", "applied without the entry: repairs of each", w.program.applied, count, float64(with.asked("serviceaccounts", "patch"))/float64(len(names))).atMost(12)
	w.report.add("writers", "applied without the entry: events", w.program.applied, count, float64(with.asked("events"))).atMost(5)
	if !told {
		return errors.New("no status told that somebody undoes the entries")
	}
	return nil
}

// edits has an editor make an ImagePullSecret invalid and valid, again and again.
func (w *writersWorld) edits(ctx context.Context) error {
	with, err := w.compare(ctx, "made invalid and valid", fewNamespaces, func(one *world) (int, error) {
		tick := time.NewTicker(time.Second / flipsRate)
		defer tick.Stop()
		for i := range w.program.flips {
			<-tick.C
			namespaces := []string{"*,not_a_name", "*"}[i%2]
			if _, err := one.ips.Patch(ctx, "bench", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"namespaces":%q}}`, namespaces), metav1.PatchOptions{}); err != nil {
				return 0, err
			}
		}
		return w.program.flips, nil
	})
	if err != nil {
		return err
	}
	w.report.add("writers", "made invalid and valid: writes of Secrets", fewNamespaces, count, float64(with.asked("secrets", "create", "patch", "delete"))).atMost(0)
	return nil
}

// deletes has many namespaces deleted at once.
func (w *writersWorld) deletes(ctx context.Context) error {
	names := numbered("doomed", 0, w.program.deleted)
	if err := errors.Join(w.namespaces(ctx, names), w.bare.namespaces(ctx, names), w.complete(ctx, fewNamespaces+len(names))); err != nil {
		return err
	}
	with, err := w.compare(ctx, "deleted at once", w.program.deleted, func(one *world) (int, error) {
		began := time.Now()
		err := in(names, func(name string) error {
			return one.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		})
		time.Sleep(w.program.watching - time.Since(began))
		return len(names), err
	})
	if err != nil {
		return err
	}
	w.report.add("writers", "deleted at once: writes into them", w.program.deleted, count,
		float64(with.asked("secrets", "create", "patch", "delete")+with.asked("serviceaccounts", "patch"))).atMost(0)
	return nil
}
