package registration

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// Registrar writes the webhook configurations and keeps them as written. The manager does that itself, once the webhook can answer: an
// installation cannot race it, and no other tool sees a caBundle that drifts. Since they are applied server-side, the configurations
// keep the fields that others have added to them.
type Registrar struct {
	log      *slog.Logger
	template Template
	complete func(ctx context.Context, configuration string, template *Template) error
	limit    flowcontrol.RateLimiter

	configurations []configuration // in the order in which they are written
	restoring      chan struct{}   // holds a token when one of them has changed since restore looked
	changed        chan struct{}   // the same for Changed's reader

	mu      sync.Mutex // guards keeping and template.Pods
	keeping bool       // this replica keeps the configurations
}

// configuration is one webhook configuration, of either kind.
type configuration interface {
	Run(ctx context.Context)
	CatchUp(ctx context.Context) error
	want(bundle []byte)
	apply(ctx context.Context, current func(ctx context.Context, name string) (Template, error)) error
	outdated() bool
	outdate()
	published() []byte
	leadsHere(template Template) error
	hasLed() bool
	absent() bool
	changes() <-chan struct{}
	reference() *corev1.ObjectReference
}

// NewRegistrar returns a registrar of the configurations that template describes. complete is called at each write of one to set what
// only the cluster knows: Self and Owner. (An owner that was recreated has another UID, and what names the old one is garbage-collected
// at once.) While complete fails, nothing is written.
func NewRegistrar(
	log *slog.Logger, client *clientset.Clientset, template Template,
	complete func(ctx context.Context, configuration string, template *Template) error,
) *Registrar {
	r := &Registrar{
		log: log, template: template, complete: complete,
		limit:     flowcontrol.NewTokenBucketRateLimiter(writeRate, writeBurst),
		restoring: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	validating := client.ValidatingWebhookConfigurations()
	r.configurations = append(r.configurations, &managed[*admissionregistrationv1.ValidatingWebhookConfiguration]{
		Object: latest.NewObject[*admissionregistrationv1.ValidatingWebhookConfiguration](log, ValidatingConfiguration,
			clientset.Named(validating, ValidatingConfiguration)),
		name: ValidatingConfiguration, kind: "ValidatingWebhookConfiguration", path: webhook.ValidatePath,
		patch: validating.Patch, caller: validatingClient, render: Template.Validating,
	})
	if template.ValidatingOnly {
		return r
	}
	mutating := client.MutatingWebhookConfigurations()
	r.configurations = append(r.configurations, &managed[*admissionregistrationv1.MutatingWebhookConfiguration]{
		Object: latest.NewObject[*admissionregistrationv1.MutatingWebhookConfiguration](log, MutatingConfiguration,
			clientset.Named(mutating, MutatingConfiguration)),
		name: MutatingConfiguration, kind: "MutatingWebhookConfiguration", path: webhook.MutatePath,
		patch: mutating.Patch, caller: mutatingClient, render: Template.Mutating,
	})
	return r
}

// Assume begins to keep the configurations: from now on, until Withdraw, Run restores what others change in them. What an earlier
// version or an earlier address of this process has left in them is brought up to date at once. The certificates that they trust
// stay as they are.
func (r *Registrar) Assume(ctx context.Context) error {
	for _, one := range r.configurations {
		one.want(one.published())
	}
	r.mu.Lock()
	r.keeping = true
	r.mu.Unlock()
	err := r.restore(ctx)
	if err != nil {
		wake(r.restoring) // Run tries again
	}
	return err
}

// Publish makes the configurations trust exactly bundle, and returns once the API server has confirmed that they are stored like
// this.
func (r *Registrar) Publish(ctx context.Context, bundle []byte) error {
	for _, one := range r.configurations {
		one.want(bundle)
	}
	for _, one := range r.configurations {
		if err := one.apply(ctx, r.current); err != nil {
			wake(r.restoring) // restores at once what others changed meanwhile
			return err
		}
	}
	return nil
}

// AskAboutPods makes API servers ask about pods that list pull secrets of their own, or stop asking, as soon as Run gets to it. wanted
// says which of the two. It is called under a lock, so that of several callers the last one uses the newest answer.
func (r *Registrar) AskAboutPods(wanted func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pods := wanted()
	if r.template.Pods == pods {
		return
	}
	r.template.Pods = pods
	for _, one := range r.configurations {
		one.outdate()
	}
	wake(r.restoring)
}

// Withdraw stops keeping the configurations, since another replica does so from now on. They stay as they are.
func (r *Registrar) Withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = false
}

// Registered returns nil if the configurations point API servers here, and otherwise why they do not. One that does not exist is
// ignored, since API servers call nobody because of it. With whole set, it is ignored only if it has pointed here before: then it may
// have been deleted by an update that does without it, during which requests from the others must still be served.
func (r *Registrar) Registered(whole bool) error {
	template := r.rendered()
	for _, one := range r.configurations {
		if one.absent() && (!whole || one.hasLed()) {
			continue
		}
		if err := one.leadsHere(template); err != nil {
			return err
		}
	}
	return nil
}

// Absent reports whether none of the configurations exists, so that API servers call nobody.
func (r *Registrar) Absent() bool {
	return !slices.ContainsFunc(r.configurations, func(one configuration) bool { return !one.absent() })
}

// Published returns the caBundle of each configuration as the API server has it, nil for one that does not exist.
func (r *Registrar) Published() [][]byte {
	var bundles [][]byte
	for _, one := range r.configurations {
		bundle := one.published()
		if bundle == nil && !one.absent() {
			bundle = []byte{}
		}
		bundles = append(bundles, bundle)
	}
	return bundles
}

// Changed holds a token once what Published returns may have changed, while Run runs. It has one reader.
func (r *Registrar) Changed() <-chan struct{} { return r.changed }

// Reference returns the configuration that events are about: the mutating one, if there is one.
func (r *Registrar) Reference() *corev1.ObjectReference {
	return r.configurations[len(r.configurations)-1].reference()
}

// WaitForSync returns once the current configurations, or their absence, are known, or with an error when ctx ends first. If they were
// kept as a lagging watch has shown them, that would undo what another replica has published since.
func (r *Registrar) WaitForSync(ctx context.Context) error {
	for _, one := range r.configurations {
		if err := one.CatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run watches the configurations until ctx ends, and restores them while this replica keeps them.
func (r *Registrar) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, one := range r.configurations {
		running.Go(func() { one.Run(ctx) })
		running.Go(func() { r.announce(ctx, one) })
	}
	pauses := backoff.Between(firstPause, longestPause)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.restoring:
		}
		for ctx.Err() == nil {
			err := r.restore(ctx)
			if err == nil {
				pauses = backoff.Between(firstPause, longestPause)
				break
			}
			r.log.Warn("webhook configurations were not restored", "error", err)
			// A change does not shorten the pause: it may come from our own write.
			backoff.Sleep(ctx, pauses.Step())
		}
	}
}

// announce passes on that a configuration has changed, until ctx ends.
func (r *Registrar) announce(ctx context.Context, one configuration) {
	changes := one.changes()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		changes = one.changes()
		wake(r.restoring)
		wake(r.changed)
	}
}

func wake(waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default: // a token is there already
	}
}

// writeRate and writeBurst bound the writes of configurations, in writes a second and in writes at once: if somebody undoes every
// write at once, neither side goes at full speed. Ten rotations in a row stay below these bounds.
const (
	writeRate  = 2
	writeBurst = 100
	// firstPause and longestPause bound the pauses between failures.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// restore applies each configuration that others have written since we did, or whose content should change. If others left our fields
// alone, that costs only a request.
func (r *Registrar) restore(ctx context.Context) error {
	r.mu.Lock()
	keeping := r.keeping
	r.mu.Unlock()
	if !keeping {
		return nil
	}
	for _, one := range r.configurations {
		if one.outdated() {
			if err := one.apply(ctx, r.current); err != nil {
				return err
			}
		}
	}
	return nil
}

// current waits until a configuration may be written, and returns the template to write into it.
func (r *Registrar) current(ctx context.Context, name string) (Template, error) {
	template := r.rendered()
	if err := r.limit.Wait(ctx); err != nil {
		return template, err
	}
	err := r.complete(ctx, name, &template)
	return template, err
}

// rendered returns the current template.
func (r *Registrar) rendered() Template {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.template
}

// mutatingClient returns how API servers call our webhook, by the configuration; nil if the webhook is not in it.
func mutatingClient(configuration *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.WebhookClientConfig {
	for i := range configuration.Webhooks {
		if configuration.Webhooks[i].Name == mutatingWebhook {
			return &configuration.Webhooks[i].ClientConfig
		}
	}
	return nil
}

// validatingClient returns how API servers call our webhook, by the configuration; nil if the webhook is not in it.
func validatingClient(
	configuration *admissionregistrationv1.ValidatingWebhookConfiguration,
) *admissionregistrationv1.WebhookClientConfig {
	for i := range configuration.Webhooks {
		if configuration.Webhooks[i].Name == validatingWebhook {
			return &configuration.Webhooks[i].ClientConfig
		}
	}
	return nil
}
