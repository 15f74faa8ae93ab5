// Package informer keeps the Index of ImagePullSecrets in step with the API server.
//
// The leader runs one in each term: reconciliation and admission use the Index that it fills. Other replicas receive no
// credentials: they use what is derived from the Index.
package informer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// Informer watches the API server's ImagePullSecrets and keeps an Index in step with them.
type Informer struct {
	log    *slog.Logger
	client *typed.Client
	index  *pullsecret.Index

	mu       sync.RWMutex
	reported map[string]Reported
	synced   chan struct{}
	once     sync.Once
}

// New returns an Informer that fills index.
func New(log *slog.Logger, client *typed.Client, index *pullsecret.Index) *Informer {
	return &Informer{
		log: log, client: client, index: index,
		reported: map[string]Reported{},
		synced:   make(chan struct{}),
	}
}

// Run watches until ctx ends.
func (i *Informer) Run(ctx context.Context) {
	answered := reflector.LogForbidden(i.log, "imagepullsecrets.tcr.tencentcloudcr.com")
	source := reflector.ListWatch(answered, reflector.Everything, i.client.List, i.client.Watch)
	reflector.Run(ctx, "imagepullsecrets", source, &v1.ImagePullSecret{}, &reflector.Store[*v1.ImagePullSecret, *v1.ImagePullSecret]{
		Strip:  func(object *v1.ImagePullSecret) *v1.ImagePullSecret { return object },
		Put:    i.put,
		Remove: i.remove,
		Replaced: func(all []*v1.ImagePullSecret, _ latest.Relist) {
			i.replace(all)
			i.once.Do(func() { close(i.synced) })
		},
	})
}

// Synced returns a channel that is closed once the index holds every ImagePullSecret that existed at the start.
func (i *Informer) Synced() <-chan struct{} { return i.synced }

// Reported is what an ImagePullSecret reports, besides its spec.
type Reported struct {
	// Created is when it was created, by the API server's clock.
	Created    time.Time
	Generation int64
	Status     v1.ImagePullSecretStatus
}

func reported(object *v1.ImagePullSecret) Reported {
	return Reported{object.CreationTimestamp.Time, object.Generation, object.Status}
}

// Get returns what the ImagePullSecret with that name reports; false where there is none.
func (i *Informer) Get(name string) (Reported, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	seen, found := i.reported[name]
	return seen, found
}

func (i *Informer) put(object *v1.ImagePullSecret) {
	i.mu.Lock()
	i.reported[object.Name] = reported(object)
	i.mu.Unlock()
	before := i.index.Rules()
	i.index.Put(object)
	i.warn(object.Name, before)
}

func (i *Informer) remove(object *v1.ImagePullSecret) {
	i.mu.Lock()
	delete(i.reported, object.Name)
	i.mu.Unlock()
	i.index.Remove(object.Name)
}

func (i *Informer) replace(all []*v1.ImagePullSecret) {
	seen := make(map[string]Reported, len(all))
	for _, object := range all {
		seen[object.Name] = reported(object)
	}
	i.mu.Lock()
	i.reported = seen // in one step, so that none seems to be gone in between
	i.mu.Unlock()
	before := i.index.Rules()
	i.index.Replace(all)
	for _, object := range all {
		i.warn(object.Name, before)
	}
}

// warn logs that an ImagePullSecret has become invalid.
func (i *Informer) warn(name string, before *pullsecret.Rules) {
	if errs := i.index.Rules().Invalid(name); len(errs) > 0 && len(before.Invalid(name)) == 0 {
		i.log.Warn("image pull secret was not understood", "imagePullSecret", name, "error", errs.ToAggregate())
	}
}
