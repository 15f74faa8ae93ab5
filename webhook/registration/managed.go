package registration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
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
	kind   string
	path   string // the path on which API servers call the webhook
	patch  func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (Configuration, error)
	caller func(Configuration) *admissionregistrationv1.WebhookClientConfig
	render func(template Template, bundle []byte) Configuration

	// writing is held while a write is under way: the watch may report our write before its answer arrives, and that must not pass
	// for somebody else's.
	writing sync.Mutex
	written string // its resourceVersion after our last write

	stale  atomic.Bool // its content should change
	led    atomic.Bool // it has pointed API servers here, since this process began
	mu     sync.Mutex
	wanted []byte // the bundle that API servers should trust; nil until one is known
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

// apply writes the configuration by server-side apply, from the template that current returns. It fails unless the answer shows that
// the configuration is stored with the wanted bundle.
func (m *managed[Configuration]) apply(
	ctx context.Context, current func(ctx context.Context, name string) (Template, error),
) (err error) {
	if m.stale.Swap(false) {
		defer func() {
			if err != nil {
				m.stale.Store(true)
			}
		}()
	}
	template, err := current(ctx, m.name)
	if err != nil {
		return fmt.Errorf("applying %s: %w", m.name, err)
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	bundle := m.bundle()
	body, err := json.Marshal(m.render(template, bundle))
	if err != nil {
		return fmt.Errorf("encoding %s: %w", m.name, err)
	}
	stored, err := m.Write(func() (Configuration, error) {
		// Force, since the fields that we apply are ours, whoever wrote them before.
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

// outdated reports whether the configuration must be written: somebody else has written or deleted it since our last write, or its
// content should change.
func (m *managed[Configuration]) outdated() bool {
	if m.stale.Load() {
		return m.bundle() != nil
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	return m.bundle() != nil && m.Get().Version() != m.written
}

// outdate notes that the content of the configuration should change.
func (m *managed[Configuration]) outdate() { m.stale.Store(true) }

// client returns how API servers call our webhook, by this configuration; the zero value if the webhook is not in it.
func (m *managed[Configuration]) client(configuration Configuration) admissionregistrationv1.WebhookClientConfig {
	if client := m.caller(configuration); client != nil {
		return *client
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// current returns how API servers call our webhook now; the zero value if the configuration does not exist.
func (m *managed[Configuration]) current() admissionregistrationv1.WebhookClientConfig {
	if seen := m.Get(); seen.Exists {
		return m.client(seen.Object)
	}
	return admissionregistrationv1.WebhookClientConfig{}
}

// published returns the caBundle the API server holds; nil where the configuration does not exist.
func (m *managed[Configuration]) published() []byte { return m.current().CABundle }

// leadsHere returns nil if API servers call the address that the template says, whatever certificates they trust.
func (m *managed[Configuration]) leadsHere(template Template) error {
	current, want := m.current(), template.clientConfig(m.path, nil)
	if !equality.Semantic.DeepEqual(current.URL, want.URL) || !equality.Semantic.DeepEqual(current.Service, want.Service) {
		return fmt.Errorf("%s does not point here", m.name)
	}
	m.led.Store(true)
	return nil
}

// hasLed reports whether leadsHere has ever returned nil.
func (m *managed[Configuration]) hasLed() bool { return m.led.Load() }

// absent reports whether the configuration is known not to exist.
func (m *managed[Configuration]) absent() bool {
	seen := m.Get()
	return seen.Known && !seen.Exists
}

// changes returns a channel that is closed once the configuration has changed.
func (m *managed[Configuration]) changes() <-chan struct{} { return m.Get().Changed }

// reference returns a reference to the configuration, without a UID if it does not exist.
func (m *managed[Configuration]) reference() *corev1.ObjectReference {
	reference := &corev1.ObjectReference{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: m.kind, Name: m.name}
	if seen := m.Get(); seen.Exists {
		reference.UID = seen.Object.GetUID()
	}
	return reference
}
