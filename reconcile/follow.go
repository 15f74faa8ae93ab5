package reconcile

import (
	"context"
	"log/slog"
	"sync"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/feed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Follower keeps an Index in step with the API server's ImagePullSecrets. Every replica has one: admission asks the Index
// that it fills.
type Follower struct {
	log    *slog.Logger
	client *typed.Client
	index  *pullsecret.Index

	mu     sync.RWMutex
	seen   map[string]Observed
	synced chan struct{}
	once   sync.Once
}

// NewFollower returns a follower that fills index.
func NewFollower(log *slog.Logger, client *typed.Client, index *pullsecret.Index) *Follower {
	return &Follower{
		log: log, client: client, index: index,
		seen:   map[string]Observed{},
		synced: make(chan struct{}),
	}
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	source := feed.ListWatch(feed.LogRefusal(f.log, "imagepullsecrets.tcr.tencentcloudcr.com"), feed.Everything, f.client.List, f.client.Watch)
	feed.Follow(ctx, "imagepullsecrets", source, &v1.ImagePullSecret{}, &feed.Feed[*v1.ImagePullSecret, *v1.ImagePullSecret]{
		Strip:  func(object *v1.ImagePullSecret) *v1.ImagePullSecret { return object },
		Put:    f.put,
		Remove: f.remove,
		Replaced: func(all []*v1.ImagePullSecret, _ feed.Relist) {
			f.replace(all)
			f.once.Do(func() { close(f.synced) })
		},
	})
}

// Synced is closed once the index holds every ImagePullSecret there was at the start.
func (f *Follower) Synced() <-chan struct{} { return f.synced }

// Observed is what an ImagePullSecret says of itself.
type Observed struct {
	Generation int64
	Status     v1.ImagePullSecretStatus
}

// Observed returns what the ImagePullSecret of that name says of itself; false where there is none.
func (f *Follower) Observed(name string) (Observed, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	seen, found := f.seen[name]
	return seen, found
}

func (f *Follower) put(object *v1.ImagePullSecret) {
	f.mu.Lock()
	f.seen[object.Name] = Observed{object.Generation, object.Status}
	f.mu.Unlock()
	before := f.index.Rules()
	f.index.Put(object)
	f.warn(object.Name, before)
}

func (f *Follower) remove(object *v1.ImagePullSecret) {
	f.mu.Lock()
	delete(f.seen, object.Name)
	f.mu.Unlock()
	f.index.Remove(object.Name)
}

func (f *Follower) replace(all []*v1.ImagePullSecret) {
	seen := make(map[string]Observed, len(all))
	for _, object := range all {
		seen[object.Name] = Observed{object.Generation, object.Status}
	}
	f.mu.Lock()
	f.seen = seen // at once: nobody may take one for gone in between
	f.mu.Unlock()
	before := f.index.Rules()
	f.index.Replace(all)
	for _, object := range all {
		f.warn(object.Name, before)
	}
}

// warn tells of an ImagePullSecret that cannot be read, and could before.
func (f *Follower) warn(name string, before *pullsecret.Rules) {
	if errs := f.index.Rules().Invalid(name); len(errs) > 0 && len(before.Invalid(name)) == 0 {
		f.log.Warn("image pull secret was not understood", "imagePullSecret", name, "error", errs.ToAggregate())
	}
}
