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

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

// managed is one configuration: what the API server holds of it, and how to write it.
type managed[Configuration latest.Kind] struct {
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
func (m *managed[Configuration]) want(bundle []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = bundle
}

func (m *managed[Configuration]) bundle() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted
}

// apply writes the configuration server-side, and fails unless the answer shows that it is stored with the bundle that is
// wanted.
func (m *managed[Configuration]) apply(ctx context.Context, template func(bundle []byte) any) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	bundle := m.bundle()
	body, err := json.Marshal(template(bundle))
	if err != nil {
		return fmt.Errorf("encoding %s: %w", m.name, err)
	}
	stored, err := m.Write(func() (Configuration, error) {
		// Force: the fields we apply are ours, whoever wrote them before.
		options := metav1.PatchOptions{FieldManager: v1.FieldManager, Force: new(true)}
		return m.patch(ctx, m.name, types.ApplyPatchType, body, options)
	})
	if err != nil {
		return fmt.Errorf("applying %s: %w", m.name, err)
	}
	m.written = stored.GetResourceVersion()
	if !bytes.Equal(m.client(stored).CABundle, bundle) {
		return fmt.Errorf("applying %s: it was stored with another caBundle", m.name)
	}
	return nil
}

// changedByOthers reports whether someone else wrote the configuration, or deleted it, since we last wrote it.
func (m *managed[Configuration]) changedByOthers() bool {
	m.writing.Lock()
	defer m.writing.Unlock()
	return m.bundle() != nil && m.Get().Version() != m.written
}

// client returns how API servers call our webhook; nothing where it is not in the configuration.
func (m *managed[Configuration]) client(configuration Configuration) admissionregistrationv1.WebhookClientConfig {
	if client := m.caller(configuration); client != nil {
		return *client
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// current returns how API servers call our webhook; nothing where the configuration does not exist.
func (m *managed[Configuration]) current() admissionregistrationv1.WebhookClientConfig {
	if seen := m.Get(); seen.Exists {
		return m.client(seen.Object)
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// published returns the caBundle the API server holds; nil where the configuration does not exist.
func (m *managed[Configuration]) published() []byte { return m.current().CABundle }

// leadsTo reports whether the API server calls the same address, whatever it trusts.
func (m *managed[Configuration]) leadsTo(want admissionregistrationv1.WebhookClientConfig) bool {
	current := m.current()
	return equality.Semantic.DeepEqual(current.URL, want.URL) && equality.Semantic.DeepEqual(current.Service, want.Service)
}

// uid returns the configuration's; blank where it does not exist.
func (m *managed[Configuration]) uid() types.UID {
	if seen := m.Get(); seen.Exists {
		return seen.Object.GetUID()
	}
	return ""
}
