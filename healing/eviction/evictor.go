// Package eviction evicts the pods that package healing decides on: it watches those that are pending while some ImagePullSecret asks for
// it, and reads what else decides of single ones.
package eviction

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

const (
	// evictions is how many pods are evicted in a second, in the whole cluster.
	evictions = 5
	// readings is how many pods have their events read in a second.
	readings = 20
	// period is how often all pods that wait are looked at, in memory.
	period = time.Second
	// evictBatch and askBatch are how many are evicted, and have their events read, before all are looked at again.
	evictBatch, askBatch = 2 * evictions, 2 * readings
	// share is how much of its time the Evictor spends on looking at pods at most: one part in so many.
	share = 50
	// pageSize is how many pods of a list are held whole at a time: they are larger than what else is watched.
	pageSize = 100
	// callTimeout is how long a request may take.
	callTimeout = 10 * time.Second
)

// Config is what an Evictor needs.
type Config struct {
	Log     *slog.Logger
	Clients *clientset.Clientset
	Index   *pullsecret.Index
	// View returns a namespace with the accounts and Secrets in it, as far as watched; false where nothing of it was seen.
	View func(namespace string) (plan.Namespace, bool)
	// Refused reports whether the registry is known to refuse the credential of a rule; nil knows of none.
	Refused func(*pullsecret.Rule) bool
	// Recorder records an event on the owner of each pod that is evicted; it may be nil.
	Recorder record.EventRecorder
	Observer Observer
}

// Observer is told what an Evictor does. Either function may be nil.
type Observer struct {
	// Evicted is called after each eviction.
	Evicted func(reason healing.Reason)
	// Unhealed is called with how many pods wait that take somebody to do something, by reason.
	Unhealed func(counts map[healing.Reason]int)
}

// Evictor evicts pods. It runs on the leader alone, and is made anew for each term.
type Evictor struct {
	Config
	limit, readLimit flowcontrol.RateLimiter
	permitted        *permissions
	turned           chan struct{} // holds a token once the rules have changed

	mu   sync.Mutex
	pods map[types.UID]*patient
	past map[ownerKey]*healing.Past
	jobs map[ownerKey]bool // whether a Job counts an eviction as a failure

	told report
}

// patient is a pod that waits for an image.
type patient struct {
	pod  healing.Pod
	seen healing.Seen
	// late is whether its owner's past knows of it, gone whether it was evicted.
	late, gone bool
	// held is until when it is left alone because a request about it failed, so many times in a row; telling is whether to tell of that.
	held    time.Time
	failed  int
	telling bool
	// try is the request to evict it that is under way, or the last one while it is not known what became of it; nil otherwise.
	try *try
}

// ownerKey is what an owner of pods is known by. Whoever creates a pod says who owns it, so nothing is concluded for another namespace.
type ownerKey struct {
	namespace string
	uid       types.UID
}

func ownerOf(pod healing.Pod) ownerKey { return ownerKey{pod.Namespace, pod.Owner.Value().UID} }

// New returns an Evictor for one term of leadership.
func New(config Config) *Evictor {
	if config.Refused == nil {
		config.Refused = func(*pullsecret.Rule) bool { return false }
	}
	return &Evictor{
		Config: config,
		limit:  flowcontrol.NewTokenBucketRateLimiter(evictions, 1), readLimit: flowcontrol.NewTokenBucketRateLimiter(readings, 1),
		permitted: newPermissions(config.Log), turned: make(chan struct{}, 1),
		pods: map[types.UID]*patient{}, past: map[ownerKey]*healing.Past{}, jobs: map[ownerKey]bool{},
		told: newReport(),
	}
}

// Run evicts until ctx ends.
func (e *Evictor) Run(ctx context.Context) {
	defer e.Index.Observe(func(pullsecret.Change) {
		select {
		case e.turned <- struct{}{}:
		default:
		}
	})()
	for ctx.Err() == nil {
		if !e.wanted() {
			select {
			case <-ctx.Done():
			case <-e.turned:
			}
			continue
		}
		e.heal(ctx)
	}
}

// wanted reports whether some ImagePullSecret has pods evicted.
func (e *Evictor) wanted() bool {
	for rule := range e.Index.Rules().All() {
		if rule.Heals {
			return true
		}
	}
	return false
}

// heal evicts pods for as long as that is wanted.
func (e *Evictor) heal(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer e.forget()
	defer watching.Wait()
	defer stop()
	watching.Go(func() { e.watch(ctx) })
	next := time.NewTimer(period)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.turned:
			if !e.wanted() {
				return
			}
		case <-next.C:
			next.Reset(e.sweep(ctx))
		}
	}
}

// pending selects the pods of which some container has never run.
func pending(options *metav1.ListOptions) {
	options.FieldSelector = fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)).String()
}

func (e *Evictor) watch(ctx context.Context) {
	pods := e.Clients.Pods(metav1.NamespaceAll)
	source := reflector.ListWatch(e.permitted.answered, pending, pods.List, pods.Watch)
	reflector.Run(ctx, "pods", source, &corev1.Pod{}, &reflector.Store[*corev1.Pod, healing.Pod]{
		Strip: healing.Strip, Put: e.put, Remove: e.remove, Replaced: e.replace, PageSize: pageSize,
	})
}

// put takes in a pod as it is now.
func (e *Evictor) put(pod healing.Pod) {
	e.mu.Lock()
	known := e.pods[pod.UID]
	verdict := known.settled(pod)
	e.take(e.pods, pod, time.Now())
	e.mu.Unlock()
	if verdict != nil {
		e.tell(known.pod, *verdict)
	}
}

// take keeps a pod among others, with what was seen of it before. e.mu is held.
func (e *Evictor) take(pods map[types.UID]*patient, pod healing.Pod, now time.Time) {
	known := e.pods[pod.UID]
	if len(pod.Waits) == 0 {
		delete(pods, pod.UID)
		return
	}
	if known == nil {
		known = &patient{}
	}
	known.pod, known.seen = pod, known.seen.Watched(pod, now)
	pods[pod.UID] = known
}

// remove takes in that a pod is gone, or runs.
func (e *Evictor) remove(pod healing.Pod) {
	pod.Waits = nil
	e.put(pod)
}

// replace takes in all pods there are.
func (e *Evictor) replace(all []healing.Pod, _ latest.Relist) {
	for _, pod := range all {
		if len(pod.Waits) == 0 {
			e.put(pod)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	pods, now := map[types.UID]*patient{}, time.Now()
	for _, pod := range all {
		e.take(pods, pod, now)
	}
	e.pods = pods
}

// forget forgets all: what is not watched is soon wrong. What became of owners is remembered.
func (e *Evictor) forget() {
	e.mu.Lock()
	clear(e.pods)
	clear(e.jobs)
	e.mu.Unlock()
	e.permitted.forget()
	e.publish(nil)
}
