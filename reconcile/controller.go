package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/namespaces"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/reconcile/status"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// restoreDelay is how long to wait before a Secret that vanished is restored: a namespace that is being deleted loses its Secrets before
// its deletion is known everywhere.
const restoreDelay = 100 * time.Millisecond

// Config is what a Controller needs to run.
type Config struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
	Index            *pullsecret.Index
	Informer         *informer.Informer
	// Concurrency is the number of namespaces that are reconciled at a time.
	Concurrency int
	// ResyncPeriod is how often every namespace is compared again, in case an event was missed. It costs no API call where nothing is wrong.
	ResyncPeriod time.Duration
	// Labels are the labels of namespaces, watched while some rule selects by them; nil where no rule ever does.
	Labels *namespaces.Cache
	// Recorder records events on the ImagePullSecrets; it may be nil. One event stands for many writes, and a cluster in which nothing
	// changes gets none.
	Recorder record.EventRecorder
	// Grants obtains permission for Secrets by name; nil where a role already grants it for all Secrets.
	Grants Grants
	// Derived returns why the derived attachments are outdated, nil where they are not, and a channel that is closed once that changes. It
	// may be nil.
	Derived func() (*pullsecret.Outdated, <-chan struct{})
	// Validity returns the result of the last check of a rule's credential, nil where it has not been checked. It may be nil.
	Validity func(rule *pullsecret.Rule) *credential.Validity
	// Reached returns how far a rule's registry is reachable from its private network, nil where that is not known yet; ReachChanged returns
	// a channel that is closed once one of these answers changes. Both may be nil.
	Reached      func(rule *pullsecret.Rule) *pullsecret.Reach
	ReachChanged func() <-chan struct{}
	// Healing reports on the pods that ImagePullSecrets heal; it may be nil.
	Healing Healing
	// Observer and QueueMetrics receive what happens, for metrics; both may be left out.
	Observer     Observer
	QueueMetrics workqueue.MetricsProvider
}

// Controller reconciles the cluster. It runs on the leader alone, and each term has a new one.
type Controller struct {
	Config
	writer  *writer
	state   *plan.State
	queue   *queue
	term    context.Context // ends with the term
	status  statusWriter
	repairs *plan.RepairBackoff
	secrets *secretWatch
	lookups plan.Lookups
	// refusals are the writes that the API server refuses; logged limits log lines that say the same.
	refusals *plan.Refusals
	logged   *logLimiter

	logForbidden map[string]func(verb string, err error) // logs a missing permission, by resource

	mu       sync.Mutex
	seen     map[string]bool            // namespaces that were reconciled once
	odd      map[string]map[string]bool // objects whose odd label was reported, by namespace
	watchers sync.WaitGroup
}

// statusWriter receives what may have changed the status of ImagePullSecrets, and the results of our requests.
type statusWriter interface {
	Enqueue(imagePullSecrets ...string)
	Wrote(change plan.Change, repairs int, now time.Time)
	Answered(request plan.WatchRequest, err error)
	Withheld(secret string, err error)
	Unwatched(secret string)
	Progress() []plan.Progress
	Run(ctx context.Context)
	Stop()
}

// NewController returns a controller for one term of leadership.
func NewController(config Config) *Controller {
	c := &Controller{
		Config:  config,
		state:   plan.NewState(),
		repairs: plan.NewRepairBackoff(), refusals: plan.NewRefusals(),
		seen: map[string]bool{}, odd: map[string]map[string]bool{},

		logForbidden: map[string]func(verb string, err error){},
		logged:       newLogLimiter(),
	}
	for _, resource := range []string{"namespaces", "serviceaccounts", "secrets"} {
		c.logForbidden[resource] = reflector.LogForbidden(config.Log, resource)
	}
	if config.Labels != nil {
		c.state.LabelsFrom(config.Labels)
	}
	c.queue = newQueue(c.unseen, config.QueueMetrics)
	c.writer = &writer{clients: config.Clients, state: c.state, grants: config.Grants, timeout: changeTimeout}
	c.status = status.NewWriter(status.Config{
		Log: config.Log, Client: config.ImagePullSecrets, Index: config.Index, Informer: config.Informer, State: c.state,
		Gone: c.retire, Busy: func() bool { return c.queue.Len() > config.Concurrency },
		Derived: config.Derived, Validity: config.Validity, Reached: config.Reached, Healing: healingOf(config.Healing),
		Recorder: config.Recorder, QueueMetrics: config.QueueMetrics,
	})
	c.secrets = newSecretWatch(c)
	return c
}

// Progress returns how far each ImagePullSecret has got, about a second ago at most. It never waits for reconciliation.
func (c *Controller) Progress() []plan.Progress { return c.status.Progress() }

// Issued returns the checksums of what the Secrets of a rule hold; false where not all of them are known.
func (c *Controller) Issued(rule *pullsecret.Rule) (sums map[[32]byte]bool, known bool) {
	return c.state.Sums(rule)
}

// Checked notes that the credential of an ImagePullSecret was checked.
func (c *Controller) Checked(imagePullSecret string) { c.status.Enqueue(imagePullSecret) }

// Run reconciles the cluster until ctx ends, and returns once everything it started has stopped.
func (c *Controller) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer c.watchers.Wait()
	defer c.status.Stop()
	defer c.queue.ShutDown()
	defer cancel()

	c.term = ctx
	var watched []<-chan struct{}
	for _, watch := range []func(context.Context, func()){c.watchNamespaces, c.watchAccounts} {
		watched = append(watched, c.begin(ctx, watch))
	}
	if !waitFor(ctx, c.Informer.Synced()) {
		return
	}
	defer c.Index.Observe(func(change pullsecret.Change) { c.ruleChanged(ctx, change) })()
	if c.Labels != nil {
		defer c.Labels.Observe(c.labelsChanged)()
	}
	watched = append(watched, c.begin(ctx, c.secrets.run))
	c.watchers.Go(func() { c.status.Run(ctx) })
	c.watchers.Go(func() { c.watchDerived(ctx) })
	c.watchers.Go(func() { c.watchReach(ctx) })
	c.watchers.Go(func() { c.watchHealing(ctx) })
	if !waitFor(ctx, watched...) {
		return
	}
	c.Log.Info("watches were synced")

	c.everyoneIsSeen()
	for range c.Concurrency {
		c.watchers.Go(func() { c.work(ctx) })
	}
	c.status.Enqueue(c.Index.Rules().Names()...)
	c.watchers.Go(func() {
		wait.JitterUntilWithContext(ctx, func(context.Context) { c.enqueue(everywhere) }, c.ResyncPeriod, 0.2, true)
	})
	c.watchers.Go(func() { c.probe(ctx) })
	<-ctx.Done()
}

// begin runs a watch until ctx ends. The channel is closed once the watch has delivered what existed at the start.
func (c *Controller) begin(ctx context.Context, watch func(ctx context.Context, synced func())) <-chan struct{} {
	synced := make(chan struct{})
	c.watchers.Go(func() { watch(ctx, sync.OnceFunc(func() { close(synced) })) })
	return synced
}

// waitFor returns once all channels are closed; false when ctx ends first.
func waitFor(ctx context.Context, channels ...<-chan struct{}) bool {
	for _, channel := range channels {
		select {
		case <-channel:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (c *Controller) watchNamespaces(ctx context.Context, synced func()) {
	client := c.Clients.Namespaces()
	source := reflector.ListWatch(c.answered("namespaces", ""), reflector.Everything, client.List, client.Watch)
	reflector.Run(ctx, "namespaces", source, &corev1.Namespace{}, &reflector.Store[*corev1.Namespace, plan.NamespaceMeta]{
		Strip: plan.StripNamespace,
		Put: func(namespace plan.NamespaceMeta) {
			changed, another := c.state.PutNamespace(namespace)
			if another {
				c.forget(namespace.Name)
			}
			if changed {
				c.queue.AddNew(namespace.Name)
				c.enqueueStatuses(namespace.Name)
			}
		},
		Remove: func(namespace plan.NamespaceMeta) {
			c.state.RemoveNamespace(namespace.Name)
			c.forget(namespace.Name)
			c.enqueueStatuses(namespace.Name)
		},
		Replaced: func(all []plan.NamespaceMeta, _ latest.Relist) {
			changed, gone := c.state.ReplaceNamespaces(all)
			for _, namespace := range gone {
				c.forget(namespace)
			}
			c.changed(changed...)
			c.enqueueStatuses(gone...)
			synced()
		},
	})
}

func (c *Controller) watchAccounts(ctx context.Context, synced func()) {
	accounts := c.Clients.ServiceAccounts(metav1.NamespaceAll)
	source := reflector.ListWatch(c.answered("serviceaccounts", ""), reflector.Everything, accounts.List, accounts.Watch)
	type store = reflector.Store[*corev1.ServiceAccount, plan.Namespaced[plan.Account]]
	reflector.Run(ctx, "serviceaccounts", source, &corev1.ServiceAccount{}, &store{
		Strip: plan.StripAccount,
		Put: func(account plan.Namespaced[plan.Account]) {
			c.Index.Bar(account.Namespace, account.Object.Name, account.Object.BarsPods())
			if c.state.PutAccount(account.Namespace, account.Object) {
				c.accountChanged(account)
			}
		},
		Remove: func(account plan.Namespaced[plan.Account]) {
			c.Index.Bar(account.Namespace, account.Object.Name, false)
			if c.state.RemoveAccount(account.Namespace, account.Object.Name, account.Object.Version) {
				c.repairs.ForgetAccount(account.Namespace, account.Object.Name)
				c.accountChanged(account)
			}
		},
		Replaced: func(all []plan.Namespaced[plan.Account], at latest.Relist) {
			c.Index.BarExactly(plan.BarringPods(all))
			c.changed(c.state.ReplaceAccounts(plan.ByNamespace(all), at)...)
			synced()
		},
	})
}

// ruleChanged enqueues every namespace that the rule selected or selects. A rule that can no longer be read leaves everything as it is: a
// comparison would forget which writes were refused, and they would be retried each time somebody breaks and fixes the rule.
func (c *Controller) ruleChanged(ctx context.Context, change pullsecret.Change) {
	c.secrets.want(ctx, change.Name, change.After != nil)
	if c.Index.Rules().Invalid(change.Name) != nil {
		c.status.Enqueue(change.Name)
		return
	}
	for _, rule := range []*pullsecret.Rule{change.Before, change.After} {
		if rule != nil {
			c.enqueue(rule.Namespaces)
		}
	}
	if change.Unknown {
		c.changed(c.state.Mentioning(pullsecret.SecretName(change.Name))...)
	}
	c.lookups.ForgetSecret(pullsecret.SecretName(change.Name))
	c.status.Enqueue(change.Name)
}

// labelsChanged enqueues the namespaces whose labels have changed. A rule that no longer matches has something to remove there, and fewer
// namespaces to count.
func (c *Controller) labelsChanged(news namespaces.News) {
	rules := c.Index.Rules()
	for _, change := range news.Changes {
		c.queue.AddNew(change.Namespace)
		for _, labels := range []pullsecret.Labels{change.Before, change.After} {
			for _, rule := range rules.In(change.Namespace, labels) {
				if rule.Namespaces.Labelled() {
					c.status.Enqueue(rule.Name)
				}
			}
		}
	}
	if !news.Relisted {
		return
	}
	for rule := range rules.All() {
		if rule.Namespaces.Labelled() {
			c.status.Enqueue(rule.Name) // it could not be counted until now
		}
	}
}

// retire ends the watch of a deleted ImagePullSecret's Secrets once nothing of it is left. Until then, the watch distinguishes a Secret
// of ours from one that someone else created under the same name.
func (c *Controller) retire(name string) {
	secret := pullsecret.SecretName(name)
	if c.secrets.watches(name) && c.Index.Rules().Get(name) == nil && len(c.state.Mentioning(secret)) == 0 && c.secrets.retireEnding(name) {
		c.status.Unwatched(secret)
	}
}

// watchDerived enqueues the status of the ImagePullSecrets whose derived attachments are outdated, or were until now.
func (c *Controller) watchDerived(ctx context.Context) {
	var before *pullsecret.Outdated
	for c.Derived != nil && ctx.Err() == nil {
		problem, changed := c.Derived()
		for _, name := range c.Index.Rules().Names() {
			if before.Concerns(name) || problem.Concerns(name) {
				c.status.Enqueue(name)
			}
		}
		before = problem
		waitFor(ctx, changed)
	}
}

// watchReach enqueues the status of the ImagePullSecrets that ask for a private network, whenever the answer of Reached changes.
func (c *Controller) watchReach(ctx context.Context) {
	for c.ReachChanged != nil && ctx.Err() == nil {
		changed := c.ReachChanged()
		for rule := range c.Index.Rules().All() {
			if rule.Registry != nil && rule.Registry.Network != nil {
				c.status.Enqueue(rule.Name)
			}
		}
		waitFor(ctx, changed)
	}
}

// everyoneIsSeen marks every existing namespace as seen: those that are created from now on overtake them.
func (c *Controller) everyoneIsSeen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Each(everywhere, func(namespace *plan.Namespace) { c.seen[namespace.Name] = true })
}

func (c *Controller) unseen(namespace string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.seen[namespace]
}

func (c *Controller) forget(namespace string) {
	c.repairs.ForgetNamespace(namespace)
	c.lookups.ForgetNamespace(namespace)
	c.refusals.ForgetNamespace(namespace)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, namespace)
	delete(c.odd, namespace)
}
