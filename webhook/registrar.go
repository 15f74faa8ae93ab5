package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	admissionregistrationclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

// fieldManager is the name under which our fields of the configurations are recorded.
const fieldManager = "tcr-assistant"

// Registrar writes both webhook configurations and keeps them as they were written. It does so itself, once the webhook can
// answer: an installation cannot race it, and no other tool sees a caBundle that drifts. Applied server-side, the
// configurations keep the fields that others have added to them.
type Registrar struct {
	log      *slog.Logger
	template Template

	mutating   *kept[*admissionregistrationv1.MutatingWebhookConfiguration]
	validating *kept[*admissionregistrationv1.ValidatingWebhookConfiguration]
	changed    chan struct{}

	mu     sync.Mutex
	wanted []byte // the bundle that Publish was last asked for; nil while another replica publishes
}

// NewRegistrar returns a registrar of the configurations that template describes. onChange is called when what Published
// returns may have changed; it must not block.
func NewRegistrar(log *slog.Logger, client admissionregistrationclient.AdmissionregistrationV1Interface, template Template, onChange func()) *Registrar {
	r := &Registrar{log: log, template: template, changed: make(chan struct{}, 1)}
	notify := func() {
		onChange()
		select {
		case r.changed <- struct{}{}:
		default: // one is on its way already
		}
	}
	mutating, validating := client.MutatingWebhookConfigurations(), client.ValidatingWebhookConfigurations()
	r.mutating = newKept(MutatingConfiguration, &admissionregistrationv1.MutatingWebhookConfiguration{}, mutating.Patch,
		listWatch(MutatingConfiguration, mutating.List, mutating.Watch), mutatingBundle, notify)
	r.validating = newKept(ValidatingConfiguration, &admissionregistrationv1.ValidatingWebhookConfiguration{}, validating.Patch,
		listWatch(ValidatingConfiguration, validating.List, validating.Watch), validatingBundle, notify)
	return r
}

// Publish makes both configurations trust exactly bundle, and returns once the API server has answered that it stored them
// like this. From then on Run restores what others change in them, until Withdraw.
func (r *Registrar) Publish(ctx context.Context, bundle []byte) error {
	r.mu.Lock()
	r.wanted = bundle
	r.mu.Unlock()
	return r.apply(ctx, bundle)
}

// Withdraw ends the keeping of the configurations: another replica does it from now on. They stay as they are.
func (r *Registrar) Withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = nil
}

// Published returns the caBundle of each configuration as the API server has it, nil for one that does not exist.
func (r *Registrar) Published() [][]byte {
	return [][]byte{r.mutating.published(), r.validating.published()}
}

// Reference names the mutating webhook's configuration, as the subject of events.
func (r *Registrar) Reference() *corev1.ObjectReference {
	r.mutating.mu.Lock()
	defer r.mutating.mu.Unlock()
	return &corev1.ObjectReference{
		APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration",
		Name: MutatingConfiguration, UID: r.mutating.uid,
	}
}

// WaitForSync returns once both configurations, or their absence, are known, or with an error when ctx ends first.
func (r *Registrar) WaitForSync(ctx context.Context) error {
	for _, synced := range []chan struct{}{r.mutating.synced, r.validating.synced} {
		select {
		case <-synced:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Run watches both configurations until ctx ends, and restores them while this replica publishes them.
func (r *Registrar) Run(ctx context.Context) {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	watchers.Go(func() { r.mutating.follow(ctx) })
	watchers.Go(func() { r.validating.follow(ctx) })
	backoff := newBackoff()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-retry:
		}
		retry = nil
		if err := r.restore(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("webhook configurations were not restored", "error", err)
			retry = time.After(backoff.Step())
			continue
		}
		backoff = newBackoff()
	}
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 8, Cap: 10 * time.Second}
}

// restore applies the configurations again if others wrote to one since we did. That costs nothing but a request where
// they left our fields alone.
func (r *Registrar) restore(ctx context.Context) error {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	if wanted == nil || !r.mutating.touched() && !r.validating.touched() {
		return nil
	}
	r.log.Info("webhook configurations were changed by someone else, restoring them")
	return r.apply(ctx, wanted)
}

func (r *Registrar) apply(ctx context.Context, bundle []byte) error {
	body, err := json.Marshal(r.template.Validating(bundle))
	if err != nil {
		return fmt.Errorf("encoding %s: %w", ValidatingConfiguration, err)
	}
	if err := r.validating.apply(ctx, body, bundle); err != nil {
		return err
	}
	if body, err = json.Marshal(r.template.Mutating(bundle)); err != nil {
		return fmt.Errorf("encoding %s: %w", MutatingConfiguration, err)
	}
	return r.mutating.apply(ctx, body, bundle)
}

// mutatingBundle returns the caBundle of our webhook in the configuration.
func mutatingBundle(configuration *admissionregistrationv1.MutatingWebhookConfiguration) []byte {
	for _, webhook := range configuration.Webhooks {
		if webhook.Name == mutatingWebhook {
			return webhook.ClientConfig.CABundle
		}
	}
	return nil
}

// validatingBundle returns the caBundle of our webhook in the configuration.
func validatingBundle(configuration *admissionregistrationv1.ValidatingWebhookConfiguration) []byte {
	for _, webhook := range configuration.Webhooks {
		if webhook.Name == validatingWebhook {
			return webhook.ClientConfig.CABundle
		}
	}
	return nil
}
