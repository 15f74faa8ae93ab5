package webhook

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// object is a configuration of either kind.
type object interface {
	metav1.Object
	runtime.Object
}

// kept is one configuration: what the API server holds of it, and how to write it. It is the store of its own reflector.
type kept[Object object] struct {
	name   string
	empty  Object
	source *cache.ListWatch
	patch  func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (Object, error)
	bundle func(Object) []byte
	notify func()
	synced chan struct{}

	mu      sync.Mutex
	once    sync.Once
	version string // its resourceVersion now; "" while it does not exist
	written string // its resourceVersion after our last write
	writing bool   // a write of ours is under way, and its echo may come before its answer
	trusted []byte
	uid     types.UID
}

func newKept[Object object](
	name string, empty Object,
	patch func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (Object, error),
	source *cache.ListWatch, bundle func(Object) []byte, notify func(),
) *kept[Object] {
	return &kept[Object]{name: name, empty: empty, patch: patch, source: source, bundle: bundle, notify: notify, synced: make(chan struct{})}
}

// follow watches the configuration until ctx ends.
func (k *kept[Object]) follow(ctx context.Context) {
	cache.NewReflectorWithOptions(k.source, k.empty, k, cache.ReflectorOptions{Name: k.name}).RunWithContext(ctx)
}

// apply writes the configuration server-side, and fails unless the answer shows that it is stored with this bundle.
func (k *kept[Object]) apply(ctx context.Context, body, bundle []byte) error {
	k.mu.Lock()
	k.writing = true
	k.mu.Unlock()
	defer k.notify()
	defer func() {
		k.mu.Lock()
		k.writing = false
		k.mu.Unlock()
	}()
	force := true // the fields we apply are ours, whoever wrote them before
	stored, err := k.patch(ctx, k.name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	if err != nil {
		return fmt.Errorf("applying %s: %w", k.name, err)
	}
	if !bytes.Equal(k.bundle(stored), bundle) {
		return fmt.Errorf("applying %s: it was stored with another caBundle", k.name)
	}
	k.mu.Lock()
	k.written = stored.GetResourceVersion()
	k.version, k.trusted, k.uid = k.written, bundle, stored.GetUID()
	k.mu.Unlock()
	return nil
}

// touched reports whether someone else wrote the configuration, or deleted it, since we last wrote it.
func (k *kept[Object]) touched() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.writing && k.version != k.written
}

// published returns the caBundle the API server holds; nil where the configuration does not exist.
func (k *kept[Object]) published() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trusted
}

func (k *kept[Object]) set(version string, trusted []byte) error {
	k.mu.Lock()
	changed := version != k.version
	k.version, k.trusted = version, trusted
	k.mu.Unlock()
	if changed {
		k.notify()
	}
	return nil
}

func (k *kept[Object]) Add(added any) error {
	configuration := added.(Object)
	k.mu.Lock()
	k.uid = configuration.GetUID()
	k.mu.Unlock()
	return k.set(configuration.GetResourceVersion(), k.bundle(configuration))
}

func (k *kept[Object]) Update(updated any) error { return k.Add(updated) }

func (k *kept[Object]) Delete(any) error { return k.set("", nil) }

func (k *kept[Object]) Replace(listed []any, _ string) error {
	defer k.once.Do(func() { close(k.synced) })
	if len(listed) == 0 {
		return k.set("", nil)
	}
	return k.Add(listed[0])
}

func (k *kept[Object]) Resync() error { return nil }

// listWatch narrows a typed client's List and Watch to the one object of that name, which is all that RBAC grants.
func listWatch[List runtime.Object](
	name string,
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return list(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return stream(ctx, options)
		},
	}
}
