package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// objectsProgram is what is measured with many ImagePullSecrets: one for every namespace, and each of the others for two
// namespaces of its own.
type objectsProgram struct {
	rounds int
	sizes  []int
	// namespaces is how many there are; 0 for as many as the objects ask for
	namespaces int
	accounts   int // created for each figure
	births     int
	changes    int // of each kind, of each of a few
	idle       time.Duration
	narrowed   bool // the permission is for named Secrets alone
}

var (
	manyObjects = objectsProgram{rounds: 1, sizes: []int{1, 100, 300, 1000, 5000}, accounts: 100, births: 100, changes: 2, idle: 10 * time.Second}
	someObjects = objectsProgram{rounds: 3, sizes: []int{200}, namespaces: 400, accounts: 60, births: 40, changes: 1, idle: time.Second}
)

// fewObjects is how many there are when it is measured what the change of one costs where there are no others to speak of.
const fewObjects = 10

// What many ImagePullSecrets may cost.
const (
	accountOverOneGoal = 1.3
	birthOverOneGoal   = 1.1
	changeOverFewGoal  = 1.25
	followsGoal        = 100 // milliseconds
	mostOverRestGoal   = 1.5
)

var (
	objectsMemoryGoals      = map[int]float64{100: 36, 1000: 45, 5000: 90} // MiB
	narrowedMemoryGoals     = map[int]float64{1000: 60}                    // where the permission is for named Secrets alone
	objectsConvergenceGoals = map[int]float64{1000: 1.25}
	objectsStartGoals       = map[int]float64{1000: 2, 5000: 6} // seconds
)

// objectsWorld is a world of many ImagePullSecrets.
type objectsWorld struct {
	*world
	program objectsProgram
	report  *report
	n       int      // objects, in the end
	names   []string // of the namespaces
	manager *manager.Manager
	// narrowed says that the permission is for named Secrets alone.
	narrowed bool
	probes   int // ServiceAccounts were created for so many figures
	// generation is of the passwords
	generation int
}

// objects measures, on a fresh control plane, what n ImagePullSecrets cost next to one of them and next to none.
func objects(ctx context.Context, r *report, binary string, program objectsProgram, n int) (err error) {
	base, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Stop()) }()
	r.Kubernetes = base.Version()
	namespaces := cmp.Or(program.namespaces, max(2000, 2*n))
	w := &objectsWorld{world: base, program: program, report: r, n: n, names: numbered("bench", 0, namespaces)}
	if err := w.namespaces(ctx, w.names, "builder"); err != nil {
		return err
	}
	bare, err := w.creations(ctx, 0)
	if err != nil {
		return err
	}
	few := min(1+fewObjects, n)
	floor, err := w.bareObjects(ctx, few)
	if err != nil {
		return err
	}
	if err := manager.InstallPolicy(ctx, w.Cluster); err != nil {
		return err
	}
	if w.manager, err = w.begin(ctx, program.narrowed); err != nil {
		return err
	}
	if err := errors.Join(w.manager.Ready(ctx), w.createObjects(ctx, 0, 1), w.stands(ctx, 1)); err != nil {
		return err
	}
	one, err := w.look(ctx, 1)
	if err != nil {
		return err
	}
	w.figures(1, one, bare)
	if n == 1 {
		return errors.Join(w.atRest(ctx), w.restart(ctx, program.narrowed, "", w.memoryGoals()), w.stop(ctx, w.manager))
	}
	return w.many(ctx, one, bare, floor)
}

// many goes on where there is one.
func (w *objectsWorld) many(ctx context.Context, one sight, bare creations, floor cost) error {
	few := min(fewObjects, w.n-1)
	if err := errors.Join(w.createObjects(ctx, 1, 1+few), w.stands(ctx, 1+few)); err != nil {
		return err
	}
	before, err := w.changed(ctx, few)
	if err != nil {
		return err
	}
	if err := w.atOnce(ctx, 1+few, floor); err != nil {
		return err
	}
	if err := w.atRest(ctx); err != nil {
		return err
	}
	after, err := w.changed(ctx, few)
	if err != nil {
		return err
	}
	w.report.add("objects", "processor time of a change over that of one among few", w.n, ratio, after.processor/before.processor).atMost(changeOverFewGoal)
	w.report.add("objects", "calls of a change over those of one among few", w.n, ratio, after.calls/before.calls).atMost(1)
	w.report.add("objects", "processor time of the manager for a change", w.n, milliseconds, after.processor)
	w.report.add("objects", "processor time of the manager for a change", 1+few, milliseconds, before.processor)
	w.report.add("objects", "calls for a change", w.n, count, after.calls)

	now, err := w.look(ctx, w.n)
	if err != nil {
		return err
	}
	w.figures(w.n, now, bare)
	w.report.add("objects", "account: p50 over that with one object", w.n, ratio, now.both.p50()/one.both.p50()).atMost(accountOverOneGoal)
	w.report.add("objects", "account: processor time over that with one object", w.n, ratio, now.both.processor/one.both.processor)
	w.report.add("objects", "new namespace: p50 until the Secret is seen, over the floor, over that with one object", w.n, ratio,
		now.born.secretOverFloor()/one.born.secretOverFloor()).atMost(birthOverOneGoal)
	w.report.add("objects", "new namespace: p50 until the account is seen, over the floor, over that with one object", w.n, ratio,
		now.born.accountOverFloor()/one.born.accountOverFloor()).atMost(birthOverOneGoal)
	if err := w.restart(ctx, w.narrowed, "", w.memoryGoals()); err != nil {
		return err
	}
	if _, wanted := narrowedMemoryGoals[w.n]; wanted && !w.narrowed {
		if err := w.restart(ctx, true, " with narrowed permissions", narrowedMemoryGoals); err != nil {
			return err
		}
	}
	return w.apart(ctx, bare)
}

// objectName names the object of this number. The first one is for every namespace.
func objectName(i int) string { return fmt.Sprintf("bench-%05d", i) }

// own returns the namespaces of an object that is not for all.
func (w *objectsWorld) own(i int) [2]string {
	return [2]string{w.names[(2*i-2)%len(w.names)], w.names[(2*i-1)%len(w.names)]}
}

func (w *objectsWorld) object(i int) *v1.ImagePullSecret {
	namespaces := "*"
	if i > 0 {
		own := w.own(i)
		namespaces = own[0] + "," + own[1]
	}
	docker := credential(0)
	docker.Server = fmt.Sprintf("registry-%05d.tencentcloudcr.com", i)
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: objectName(i)},
		Spec:       v1.ImagePullSecretSpec{Namespaces: namespaces, ServiceAccounts: "*", Docker: docker, Check: unchecked},
	}
}

func (w *objectsWorld) createObjects(ctx context.Context, from, to int) error {
	var numbers []int
	for i := from; i < to; i++ {
		numbers = append(numbers, i)
	}
	return in(numbers, func(i int) error {
		_, err := w.ips.Create(ctx, w.object(i), metav1.CreateOptions{})
		return err
	})
}

// stands waits until that many objects say that everything has their current credentials.
func (w *objectsWorld) stands(ctx context.Context, n int) error {
	return every(ctx, time.Second+time.Duration(n)*time.Millisecond, func() error {
		list, err := w.ips.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		if len(list.Items) != n {
			return fmt.Errorf("%d of %d objects exist", len(list.Items), n)
		}
		for _, object := range list.Items {
			least := 2
			if object.Name == objectName(0) {
				least = len(w.names)
			}
			if err := inLine(&object, least); err != nil {
				return fmt.Errorf("%s: %w", object.Name, err)
			}
		}
		return nil
	})
}

// saysSo waits until one object, which is not for all, says that everything has its current credential.
func (w *objectsWorld) saysSo(ctx context.Context, number int) error {
	return every(ctx, time.Second, func() error {
		object, err := w.ips.Get(ctx, objectName(number), metav1.GetOptions{})
		if err != nil {
			return err
		}
		return inLine(object, len(w.own(number)))
	})
}

// atOnce creates all objects but those that exist, and measures how long it takes until all of them stand, next to what the same
// writes take a bare loop.
func (w *objectsWorld) atOnce(ctx context.Context, from int, floor cost) error {
	began := time.Now()
	took, err := costOf(func() error {
		// To list all of them again and again would take its share of what is measured. Statuses come last, and that of the last one with
		// the last of them.
		return errors.Join(w.createObjects(ctx, from, w.n), w.saysSo(ctx, w.n-1), w.stands(ctx, w.n))
	})
	if err != nil {
		return err
	}
	writes, err := w.span(began, func(request cluster.Request) bool {
		return request.Resource == "secrets" || request.Resource == "serviceaccounts"
	})
	if err != nil {
		return err
	}
	own, bare := writes.last.Sub(began).Seconds(), floor.clock.Seconds()
	over := w.report.add("objects", "created at once: time over bare writes", w.n, ratio, own/bare)
	if goal, set := objectsConvergenceGoals[w.n]; set {
		over.atMost(goal)
	}
	w.report.add("objects", "created at once: processor time over bare writes", w.n, ratio, took.processor.Seconds()/floor.processor.Seconds())
	w.report.add("objects", "created at once: time", w.n, seconds, own)
	w.report.add("objects", "created at once: time of bare writes", w.n, seconds, bare)
	w.report.add("objects", "created at once: writes for each object", w.n, count, float64(writes.count)/float64(w.n-from))
	w.report.add("objects", "created at once: refused writes", w.n, count, float64(writes.refused)).atMost(0)
	return nil
}

// atRest measures the manager's memory and processor time once nothing happens any more.
func (w *objectsWorld) atRest(ctx context.Context) error {
	time.Sleep(w.program.idle)
	before, err := cpuTime(w.manager.Pid())
	if err != nil {
		return err
	}
	time.Sleep(w.program.idle)
	after, err := cpuTime(w.manager.Pid())
	if err != nil {
		return err
	}
	rest, most, err := resident(w.manager.Pid())
	if err != nil {
		return err
	}
	atRest := w.report.add("objects", "memory at rest", w.n, mebibytes, rest)
	atMost := w.report.add("objects", "memory at most while they were created at once", w.n, mebibytes, most)
	if goal, set := w.memoryGoals()[w.n]; set {
		atRest.atMost(goal)
		atMost.atMost(goal * mostOverRestGoal)
	}
	w.report.add("objects", "processor at rest, of one core", w.n, "%", 100*(after-before).Seconds()/w.program.idle.Seconds())
	return ctx.Err()
}

// change is what the change of one object costs.
type change struct {
	processor float64 // milliseconds of the manager
	calls     float64
}

// changed measures changes of the first objects of their own namespaces: of passwords, and of which namespaces are selected.
func (w *objectsWorld) changed(ctx context.Context, few int) (change, error) {
	time.Sleep(2 * time.Second) // the last write of the status
	began := time.Now()
	before, err := busyTime(w.manager.Pid())
	if err != nil {
		return change{}, err
	}
	made := 0
	for range w.program.changes {
		for kind := range 3 {
			for i := 1; i <= few; i++ { // the status of each is written once a second at most
				w.generation++
				own := w.own(i)
				spec := []map[string]any{
					{"docker": map[string]any{"password": token(w.generation)}},
					{"namespaces": own[0]},
					{"namespaces": own[0] + "," + own[1]},
				}[kind]
				if err := w.change(ctx, objectName(i), spec); err != nil {
					return change{}, err
				}
				made++
			}
		}
	}
	after, err := busyTime(w.manager.Pid())
	if err != nil {
		return change{}, err
	}
	if err := w.follows(began); err != nil {
		return change{}, err
	}
	calls, err := w.requests(began)
	if err != nil {
		return change{}, err
	}
	return change{
		processor: (after - before).Seconds() * 1000 / float64(made),
		calls:     float64(len(slices.DeleteFunc(calls, upkeep))) / float64(made),
	}, nil
}

// follows reports how long after a change of what is selected the policy's parameter was written.
func (w *objectsWorld) follows(since time.Time) error {
	requests, err := w.Requests(func(r cluster.Request) bool {
		return r.Received.After(since) && r.Code < 300 && (r.Resource == "imagepullsecrets" && r.Verb == "patch" && r.Subresource == "" ||
			r.Resource == "derivedattachments" && r.User == manager.User && r.Verb != "watch" && r.Verb != "list")
	})
	if err != nil {
		return err
	}
	var took []float64
	for i := 1; i < len(requests); i++ {
		if requests[i].Resource != requests[i-1].Resource && requests[i].Resource == "derivedattachments" {
			took = append(took, requests[i].Answered.Sub(requests[i-1].Answered).Seconds()*1000)
		}
	}
	if len(took) == 0 {
		return nil // an earlier policy has no such parameter
	}
	slices.Sort(took)
	w.report.add("objects", "a change until the policy's parameter has it, p50", w.n, milliseconds, percentile(took, 50))
	w.report.add("objects", "a change until the policy's parameter has it, p99", w.n, milliseconds, percentile(took, 99)).atMost(followsGoal)
	return nil
}

// change edits an object's spec and waits until it says that everything is in line again.
func (w *objectsWorld) change(ctx context.Context, name string, spec map[string]any) error {
	body, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	if _, err := w.ips.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{}); err != nil {
		return err
	}
	return every(ctx, 50*time.Millisecond, func() error {
		object, err := w.ips.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return inLine(object, 1)
	})
}
