package derived

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// holding is for how long a deleted part stays in effect. The leader deletes a part only once the other parts hold what is left of it,
// and recreates one that somebody else deletes: no object should be created without its entries in between.
const holding = 10 * time.Second

// Follower follows the DerivedAttachments that the leader stores: all that a replica needs for admission, without any credential.
type Follower struct {
	log     *slog.Logger
	objects *typed.DerivedAttachments

	current atomic.Pointer[pullsecret.Attachments] // nil while it is not known
	observe func()

	mu      sync.Mutex
	parts   map[string]v1.DerivedAttachmentsSpec // by name, as in the API
	leaving map[string]time.Time                 // those of them that were deleted, and until when each stays in effect
	listed  bool                                 // since Run began
}

// NewFollower returns a follower that knows nothing yet.
func NewFollower(log *slog.Logger, objects *typed.DerivedAttachments) *Follower {
	f := &Follower{log: log, objects: objects, observe: func() {}}
	f.reset()
	return f
}

// reset forgets what is stored, but keeps current.
func (f *Follower) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts, f.leaving, f.listed = map[string]v1.DerivedAttachmentsSpec{}, map[string]time.Time{}, false
}

// Observe sets a function that is called whenever the attachments have become known, or have changed. It has to be called before anything
// else.
func (f *Follower) Observe(observe func()) { f.observe = observe }

// Run watches what is stored until ctx ends. Get returns the same after that.
func (f *Follower) Run(ctx context.Context) {
	type object = *v1.DerivedAttachments
	f.reset()
	defer f.reset()
	const resource = "derivedattachments.tcr.tencentcloudcr.com"
	source := reflector.ListWatch(reflector.LogForbidden(f.log, resource), reflector.Everything, f.objects.List, f.objects.Watch)
	reflector.Run(ctx, "derivedattachments", source, &v1.DerivedAttachments{}, &reflector.Store[object, object]{
		Strip:  func(o object) object { return o },
		Put:    func(o object) { f.change(func() { f.put(o) }) },
		Remove: func(o object) { f.change(func() { f.remove(o.Name) }) },
		Replaced: func(all []object, _ latest.Relist) {
			f.change(func() {
				f.replace(all)
				f.listed = true
			})
		},
	})
}

// Assume sets what Get returns until Run has seen what is stored; nil for not known.
func (f *Follower) Assume(attachments *pullsecret.Attachments) {
	f.current.Store(attachments)
	f.observe()
}

// Get returns the attachments, nil while they are not known.
func (f *Follower) Get() *pullsecret.Attachments { return f.current.Load() }

// Known returns an error that says why the attachments are not known; nil when they are.
func (f *Follower) Known() error {
	if f.Get() != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.listed {
		return errors.New("the DerivedAttachments are not yet known")
	}
	return errors.New("there are no DerivedAttachments: the leader has not stored any yet")
}

func (f *Follower) change(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
	if _, whole := f.parts[partName(0)]; whole {
		parts := make([]v1.DerivedAttachmentsSpec, 0, len(f.parts))
		for _, part := range f.parts {
			parts = append(parts, part)
		}
		attachments := pullsecret.NewAttachments(parts...)
		f.current.Store(attachments)
		f.observe()
	}
}

// put stores a part. It ignores objects of this kind that others have created, which the leader is about to delete.
func (f *Follower) put(object *v1.DerivedAttachments) {
	if strings.HasPrefix(object.Name, namePrefix) {
		f.parts[object.Name] = object.Spec
		delete(f.leaving, object.Name)
	}
}

// remove removes a part after the time holding. The first part is never removed: the leader recreates it.
func (f *Follower) remove(name string) {
	_, had := f.parts[name]
	_, leaves := f.leaving[name]
	if !had || leaves || name == partName(0) {
		return
	}
	until := time.Now().Add(holding)
	f.leaving[name] = until
	time.AfterFunc(holding, func() {
		f.change(func() {
			if f.leaving[name].Equal(until) { // it was not created again
				delete(f.parts, name)
				delete(f.leaving, name)
			}
		})
	})
}

func (f *Follower) replace(all []*v1.DerivedAttachments) {
	for name := range f.parts {
		if !slices.ContainsFunc(all, func(object *v1.DerivedAttachments) bool { return object.Name == name }) {
			f.remove(name)
		}
	}
	for _, object := range all {
		f.put(object)
	}
}
