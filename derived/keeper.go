package derived

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/feed"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// fieldManager is the name under which our writes are recorded.
	fieldManager = "tcr-assistant"
	// gather is how long changes that come at once are gathered for.
	gather = 5 * time.Millisecond
	// leastPause is the least time between two writes. They are also this many times as far apart as the last one took, up to
	// longestPause, so that thousands of changes at once cost the API server a share of its time and no more.
	leastPause   = 50 * time.Millisecond
	pauseFactor  = 8
	longestPause = 2 * time.Second
	// patience is for how long writes may fail before that is told.
	patience = 10 * time.Second
	// restoreRate and restoreBurst bound how often what others change is taken back, in times a second and at once.
	restoreRate  = 1
	restoreBurst = 20
)

// Observer is told what is stored: in how many parts, how many bytes of JSON they are together, and whether that is outdated.
type Observer func(parts, bytes int, outdated bool)

// Reasons for which what is stored is outdated, besides those that the API server gives.
const (
	ReasonTooLarge    = "TooLarge"
	ReasonWriteFailed = "WriteFailed"
)

// Keeper keeps the DerivedAttachments as the rules of an index want them. It runs on the leader alone, and is made anew for
// each term.
type Keeper struct {
	log     *slog.Logger
	objects *typed.DerivedAttachments
	index   *pullsecret.Index
	owner   func(context.Context) (*metav1.OwnerReference, error)
	observe Observer
	limit   flowcontrol.RateLimiter

	wake   chan struct{} // holds a token when there is something to compare
	synced chan struct{} // closed once it is known what is stored

	// ownerless says that there was no owner to be found, last what was written last, known what was derived last; all of these are
	// Run's alone.
	ownerless bool
	parts     int // that are stored
	size      int // of all of them, in bytes
	last      map[string][]byte
	known     known

	mu       sync.Mutex
	have     map[string]stored
	gone     map[string]uint64 // the version at which an object was last known not to be there
	outdated *pullsecret.Outdated
	changed  chan struct{} // closed when that changes
	failing  time.Time     // since when writes fail; zero while they do not
}

// NewKeeper returns a keeper for one term of leadership. owner is asked for the object with which what is stored is to go, nil
// for none. observe may be nil.
func NewKeeper(log *slog.Logger, objects *typed.DerivedAttachments, index *pullsecret.Index, owner func(context.Context) (*metav1.OwnerReference, error), observe Observer) *Keeper {
	if observe == nil {
		observe = func(int, int, bool) {}
	}
	return &Keeper{
		log: log, objects: objects, index: index, owner: owner, observe: observe,
		limit: flowcontrol.NewTokenBucketRateLimiter(restoreRate, restoreBurst),
		wake:  make(chan struct{}, 1), synced: make(chan struct{}), changed: make(chan struct{}),
		have: map[string]stored{}, gone: map[string]uint64{}, last: map[string][]byte{},
	}
}

// Outdated returns why what is derived is not stored as it is now, nil where it is, and a channel that is closed once that
// changes.
func (k *Keeper) Outdated() (*pullsecret.Outdated, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.outdated, k.changed
}

// Run keeps what is stored until ctx ends. The index must hold every ImagePullSecret by then.
func (k *Keeper) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { k.follow(ctx) })
	defer k.index.Observe(func(pullsecret.Change) { k.poke() })()
	select {
	case <-k.synced:
	case <-ctx.Done():
		return
	}
	k.poke()
	backoff := newBackoff()
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		sleep(ctx, gather)
		began := time.Now()
		wrote, err := k.keep(ctx)
		pause := min(max(leastPause, pauseFactor*time.Since(began)), longestPause)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
			// Somebody else wrote first, and the watch is about to tell.
			k.log.Debug("derived attachments were changed meanwhile", "error", err)
			k.poke()
		case err != nil:
			k.failed(err)
			pause = backoff.Step()
			k.poke()
		default:
			backoff = newBackoff()
			if !wrote {
				continue
			}
		}
		sleep(ctx, pause)
	}
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 9, Cap: time.Minute}
}

func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // one is on its way already
	}
}

// follow watches the metadata of what is stored.
func (k *Keeper) follow(ctx context.Context) {
	type object = *metav1.PartialObjectMetadata
	source := feed.ListWatch(feed.LogRefusal(k.log, "derivedattachments.tcr.tencentcloudcr.com"), feed.Everything, k.objects.Metadata.List, k.objects.Metadata.Watch)
	feed.Follow(ctx, "derivedattachments", source, &metav1.PartialObjectMetadata{}, &feed.Feed[object, object]{
		Strip: func(o object) object { return o },
		Put:   func(o object) { k.put(o.Name, storedAs(o)) },
		Remove: func(o object) {
			k.mu.Lock()
			defer k.mu.Unlock()
			at := latest.Version(o.ResourceVersion)
			k.gone[o.Name] = max(k.gone[o.Name], at)
			if k.have[o.Name].version <= at {
				delete(k.have, o.Name)
			}
			k.poke()
		},
		Replaced: func(all []object, at feed.Relist) {
			k.mu.Lock()
			have := map[string]stored{}
			for name, now := range k.have {
				if !at.Overrules(now.version) {
					have[name] = now // written since
				}
			}
			for _, o := range all {
				if _, newer := have[o.Name]; !newer {
					have[o.Name] = k.have[o.Name].after(storedAs(o))
				}
			}
			k.have = have
			clear(k.gone)
			k.mu.Unlock()
			select {
			case <-k.synced:
			default:
				close(k.synced)
			}
			k.poke()
		},
	})
}

// put takes in an object as it was seen, unless newer news have overtaken that.
func (k *Keeper) put(name string, seen stored) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, exists := k.have[name]
	if seen.version <= k.gone[name] || exists && seen.version <= now.version {
		return
	}
	k.have[name] = now.after(seen)
	k.poke()
}

// keep brings what is stored one step further in line, and reports whether it wrote anything.
func (k *Keeper) keep(ctx context.Context) (wrote bool, err error) {
	have := k.snapshot()
	derived, encoded, size, err := k.derive(len(have))
	if err != nil {
		return false, err
	}
	owner, err := k.ownerFor(ctx, have, len(encoded))
	if err != nil {
		return false, err
	}
	steps, unknown := compare(have, encoded, owner)
	for _, name := range unknown {
		if err := k.look(ctx, name); err != nil {
			return false, err
		}
	}
	if len(unknown) > 0 {
		k.poke()
	}
	for _, step := range steps {
		if err := k.take(ctx, step, have[step.name], derived, encoded, owner); err != nil {
			return true, err
		}
	}
	if len(steps) > 0 || len(unknown) > 0 {
		k.poke() // there may be more to do
		return len(steps) > 0, nil
	}
	k.parts, k.size = len(have), size
	k.stands(derived)
	return false, nil
}

// derive returns what the rules of this moment attach. That of the same rules as before is at hand.
func (k *Keeper) derive(parts int) (pullsecret.Derived, [][]byte, int, error) {
	rules := k.index.Rules()
	if rules != k.known.rules || parts != k.known.parts {
		derived := pullsecret.Derive(rules, parts)
		encoded, size, err := encode(derived)
		if err != nil {
			return pullsecret.Derived{}, nil, 0, err
		}
		k.known = known{rules, parts, derived, encoded, size}
	}
	return k.known.derived, k.known.encoded, k.known.size, nil
}

// known is what certain rules attach.
type known struct {
	rules   *pullsecret.Rules
	parts   int // that there were
	derived pullsecret.Derived
	encoded [][]byte
	size    int
}

// ownerFor returns the owner where one is missing, and otherwise asks nobody.
func (k *Keeper) ownerFor(ctx context.Context, have map[string]stored, parts int) (*metav1.OwnerReference, error) {
	owned := 0
	for _, now := range have {
		if now.owned {
			owned++
		}
	}
	if k.ownerless || owned >= parts && owned == len(have) {
		return nil, nil
	}
	owner, err := k.owner(ctx)
	k.ownerless = err == nil && owner == nil
	return owner, err
}

func (k *Keeper) snapshot() map[string]stored {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.have)
}

// look reads what an object holds.
func (k *Keeper) look(ctx context.Context, name string) error {
	object, err := k.objects.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the watch is about to tell
	}
	if err != nil {
		return fmt.Errorf("reading derived attachments %s: %w", name, err)
	}
	spec, err := json.Marshal(object.Spec)
	if err != nil {
		return fmt.Errorf("encoding derived attachments %s: %w", name, err)
	}
	k.learn(name, object, spec)
	return nil
}

// learn takes in what an object holds, as the API server has just told.
func (k *Keeper) learn(name string, object metav1.Object, spec []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := storedAs(object)
	seen.spec, seen.read = spec, seen.generation
	now, exists := k.have[name]
	switch {
	case seen.version <= k.gone[name]:
	case !exists || now.version <= seen.version:
		k.have[name] = seen
	case now.uid == seen.uid && now.generation == seen.generation:
		now.spec, now.read = seen.spec, seen.read
		k.have[name] = now
	}
}

// take makes one write.
func (k *Keeper) take(ctx context.Context, s step, now stored, derived pullsecret.Derived, encoded [][]byte, owner *metav1.OwnerReference) error {
	if s.verb == "delete" {
		return k.delete(ctx, s.name, now)
	}
	if bytes.Equal(k.last[s.name], encoded[s.part]) {
		if err := k.limit.Wait(ctx); err != nil { // somebody else's change is taken back
			return err
		}
	}
	k.last[s.name] = encoded[s.part]
	if s.verb == "make" {
		made, err := k.objects.Create(ctx, newObject(s.part, derived.Parts[s.part], owner), metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil {
			return fmt.Errorf("making derived attachments %s: %w", s.name, err)
		}
		k.learn(s.name, made, encoded[s.part])
		return nil
	}
	patch, err := change(now, encoded[s.part], owner)
	if err != nil {
		return fmt.Errorf("encoding the patch of derived attachments %s: %w", s.name, err)
	}
	changed, err := k.objects.Metadata.Patch(ctx, s.name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("changing derived attachments %s: %w", s.name, err)
	}
	k.learn(s.name, changed, encoded[s.part])
	return nil
}

func (k *Keeper) delete(ctx context.Context, name string, now stored) error {
	if !strings.HasPrefix(name, namePrefix) {
		k.log.Warn("derived attachments of somebody else were deleted: the policy would attach them", "name", name)
	}
	err := k.objects.Metadata.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &now.uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting derived attachments %s: %w", name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.have[name].uid == now.uid {
		delete(k.have, name)
		k.gone[name] = max(k.gone[name], now.version)
	}
	return nil
}

// failed takes in that a write did not succeed.
func (k *Keeper) failed(err error) {
	k.log.Warn("derived attachments were not stored", "error", err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failing.IsZero() {
		k.failing = time.Now()
	}
	lasting := apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err)
	if !lasting && time.Since(k.failing) < patience {
		return
	}
	reason := ReasonWriteFailed
	if apierrors.IsForbidden(err) {
		reason = string(metav1.StatusReasonForbidden)
	}
	k.tell(&pullsecret.Outdated{Reason: reason, Message: "the admission policy attaches what it attached before, the webhook and the manager the rest: " + err.Error()})
}

// stands takes in that everything that can be stored is.
func (k *Keeper) stands(derived pullsecret.Derived) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = time.Time{}
	if len(derived.TooLarge) == 0 {
		k.tell(nil)
		return
	}
	names := slices.Concat(slices.Collect(maps.Values(derived.TooLarge))...)
	slices.Sort(names)
	k.tell(&pullsecret.Outdated{Reason: ReasonTooLarge, ImagePullSecrets: slices.Compact(names), Message: "the lists of all ImagePullSecrets together are too long to be the parameter of the " +
		"admission policy: it attaches what it attached before, the webhook and the manager the rest. Select by \"*\", or shorten spec.serviceAccounts"})
}

// tell replaces why it is outdated. k.mu is held.
func (k *Keeper) tell(now *pullsecret.Outdated) {
	k.observe(k.parts, k.size, now != nil)
	same := k.outdated == now || k.outdated != nil && now != nil &&
		k.outdated.Reason == now.Reason && slices.Equal(k.outdated.ImagePullSecrets, now.ImagePullSecrets)
	if same {
		return
	}
	if now != nil {
		k.log.Warn("derived attachments are outdated", "reason", now.Reason, "message", now.Message)
	}
	k.outdated = now
	close(k.changed)
	k.changed = make(chan struct{})
}
