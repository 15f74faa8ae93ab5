package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
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
	caller func(Object) *admissionregistrationv1.WebhookClientConfig
	notify func()
	synced chan struct{}

	mu      sync.Mutex
	once    sync.Once
	version string                                      // its resourceVersion now; "" while it does not exist
	held    admissionregistrationv1.WebhookClientConfig // how API servers are told to call us
	wanted  []byte                                      // the bundle they are to trust; nil until we know one
	written string                                      // its resourceVersion after our last write
	writing bool                                        // a write of ours is under way, and its echo may come before its answer
	uid     types.UID
}

func newKept[Object object](
	name string, empty Object,
	patch func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (Object, error),
	source *cache.ListWatch, caller func(Object) *admissionregistrationv1.WebhookClientConfig, notify func(),
) *kept[Object] {
	return &kept[Object]{name: name, empty: empty, patch: patch, source: source, caller: caller, notify: notify, synced: make(chan struct{})}
}

// follow watches the configuration until ctx ends.
func (k *kept[Object]) follow(ctx context.Context) {
	cache.NewReflectorWithOptions(k.source, k.empty, k, cache.ReflectorOptions{Name: k.name}).RunWithContext(ctx)
}

// current reports whether the watch has shown the configuration as it is in the API now.
func (k *kept[Object]) current(ctx context.Context) bool {
	listed, err := k.source.ListWithContextFunc(ctx, metav1.ListOptions{})
	if err != nil {
		return false
	}
	version := ""
	if err := meta.EachListItem(listed, func(item runtime.Object) error {
		version = item.(Object).GetResourceVersion()
		return nil
	}); err != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return version == k.version
}

// want sets the bundle to trust.
func (k *kept[Object]) want(bundle []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = bundle
}

// apply writes the configuration server-side, and fails unless the answer shows that it is stored with the bundle that is
// wanted.
func (k *kept[Object]) apply(ctx context.Context, template func(bundle []byte) any) error {
	k.mu.Lock()
	k.writing = true
	bundle := k.wanted
	k.mu.Unlock()
	defer k.notify()
	stored, err := k.write(ctx, template(bundle))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writing = false
	if err != nil {
		return fmt.Errorf("applying %s: %w", k.name, err)
	}
	k.version, k.written = stored.GetResourceVersion(), stored.GetResourceVersion()
	k.held, k.uid = k.client(stored), stored.GetUID()
	if !bytes.Equal(k.held.CABundle, bundle) {
		return fmt.Errorf("applying %s: it was stored with another caBundle", k.name)
	}
	return nil
}

func (k *kept[Object]) write(ctx context.Context, configuration any) (Object, error) {
	body, err := json.Marshal(configuration)
	if err != nil {
		return k.empty, err
	}
	force := true // the fields we apply are ours, whoever wrote them before
	return k.patch(ctx, k.name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
}

// client returns how API servers call our webhook; nothing where it is not in the configuration.
func (k *kept[Object]) client(configuration Object) admissionregistrationv1.WebhookClientConfig {
	if client := k.caller(configuration); client != nil {
		return *client
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// touched reports whether someone else wrote the configuration, or deleted it, since we last wrote it.
func (k *kept[Object]) touched() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wanted != nil && !k.writing && k.version != k.written
}

// published returns the caBundle the API server holds; nil where the configuration does not exist.
func (k *kept[Object]) published() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held.CABundle
}

// leadsTo reports whether the API server calls the same address, whatever it trusts.
func (k *kept[Object]) leadsTo(want admissionregistrationv1.WebhookClientConfig) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return equality.Semantic.DeepEqual(k.held.URL, want.URL) && equality.Semantic.DeepEqual(k.held.Service, want.Service)
}

func (k *kept[Object]) set(version string, held admissionregistrationv1.WebhookClientConfig) {
	k.mu.Lock()
	changed := version != k.version
	k.version, k.held = version, held
	k.mu.Unlock()
	if changed {
		k.notify()
	}
}

func (k *kept[Object]) Add(added any) error {
	configuration := added.(Object)
	k.mu.Lock()
	k.uid = configuration.GetUID()
	k.mu.Unlock()
	k.set(configuration.GetResourceVersion(), k.client(configuration))
	return nil
}

func (k *kept[Object]) Update(updated any) error { return k.Add(updated) }

func (k *kept[Object]) Delete(any) error {
	k.set("", admissionregistrationv1.WebhookClientConfig{})
	return nil
}

func (k *kept[Object]) Replace(listed []any, _ string) error {
	defer k.once.Do(func() { close(k.synced) })
	if len(listed) == 0 {
		return k.Delete(nil)
	}
	return k.Add(listed[0])
}

func (k *kept[Object]) Resync() error { return nil }
