package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
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
	at      uint64                                      // the newest resourceVersion that was seen of it, or of its deletion
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
	k.written = stored.GetResourceVersion()
	held := k.client(stored)
	k.take(k.written, k.written, held, stored.GetUID())
	if !bytes.Equal(held.CABundle, bundle) {
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

// take takes in the configuration as it was at a version, unless newer news have overtaken these: that of its deletion may
// come before the answer to the write that made it. It reports whether anything changed. k.mu is held.
func (k *kept[Object]) take(at, version string, held admissionregistrationv1.WebhookClientConfig, uid types.UID) (changed bool) {
	number, err := strconv.ParseUint(at, 10, 64)
	if err == nil && number < k.at {
		return false
	}
	changed = version != k.version
	k.at, k.version, k.held, k.uid = number, version, held, uid
	return changed
}

func (k *kept[Object]) set(at, version string, held admissionregistrationv1.WebhookClientConfig, uid types.UID) {
	k.mu.Lock()
	changed := k.take(at, version, held, uid)
	k.mu.Unlock()
	if changed {
		k.notify()
	}
}

func (k *kept[Object]) Add(added any) error {
	configuration := added.(Object)
	version := configuration.GetResourceVersion()
	k.set(version, version, k.client(configuration), configuration.GetUID())
	return nil
}

func (k *kept[Object]) Update(updated any) error { return k.Add(updated) }

// Delete is told of the version at which it was deleted.
func (k *kept[Object]) Delete(deleted any) error {
	return k.Replace(nil, deleted.(Object).GetResourceVersion())
}

// Replace takes in that this is all there is at that version.
func (k *kept[Object]) Replace(listed []any, version string) error {
	defer k.once.Do(func() { close(k.synced) })
	if len(listed) > 0 {
		return k.Add(listed[0])
	}
	k.set(version, "", admissionregistrationv1.WebhookClientConfig{}, "")
	return nil
}

func (k *kept[Object]) Resync() error { return nil }
