package derived

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// gather is how long to wait for further changes that come together.
	gather = 5 * time.Millisecond
	// patience is how long writes, or lists and watches, may fail before that is reported.
	patience = 10 * time.Second
	// firstPause and longestPause are the pauses after failures.
	firstPause   = 200 * time.Millisecond
	longestPause = time.Minute
)

// Observer receives what is stored: the number of parts, about how many bytes of JSON they have together, and whether they are outdated.
type Observer func(parts, bytes int, outdated bool)

// Reasons why what is stored is outdated, in addition to those of the API server.
const (
	ReasonTooLarge      = "TooLarge"
	ReasonTooManyBarred = "TooManyBarred"
	ReasonReadFailed    = "ReadFailed"
	ReasonWriteFailed   = "WriteFailed"
)

// Keeper keeps the DerivedAttachments up to date with the rules of an index. It runs on the leader alone, and each term has a new one.
type Keeper struct {
	log     *slog.Logger
	objects *typed.DerivedAttachments
	index   *pullsecret.Index
	owner   func(context.Context) (*metav1.OwnerReference, error)
	observe Observer
	limit   *rate.Limiter // for reverting changes by others

	wake   chan struct{} // holds a token when there is something to compare
	synced chan struct{} // closed once it is known what is stored

	// ownerless says that no owner was found; last is what each object was last derived from when it was written. Only Run uses both.
	ownerless bool
	last      map[string]*pullsecret.Derived

	mu       sync.Mutex
	have     map[string]stored
	gone     map[string]uint64 // the version at which an object was last known not to exist
	parts    int               // the number of stored parts
	size     int               // of all of them, in bytes
	unstored problem           // why writes fail, or what is too large to be written
	unseen   problem           // why reads fail: changes by others are not seen
	outdated *pullsecret.Outdated
	changed  chan struct{} // closed when that changes
}

// NewKeeper returns a keeper for one term of leadership. owner returns the owner of the stored objects, with which they are
// garbage-collected; nil for none. observe may be nil.
func NewKeeper(
	log *slog.Logger, objects *typed.DerivedAttachments, index *pullsecret.Index,
	owner func(context.Context) (*metav1.OwnerReference, error), observe Observer,
) *Keeper {
	if observe == nil {
		observe = func(int, int, bool) {}
	}
	return &Keeper{
		log: log, objects: objects, index: index, owner: owner, observe: observe,
		limit: backoff.Restores(),
		wake:  make(chan struct{}, 1), synced: make(chan struct{}), changed: make(chan struct{}),
		have: map[string]stored{}, gone: map[string]uint64{}, last: map[string]*pullsecret.Derived{},
	}
}

// Outdated returns why the stored objects are not up to date, nil where they are, and a channel that is closed once that changes.
func (k *Keeper) Outdated() (*pullsecret.Outdated, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.outdated, k.changed
}

// Run keeps what is stored up to date until ctx ends. The index must hold every ImagePullSecret when Run is called.
func (k *Keeper) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { k.watch(ctx) })
	defer k.index.Observe(func(pullsecret.Change) { k.poke() })()
	defer k.index.ObserveBarred(k.poke)()
	select {
	case <-k.synced:
	case <-ctx.Done():
		return
	}
	k.awaitBarred(ctx)
	k.poke()
	pauses, before := backoff.Between(firstPause, longestPause), time.Duration(0)
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		backoff.Sleep(ctx, gather)
		began := time.Now()
		more, err := k.keep(ctx)
		took := time.Since(began)
		pause := pauseAfter(before, took)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
			// Somebody else wrote first, and the watch is about to show it.
			k.log.Debug("derived attachments were changed meanwhile", "error", err)
			k.poke()
		case err != nil:
			k.failed(err)
			pause = pauses.Step()
			k.poke()
		default:
			pauses = backoff.Between(firstPause, longestPause)
			if !more {
				continue
			}
		}
		backoff.Sleep(ctx, pause)
		before = took
	}
}

// awaitBarred waits, where some rule gives its Secret to pods, until it is known which accounts bar their pods from it. What an earlier
// term stored may serve pods, and would stop doing so for a moment. Where accounts cannot be listed, it does not wait long.
func (k *Keeper) awaitBarred(ctx context.Context) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for rules := k.index.Rules().Attaching(); rules.AsksOfPods() && !rules.BarredKnown(); rules = k.index.Rules().Attaching() {
		select {
		case <-k.wake:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// pauseAfter returns how long to pause after the last two writes took this long. The shorter one counts: a single slow answer means
// nothing, and the first object of a kind that was just defined takes the API server seconds.
func pauseAfter(before, last time.Duration) time.Duration {
	return backoff.AfterWrite(min(before, last))
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // there is a token already
	}
}

// keep takes one step towards what should be stored, and reports whether there may be more to do.
func (k *Keeper) keep(ctx context.Context) (more bool, err error) {
	have := k.snapshot()
	derived := pullsecret.Derive(k.index.Rules().Attaching(), countParts(have))
	owner, err := k.ownerFor(ctx, have, derived.Number)
	if err != nil {
		return false, err
	}
	parts := made{}
	same := func(part int, holds *pullsecret.Derived) bool { return parts.equal(derived, part, holds) }
	steps, unknown := compare(have, derived.Number, same, labelsOf(derived), owner)
	whole := func(part int) v1.DerivedAttachmentsSpec { return parts.part(derived, part) }
	for _, name := range unknown {
		if err := k.look(ctx, name, derived, whole); err != nil {
			return false, err
		}
	}
	for _, step := range steps {
		if err := k.take(ctx, step, have[step.name], derived, owner, parts); err != nil {
			return true, err
		}
	}
	if len(steps) > 0 || len(unknown) > 0 {
		k.poke()
		return true, nil
	}
	k.stands(derived)
	return false, nil
}

// ownerFor looks up the owner where some object lacks one; otherwise it returns nil without a request.
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

// take makes one write.
func (k *Keeper) take(
	ctx context.Context, s step, now stored, derived *pullsecret.Derived, owner *metav1.OwnerReference, parts made,
) error {
	if s.verb == deletion {
		return k.delete(ctx, s.name, now)
	}
	if parts.equal(derived, s.part, k.last[s.name]) {
		if err := k.limit.Wait(ctx); err != nil { // this reverts somebody else's change
			return err
		}
	}
	whole := func(part int) v1.DerivedAttachmentsSpec { return parts.part(derived, part) }
	if s.verb == creation {
		object := newObject(s.part, whole(s.part), labelsOf(derived), owner)
		made, err := k.objects.Create(ctx, object, metav1.CreateOptions{FieldManager: v1.FieldManager})
		if err != nil {
			return fmt.Errorf("creating derived attachments %s: %w", s.name, err)
		}
		k.wrote(s.name, made, derived)
		return nil
	}
	patch, edits, err := change(now, derived, s.part, owner, whole)
	if err != nil {
		return fmt.Errorf("encoding the patch of derived attachments %s: %w", s.name, err)
	}
	changed, err := k.objects.Metadata.Patch(ctx, s.name, types.JSONPatchType, patch,
		metav1.PatchOptions{FieldManager: v1.FieldManager})
	if edits && apierrors.IsInvalid(err) {
		// The object does not hold what the edits assume. It is read again.
		k.log.Debug("derived attachments did not hold what the edits assumed", "name", s.name, "error", err)
		k.forget(s.name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching derived attachments %s: %w", s.name, err)
	}
	k.wrote(s.name, changed, derived)
	return nil
}

// wrote records the answer to a write.
func (k *Keeper) wrote(name string, object metav1.Object, derived *pullsecret.Derived) {
	k.learn(name, object, derived)
	k.last[name] = derived
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
