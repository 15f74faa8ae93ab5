package registration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/latest"
)

// kept is one configuration: what the API server holds of it, and how to write it.
type kept[Configuration latest.Kind] struct {
	*latest.Object[Configuration]
	name   string
	patch  func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (Configuration, error)
	caller func(Configuration) *admissionregistrationv1.WebhookClientConfig

	// writing is held while a write is under way: its echo may come before its answer, and is not somebody else's doing.
	writing sync.Mutex
	written string // its resourceVersion after our last write

	mu     sync.Mutex
	wanted []byte // the bundle that API servers are to trust; nil until we know one
}

// want sets the bundle to trust.
func (k *kept[Configuration]) want(bundle []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = bundle
}

func (k *kept[Configuration]) bundle() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wanted
}

// apply writes the configuration server-side, and fails unless the answer shows that it is stored with the bundle that is
// wanted.
func (k *kept[Configuration]) apply(ctx context.Context, template func(bundle []byte) any) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	bundle := k.bundle()
	body, err := json.Marshal(template(bundle))
	if err != nil {
		return fmt.Errorf("encoding %s: %w", k.name, err)
	}
	stored, err := k.Write(func() (Configuration, error) {
		force := true // the fields we apply are ours, whoever wrote them before
		return k.patch(ctx, k.name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	})
	if err != nil {
		return fmt.Errorf("applying %s: %w", k.name, err)
	}
	k.written = stored.GetResourceVersion()
	if !bytes.Equal(k.client(stored).CABundle, bundle) {
		return fmt.Errorf("applying %s: it was stored with another caBundle", k.name)
	}
	return nil
}

// touched reports whether someone else wrote the configuration, or deleted it, since we last wrote it.
func (k *kept[Configuration]) touched() bool {
	k.writing.Lock()
	defer k.writing.Unlock()
	return k.bundle() != nil && k.Get().Version() != k.written
}

// client returns how API servers call our webhook; nothing where it is not in the configuration.
func (k *kept[Configuration]) client(configuration Configuration) admissionregistrationv1.WebhookClientConfig {
	if client := k.caller(configuration); client != nil {
		return *client
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// held returns how API servers call our webhook; nothing where the configuration does not exist.
func (k *kept[Configuration]) held() admissionregistrationv1.WebhookClientConfig {
	if seen := k.Get(); seen.Exists {
		return k.client(seen.Object)
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// published returns the caBundle the API server holds; nil where the configuration does not exist.
func (k *kept[Configuration]) published() []byte { return k.held().CABundle }

// leadsTo reports whether the API server calls the same address, whatever it trusts.
func (k *kept[Configuration]) leadsTo(want admissionregistrationv1.WebhookClientConfig) bool {
	held := k.held()
	return equality.Semantic.DeepEqual(held.URL, want.URL) && equality.Semantic.DeepEqual(held.Service, want.Service)
}

// uid returns the configuration's; blank where it does not exist.
func (k *kept[Configuration]) uid() types.UID {
	if seen := k.Get(); seen.Exists {
		return seen.Object.GetUID()
	}
	return ""
}
