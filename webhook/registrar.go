package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// fieldManager is the name under which our fields of the configurations are recorded.
const fieldManager = "tcr-assistant"

// Registrar writes both webhook configurations and keeps them as they were written. It does so itself, once the webhook can
// answer: an installation cannot race it, and no other tool sees a caBundle that drifts. Applied server-side, the
// configurations keep the fields that others have added to them.
type Registrar struct {
	log      *slog.Logger
	template Template
	owner    func(context.Context) (*metav1.OwnerReference, error)
	limit    flowcontrol.RateLimiter

	mutating   *kept[*admissionregistrationv1.MutatingWebhookConfiguration]
	validating *kept[*admissionregistrationv1.ValidatingWebhookConfiguration]
	changed    chan struct{}

	mu      sync.Mutex
	keeping bool // this replica publishes
}

// NewRegistrar returns a registrar of the configurations that template describes. owner is asked at each write for the
// template's Owner, since one that was made anew is another one, and whatever names the old one is collected at once; while
// it fails nothing is written. onChange is called when what Published returns may have changed; it must not block.
func NewRegistrar(log *slog.Logger, client *clientset.Clientset, template Template, owner func(context.Context) (*metav1.OwnerReference, error), onChange func()) *Registrar {
	r := &Registrar{log: log, template: template, owner: owner, limit: flowcontrol.NewTokenBucketRateLimiter(writeRate, writeBurst), changed: make(chan struct{}, 1)}
	notify := func() {
		onChange()
		select {
		case r.changed <- struct{}{}:
		default: // one is on its way already
		}
	}
	mutating, validating := client.MutatingWebhookConfigurations(), client.ValidatingWebhookConfigurations()
	r.mutating = newKept(MutatingConfiguration, &admissionregistrationv1.MutatingWebhookConfiguration{}, mutating.Patch,
		clientset.Named(mutating, MutatingConfiguration), mutatingClient, notify)
	r.validating = newKept(ValidatingConfiguration, &admissionregistrationv1.ValidatingWebhookConfiguration{}, validating.Patch,
		clientset.Named(validating, ValidatingConfiguration), validatingClient, notify)
	return r
}

// Assume begins to keep the configurations: from now on, until Withdraw, Run restores what others change in them. What an
// earlier version or an earlier address of this process has left in them is brought up to date at once; which certificates
// they trust is not touched.
func (r *Registrar) Assume(ctx context.Context) error {
	r.mutating.want(r.mutating.published())
	r.validating.want(r.validating.published())
	r.mu.Lock()
	r.keeping = true
	r.mu.Unlock()
	return r.restore(ctx)
}

// Publish makes both configurations trust exactly bundle, and returns once the API server has answered that it stored them
// like this.
func (r *Registrar) Publish(ctx context.Context, bundle []byte) error {
	r.validating.want(bundle)
	r.mutating.want(bundle)
	if err := r.applyValidating(ctx); err != nil {
		return err
	}
	return r.applyMutating(ctx)
}

// Withdraw ends the keeping of the configurations: another replica does it from now on. They stay as they are.
func (r *Registrar) Withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = false
}

// Registered returns nil when both configurations lead API servers here, and why not when they do not.
func (r *Registrar) Registered() error {
	if !r.mutating.leadsTo(r.template.clientConfig(MutatePath, nil)) {
		return fmt.Errorf("%s does not point here", MutatingConfiguration)
	}
	if !r.validating.leadsTo(r.template.clientConfig(ValidatePath, nil)) {
		return fmt.Errorf("%s does not point here", ValidatingConfiguration)
	}
	return nil
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

// WaitForSync returns once both configurations, or their absence, are known as they are in the API now, or with an error
// when ctx ends first. A watch that had to start anew, after an outage, may be behind by long, and to keep the
// configurations as it last showed them would take back what another replica has published since.
func (r *Registrar) WaitForSync(ctx context.Context) error {
	for _, synced := range []chan struct{}{r.mutating.synced, r.validating.synced} {
		select {
		case <-synced:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return wait.PollUntilContextCancel(ctx, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return r.mutating.current(ctx) && r.validating.current(ctx), nil
	})
}

// Run watches both configurations until ctx ends, and restores them while this replica publishes them.
func (r *Registrar) Run(ctx context.Context) {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	watchers.Go(func() { r.mutating.follow(ctx) })
	watchers.Go(func() { r.validating.follow(ctx) })
	backoff := newBackoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
		for ctx.Err() == nil {
			err := r.restore(ctx)
			if err == nil {
				backoff = newBackoff()
				break
			}
			r.log.Warn("webhook configurations were not restored", "error", err)
			// Nothing shortens the pause: the write that failed has told of a change itself.
			select {
			case <-ctx.Done():
			case <-time.After(backoff.Step()):
			}
		}
	}
}

// writeRate and writeBurst bound the writes of configurations, in writes a second and in writes at once: somebody who takes
// back at once whatever is written is not fought at full speed. Ten rotations in a row stay below.
const (
	writeRate  = 2
	writeBurst = 100
)

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 8, Cap: 10 * time.Second}
}

// restore applies each configuration that others wrote to since we did. That costs nothing but a request where they left
// our fields alone.
func (r *Registrar) restore(ctx context.Context) error {
	r.mu.Lock()
	keeping := r.keeping
	r.mu.Unlock()
	if !keeping {
		return nil
	}
	if r.validating.touched() {
		if err := r.applyValidating(ctx); err != nil {
			return err
		}
	}
	if r.mutating.touched() {
		return r.applyMutating(ctx)
	}
	return nil
}

func (r *Registrar) applyValidating(ctx context.Context) error {
	template, err := r.current(ctx)
	if err != nil {
		return fmt.Errorf("applying %s: %w", ValidatingConfiguration, err)
	}
	return r.validating.apply(ctx, func(bundle []byte) any { return template.Validating(bundle) })
}

func (r *Registrar) applyMutating(ctx context.Context) error {
	template, err := r.current(ctx)
	if err != nil {
		return fmt.Errorf("applying %s: %w", MutatingConfiguration, err)
	}
	return r.mutating.apply(ctx, func(bundle []byte) any { return template.Mutating(bundle) })
}

// current returns the template with the owner that there is now, once it may be written.
func (r *Registrar) current(ctx context.Context) (template Template, err error) {
	if err := r.limit.Wait(ctx); err != nil {
		return template, err
	}
	template = r.template
	template.Owner, err = r.owner(ctx)
	return template, err
}

// mutatingClient returns how API servers call our webhook in the configuration; nil where it is not there.
func mutatingClient(configuration *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.WebhookClientConfig {
	for i := range configuration.Webhooks {
		if configuration.Webhooks[i].Name == mutatingWebhook {
			return &configuration.Webhooks[i].ClientConfig
		}
	}
	return nil
}

// validatingClient returns how API servers call our webhook in the configuration; nil where it is not there.
func validatingClient(configuration *admissionregistrationv1.ValidatingWebhookConfiguration) *admissionregistrationv1.WebhookClientConfig {
	for i := range configuration.Webhooks {
		if configuration.Webhooks[i].Name == validatingWebhook {
			return &configuration.Webhooks[i].ClientConfig
		}
	}
	return nil
}
