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

// Registrar writes the webhook configurations and keeps them as they were written. It does so itself, once the webhook can
// answer: an installation cannot race it, and no other tool sees a caBundle that drifts. Applied server-side, the
// configurations keep the fields that others have added to them.
type Registrar struct {
	log      *slog.Logger
	template Template
	complete func(ctx context.Context, configuration string, template *Template) error
	limit    flowcontrol.RateLimiter

	configurations []configuration // in the order in which they are written
	restoring      chan struct{}   // holds a token when one of them has changed since restore looked
	changed        chan struct{}   // and since Changed's reader looked

	mu      sync.Mutex // guards template.Pods, too
	keeping bool       // this replica publishes
}

// configuration is one webhook configuration, of whichever kind.
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

// NewRegistrar returns a registrar of the configurations that template describes. complete is asked at each write of one to set
// what only the cluster knows: Self, and Owner, since one that was made anew is another one, and whatever names the old one is
// collected at once. While it fails nothing is written.
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

// Assume begins to keep the configurations: from now on, until Withdraw, Run restores what others change in them. What an
// earlier version or an earlier address of this process has left in them is brought up to date at once; which certificates
// they trust is not touched.
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

// Publish makes the configurations trust exactly bundle, and returns once the API server has answered that it stored them
// like this.
func (r *Registrar) Publish(ctx context.Context, bundle []byte) error {
	for _, one := range r.configurations {
		one.want(bundle)
	}
	for _, one := range r.configurations {
		if err := one.apply(ctx, r.current); err != nil {
			wake(r.restoring) // what others changed meanwhile is not left until the next try
			return err
		}
	}
	return nil
}

// AskAboutPods has the mutating webhook asked about pods that list pull secrets of their own, or not any more, as soon as Run gets to it.
// Which of these is asked for here, so that whoever comes last knows the newest.
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

// Withdraw ends the keeping of the configurations: another replica does it from now on. They stay as they are.
func (r *Registrar) Withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = false
}

// Registered returns nil when the configurations lead API servers here, and why not when they do not. One that does not exist is no
// reason, since nobody is called by it, unless whole is set: then each must have led here once. One that was deleted after that
// may have been by an update that goes on without it, during which the others are to be served.
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

// Changed holds a token once what Published returns may have changed, as long as Run runs. It has one reader.
func (r *Registrar) Changed() <-chan struct{} { return r.changed }

// Reference names a configuration as the subject of events: the mutating webhook's, where there is one.
func (r *Registrar) Reference() *corev1.ObjectReference {
	return r.configurations[len(r.configurations)-1].reference()
}

// WaitForSync returns once the configurations, or their absence, are known as they are in the API now, or with an error
// when ctx ends first. To keep them as a watch that is behind has shown them would undo what another replica
// has published since.
func (r *Registrar) WaitForSync(ctx context.Context) error {
	for _, one := range r.configurations {
		if err := one.CatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run watches the configurations until ctx ends, and restores them while this replica publishes them.
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
			// Nothing shortens the pause: a change may be what our own write has made.
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

// writeRate and writeBurst bound the writes of configurations, in writes a second and in writes at once: with
// somebody who undoes every write at once, neither side goes at full speed. Ten rotations in a row stay below.
const (
	writeRate  = 2
	writeBurst = 100
	// firstPause and longestPause are those between failures.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// restore applies each configuration that others wrote to since we did, or that is to say something else. That costs nothing but a request
// where they left our fields alone.
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

// current returns the template as it is to be written into a configuration now, once it may be written.
func (r *Registrar) current(ctx context.Context, name string) (Template, error) {
	template := r.rendered()
	if err := r.limit.Wait(ctx); err != nil {
		return template, err
	}
	err := r.complete(ctx, name, &template)
	return template, err
}

// rendered returns the template of this moment.
func (r *Registrar) rendered() Template {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.template
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
