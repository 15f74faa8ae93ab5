package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
	"github.com/tcr-assistant/tcr-assistant/credential/reference"
	"github.com/tcr-assistant/tcr-assistant/derived"
	"github.com/tcr-assistant/tcr-assistant/events"
	"github.com/tcr-assistant/tcr-assistant/healing/eviction"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/metrics"
	"github.com/tcr-assistant/tcr-assistant/namespaces"
	"github.com/tcr-assistant/tcr-assistant/preflight"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/webhook"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

// manager holds the parts of the process.
type manager struct {
	log              *slog.Logger
	options          *options
	client           *clientset.Clientset
	imagePullSecrets *typed.Client
	attachments      *typed.DerivedAttachments
	owner            ownerLookup
	cloud            *cloud

	leads     atomic.Bool // in a term of leadership
	labels    *namespaces.Cache
	known     *knowledge
	registrar *registration.Registrar
	serving   *certs.Serving
	callers   *webhook.Callers // nil if anybody may call the webhook
	keeper    *certs.Keeper
	counts    *metrics.Metrics
	recorder  record.EventRecorder
	draining  drain
	fits      chan struct{} // closed once the cluster's definitions are known to keep what is written
	complete  chan struct{} // closed once everything else that is needed is known to exist, too
	servers   *servers
}

// run wires the packages and runs them until ctx ends, or something fails for good. Then it hands over leadership, and after the shutdown
// delay the servers drain.
func run(ctx context.Context, log *slog.Logger, o *options) error {
	// What admission needs runs until background ends, which is after the servers have drained.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	m, err := newManager(background, log, o)
	if err != nil {
		return err
	}
	failed := m.servers.serve(&running)
	running.Go(func() { m.labels.Run(background) })
	if o.webhook {
		running.Go(func() { m.known.run(background) })
		running.Go(func() { m.registrar.Run(background) })
		running.Go(func() { m.serving.Run(background) })
	}
	if m.callers != nil {
		running.Go(func() { m.callers.Run(background) })
	}
	checked, elected := make(chan error, 1), make(chan error, 1)
	running.Go(func() { checked <- m.check(background) })
	campaign, resign := context.WithCancel(ctx)
	defer resign()
	running.Go(func() { elected <- elect(campaign, log, m.client, o, m.owner, m.lead) })

	return errors.Join(m.await(ctx, resign, checked, failed, elected), m.servers.shutdown())
}

// newManager wires the packages and opens the sockets. Events are recorded until ctx ends. It makes no request to the API server.
func newManager(ctx context.Context, log *slog.Logger, o *options) (*manager, error) {
	client, imagePullSecrets, attachments, err := connect(o)
	if err != nil {
		return nil, err
	}
	m := &manager{
		log: log, options: o, client: client, imagePullSecrets: imagePullSecrets, attachments: attachments,
		owner: ownership(log, client, managerRole), labels: namespaces.NewCache(log, client.Namespaces()),
		recorder: events.NewRecorder(ctx, client),
		fits:     make(chan struct{}), complete: make(chan struct{}),
	}
	if m.cloud, err = newCloud(client, o); err != nil {
		return nil, err
	}
	m.known = newKnowledge(derived.NewFollower(log, attachments), m.labels, o.webhook && o.mutating)
	owner := ownership(log, client, webhookRole)
	m.registrar = registration.NewRegistrar(log, client, registration.Template{
		Namespace: o.namespace, URL: o.webhookURL, FailurePolicy: admissionregistrationv1.FailurePolicyType(o.failurePolicy),
		ValidatingOnly: !o.mutating,
	}, identity(log, client, owner))
	if m.serving, err = certs.NewServing(client, certConfig(log, o, owner), m.registrar.Published); err != nil {
		return nil, fmt.Errorf("configuring the serving certificate: %w", err)
	}
	m.counts = metrics.New(version, m.serving.Current)
	m.counts.ObserveClient()
	m.keeper = certs.NewKeeper(client, m.serving, m.registrar,
		m.counts.Certificate().And(events.Certificate(m.recorder, o.certSigner, m.registrar.Reference)))
	admission := webhook.Handler(log, m.known, m.known.labelsOf, m.known.known, m.counts.Admission)
	if o.webhookCA != "" {
		if m.callers, err = webhook.NewCallers(log, o.webhookCA); err != nil {
			return nil, fmt.Errorf("--webhook-client-ca=%s: %w", o.webhookCA, err)
		}
	}
	m.servers, err = listen(log, o, admission, m.counts.Handler(), m.serving.GetCertificate, m.ready)
	if err == nil && m.callers != nil {
		m.callers.Admit(m.servers.webhook)
	}
	return m, err
}

// ready returns why API servers should call another replica; nil if they may call this one. If they call none, a replica that could lead is
// ready, so that a rollout goes on only while the new replicas find all that they need. A replica that does not lead does not wait for the
// webhook to be registered, which is up to the leader: in a rollout that switches the webhook on, an old replica leads until the new ones
// are ready, and never registers it.
func (m *manager) ready() error {
	switch leads := m.leads.Load(); {
	case !m.options.webhook:
		return errors.Join(m.draining.err(), m.checked())
	case !leads && m.registrar.Absent():
		return errors.Join(m.draining.err(), m.checked(), m.known.known())
	default:
		return errors.Join(m.draining.err(), m.known.known(), m.registrar.Registered(leads), m.serving.Ready(time.Now()))
	}
}

// checked returns an error until the cluster is known to have all that is needed.
func (m *manager) checked() error {
	select {
	case <-m.complete:
		return nil
	default:
		return errors.New("it is not yet known whether the cluster has all that is needed")
	}
}

// check checks whether the cluster's definitions keep what is written, and then whether everything else that is needed exists.
func (m *manager) check(ctx context.Context) error {
	if err := definitionsFit(ctx, m.log, m.imagePullSecrets); err != nil {
		return err
	}
	close(m.fits)
	err := m.preflight(ctx)
	if err == nil {
		close(m.complete)
	}
	return err
}

// preflight checks whether what is needed exists.
func (m *manager) preflight(ctx context.Context) error {
	config := preflight.Config{
		Log: m.log, Clients: m.client, Namespace: m.options.namespace, Role: managerRole, Owner: m.owner,
		Tokens: records.Names(), HostsUpdater: m.options.hostsUpdater,
	}
	if m.options.webhook {
		config.Signer, config.WebhookRole = m.options.certSigner, webhookRole
		if m.options.mutating {
			config.MutatingWebhookRole = mutatingWebhookRole
		}
	}
	if m.options.keepSecrets {
		config.SecretsRole = secretsrole.Manager.Name
	}
	if m.options.leaderElect {
		config.Lease = leaseName
	}
	return preflight.Run(ctx, config)
}

// lead is a term of leadership: it does, until ctx ends, what only one replica does at a time.
func (m *manager) lead(ctx context.Context) {
	m.leads.Store(true)
	defer m.leads.Store(false)
	if !wait(ctx, m.fits) {
		return
	}
	// Credentials are known only as long as the term lasts.
	index := pullsecret.NewIndex()
	source := informer.New(m.log, m.imagePullSecrets, index)
	defer m.labels.Need(index, false)
	defer m.known.follow(index)
	defer index.Observe(func(pullsecret.Change) { m.labels.Need(index, index.Rules().Attaching().Labelled()) })()
	attached := derived.NewKeeper(m.log, m.attachments, index, m.owner, m.counts.Derived)
	validity := m.validity(index, source)
	network := m.network(index)
	config := reconcile.Config{
		Log: m.log, Clients: m.client, ImagePullSecrets: m.imagePullSecrets, Index: index, Informer: source, Labels: m.labels,
		Concurrency: m.options.concurrency, ResyncPeriod: m.options.resyncPeriod,
		Recorder: m.recorder, Observer: m.counts.Reconcile(), QueueMetrics: m.counts.Queues(), Derived: attached.Outdated,
		Validity: validity.Validity,
		Reached:  network.Reached, ReachChanged: network.Changed,
	}
	var controller *reconcile.Controller
	evictor := eviction.New(eviction.Config{
		Log: m.log, Clients: m.client, Index: index, Recorder: m.recorder, Observer: m.counts.Healing(),
		View: func(namespace string) (plan.Namespace, bool) { return controller.View(namespace) },
		Refused: func(rule *pullsecret.Rule) bool {
			found := validity.Validity(rule)
			return found != nil && found.Status == metav1.ConditionFalse && found.Generation == rule.Generation
		},
	})
	config.Healing = evictor
	var granted *secretsrole.Keeper
	if m.options.keepSecrets {
		granted = secretsrole.NewKeeper(m.log, m.client, secretsrole.Manager)
		config.Grants = granted
	}
	controller = reconcile.NewController(config)
	defer m.counts.Lead(controller.Progress)() // it leads until all that follows has ended
	var leading sync.WaitGroup
	defer leading.Wait()
	leading.Go(func() { source.Run(ctx) })
	if granted != nil {
		leading.Go(func() { granted.Run(ctx) })
	}
	leading.Go(func() { controller.Run(ctx) })
	if !wait(ctx, source.Synced()) {
		return
	}
	leading.Go(func() { m.cloud.keeper(m.log, m.imagePullSecrets, index, controller).Run(ctx) })
	leading.Go(func() { validity.Run(ctx, controller.Checked) })
	leading.Go(func() { network.Run(ctx) })
	leading.Go(func() { reference.NewFollower(m.log, m.client, m.options.namespace, index).Run(ctx) })
	leading.Go(func() { evictor.Run(ctx) })
	m.known.lead(index)
	if m.options.webhook {
		leading.Go(func() { m.keep(ctx, index) })
	}
	leading.Go(func() { attached.Run(ctx) })
}

// keep keeps the webhook configurations and the certificate that they trust, until ctx ends.
func (m *manager) keep(ctx context.Context, index *pullsecret.Index) {
	defer m.registrar.Withdraw()
	ask := func(pullsecret.Change) {
		m.registrar.AskAboutPods(func() bool { return index.Rules().Attaching().AsksOfPods() })
	}
	defer index.Observe(ask)()
	ask(pullsecret.Change{})
	if m.registrar.WaitForSync(ctx) != nil {
		return
	}
	if err := m.registrar.Assume(ctx); err != nil {
		m.log.Warn("webhook configurations were not brought up to date, trying again", "error", err)
	}
	m.keeper.Run(ctx)
}

// await returns once the process must end and leadership is handed over: nil if ctx has ended, or else the reason.
func (m *manager) await(ctx context.Context, resign context.CancelFunc, checked, failed, elected <-chan error) error {
	for {
		select {
		case err := <-checked:
			if err != nil {
				resign()
				return errors.Join(err, <-elected)
			}
			checked = nil // everything exists
		case err := <-failed:
			resign()
			return errors.Join(err, <-elected)
		case err := <-elected:
			return err
		case <-ctx.Done():
			return m.withdraw(elected, failed)
		}
	}
}

// withdraw hands over leadership, and goes on answering for the shutdown delay, until API servers call another replica.
func (m *manager) withdraw(elected, failed <-chan error) error {
	m.log.Info("shutdown was requested")
	m.draining.begin()
	return errors.Join(<-elected, sleep(m.options.shutdownDelay, failed))
}

func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleep waits for the delay, unless a server fails meanwhile.
func sleep(delay time.Duration, failed <-chan error) error {
	select {
	case <-time.After(delay):
		return nil
	case err := <-failed:
		return err
	}
}
