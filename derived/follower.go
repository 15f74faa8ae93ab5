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

// holding is for how long a part that was deleted is taken to be there still. The leader deletes none before the others hold what is
// left of it, and makes anew what somebody else deletes: nobody is to be born without that meanwhile.
const holding = 10 * time.Second

// Follower knows what the DerivedAttachments say, as the leader stores them: all that a replica needs for admission, without any
// credential.
type Follower struct {
	log     *slog.Logger
	objects *typed.DerivedAttachments

	current atomic.Pointer[pullsecret.Attachments] // nil while that is not known
	observe func()

	mu      sync.Mutex
	parts   map[string]v1.DerivedAttachmentsSpec // by name, as in the API
	leaving map[string]time.Time                 // those of them that were deleted, and until when they are held on to
	listed  bool                                 // since Run began
}

// NewFollower returns a follower that knows nothing yet.
func NewFollower(log *slog.Logger, objects *typed.DerivedAttachments) *Follower {
	f := &Follower{log: log, objects: objects, observe: func() {}}
	f.reset()
	return f
}

// reset forgets what is stored, and nothing of what is known.
func (f *Follower) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts, f.leaving, f.listed = map[string]v1.DerivedAttachmentsSpec{}, map[string]time.Time{}, false
}

// Observe has observe called whenever what is attached has become known, or has changed. It comes before everything else.
func (f *Follower) Observe(observe func()) { f.observe = observe }

// Run watches what is stored until ctx ends. What is known stays known after that.
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

// Assume takes in what was known by other means, until Run knows what is stored. Nil is nothing.
func (f *Follower) Assume(attachments *pullsecret.Attachments) {
	f.current.Store(attachments)
	f.observe()
}

// Get returns what is attached, nil while that is not known.
func (f *Follower) Get() *pullsecret.Attachments { return f.current.Load() }

// Known returns why it is not known what is attached; nil when it is.
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

// put takes in a part. What others have made of this kind is about to be deleted by the leader.
func (f *Follower) put(object *v1.DerivedAttachments) {
	if strings.HasPrefix(object.Name, namePrefix) {
		f.parts[object.Name] = object.Spec
		delete(f.leaving, object.Name)
	}
}

// remove takes out a part, some time later. The first one there is always: the leader makes it anew.
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
			if f.leaving[name].Equal(until) { // it did not come back
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
