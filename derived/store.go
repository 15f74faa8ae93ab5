package derived

import (
	"context"
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// watch watches the metadata of what is stored.
func (k *Keeper) watch(ctx context.Context) {
	type object = *metav1.PartialObjectMetadata
	log := reflector.LogForbidden(k.log, "derivedattachments.tcr.tencentcloudcr.com")
	source := reflector.ListWatch(func(verb string, err error) {
		log(verb, err)
		k.answered(verb, err)
	}, reflector.Everything, k.objects.Metadata.List, k.objects.Metadata.Watch)
	reflector.Run(ctx, "derivedattachments", source, &metav1.PartialObjectMetadata{}, &reflector.Store[object, object]{
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
		Replaced: func(all []object, at latest.Relist) {
			k.mu.Lock()
			listed := make(map[string]stored, len(all))
			for _, o := range all {
				listed[o.Name] = storedAs(o)
			}
			k.have = relisted(k.have, listed, at)
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

// relisted returns what is known after a relist that returned all.
func relisted(before, all map[string]stored, at latest.Relist) map[string]stored {
	have := map[string]stored{}
	for name, now := range before {
		if !at.Overrules(now.version) {
			have[name] = now // written since the list
		}
	}
	for name, seen := range all {
		if _, newer := have[name]; newer {
			continue
		}
		if !at.Rewound { // after a restore of etcd, an equal generation can be another spec
			seen = before[name].after(seen)
		}
		have[name] = seen
	}
	return have
}

// put records an object as it was seen, unless something newer is known.
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

func (k *Keeper) snapshot() map[string]stored {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.have)
}

// look reads an object, and records whether it holds its part of what is derived.
func (k *Keeper) look(ctx context.Context, name string, derived *pullsecret.Derived, whole func(int) v1.DerivedAttachmentsSpec) error {
	object, err := k.objects.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.gone[name] = max(k.gone[name], k.have[name].version)
		delete(k.have, name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading derived attachments %s: %w", name, err)
	}
	for part := range derived.Number {
		if name == partName(part) && equality.Semantic.DeepEqual(object.Spec, whole(part)) {
			k.learn(name, object, derived)
			return nil
		}
	}
	k.learn(name, object, nil)
	return nil
}

// learn records what an object holds, as the API server has just returned it: its part of holds or, for nil, something else.
func (k *Keeper) learn(name string, object metav1.Object, holds *pullsecret.Derived) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := storedAs(object)
	seen.holds, seen.read = holds, seen.generation
	now, exists := k.have[name]
	switch {
	case seen.version <= k.gone[name]:
	case !exists || now.version <= seen.version:
		k.have[name] = seen
	case now.uid == seen.uid && now.generation == seen.generation:
		now.holds, now.read = seen.holds, seen.read
		k.have[name] = now
	}
}

// forget records that it is not known what an object holds.
func (k *Keeper) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now, exists := k.have[name]; exists {
		now.holds, now.read = nil, 0
		k.have[name] = now
	}
}
