// Package eviction evicts the pods that package healing decides to evict. It watches pending pods while some ImagePullSecret asks for
// healing, and reads events and Jobs where the decision about a pod needs them.
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
	// evictions is how many pods are evicted per second, in the whole cluster.
	evictions = 5
	// readings is how many reads of events or Jobs are made per second.
	readings = 20
	// period is how often all waiting pods are looked at, in memory.
	period = time.Second
	// evictBatch and askBatch are how many pods are evicted, and have their events read, before all are looked at again.
	evictBatch, askBatch = 2 * evictions, 2 * readings
	// share limits how much of its time the Evictor spends on looking at pods: one part in share.
	share = 50
	// pageSize is how many complete pods of a list are in memory at a time: pods are larger than other watched objects.
	pageSize = 100
	// callTimeout is how long a request may take.
	callTimeout = 10 * time.Second
)

// Config is what an Evictor needs.
type Config struct {
	Log     *slog.Logger
	Clients *clientset.Clientset
	Index   *pullsecret.Index
	// View returns a namespace with the accounts and Secrets in it, as far as they are watched; false where nothing in it was seen.
	View func(namespace string) (plan.Namespace, bool)
	// Refused reports whether the registry is known to refuse the credential of a rule. Nil stands for never.
	Refused func(*pullsecret.Rule) bool
	// Recorder records an event on the owner of each pod that is evicted; it may be nil.
	Recorder record.EventRecorder
	Observer Observer
}

// Observer receives what an Evictor does. Either function may be nil.
type Observer struct {
	// Evicted is called after each eviction.
	Evicted func(reason healing.Reason)
	// Unhealed is called with the number of pods that wait until somebody acts, by reason.
	Unhealed func(counts map[healing.Reason]int)
}

// Evictor evicts pods. It runs on the leader alone, and each term has a new one.
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
	// late is whether its owner's past includes it, gone whether it was evicted.
	late, gone bool
	// held is until when it is left alone because a request about it failed, failed is how often that happened, and telling is whether to
	// report it.
	held    time.Time
	failed  int
	telling bool
	// try is the request to evict it that is under way, or the last one while its result is not known; nil otherwise.
	try *try
}

// ownerKey identifies an owner of pods. Whoever creates a pod can claim any owner, so nothing is concluded for another namespace.
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

// wanted reports whether some ImagePullSecret asks for healing.
func (e *Evictor) wanted() bool {
	for rule := range e.Index.Rules().All() {
		if rule.Heals {
			return true
		}
	}
	return false
}

// heal evicts pods for as long as some ImagePullSecret asks for healing.
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

// pending selects the pods in the phase Pending: some container has never run.
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

// put records a pod as it is now.
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

// take adds a pod that waits to pods, with what was seen of it before. e.mu is held.
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

// remove records that a pod is gone, or runs.
func (e *Evictor) remove(pod healing.Pod) {
	pod.Waits = nil
	e.put(pod)
}

// replace records that these are all pods.
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

// forget forgets all pods and Jobs, since what is not watched is soon wrong. The past of owners is remembered.
func (e *Evictor) forget() {
	e.mu.Lock()
	clear(e.pods)
	clear(e.jobs)
	e.mu.Unlock()
	e.permitted.forget()
	e.publish(nil)
}
