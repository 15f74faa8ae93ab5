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

const (
	// headStart lets the API server's own watch of namespaces be ahead of ours: it delays writes into a namespace that it has not
	// seen itself yet by 50 ms (missingNamespaceWait in its plugin NamespaceLifecycle). Without it that is one new namespace in
	// thirty.
	headStart = 200 * time.Microsecond
	// restoreDelay is how long a Secret that vanished is left alone before it is restored: a namespace that is being deleted
	// loses its Secrets before everybody knows that it ends.
	restoreDelay = 100 * time.Millisecond
)

// Config is what a Controller needs to run.
type Config struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
	Index            *pullsecret.Index
	Informer         *informer.Informer
	// Concurrency is the number of namespaces brought in line at a time.
	Concurrency int
	// ResyncPeriod is how often every namespace is compared anew, should an event ever be missed. It costs no API call
	// where nothing is wrong.
	ResyncPeriod time.Duration
	// Labels are those of namespaces, watched while some rule selects by them; nil where none ever does.
	Labels *namespaces.Cache
	// Recorder records events on the ImagePullSecrets; it may be nil. Each event stands for many writes, and a cluster in
	// which nothing changes gets none.
	Recorder record.EventRecorder
	// Grants has single names of Secrets permitted; nil where a role grants them without.
	Grants Grants
	// Derived says why what is derived from all ImagePullSecrets is outdated, nil where it is not, and returns a channel that
	// is closed once that changes. It may be nil.
	Derived func() (*pullsecret.Outdated, <-chan struct{})
	// Validity returns what was found out about a rule's credential, nil where nobody has looked. It may be nil.
	Validity func(rule *pullsecret.Rule) *credential.Validity
	// Reached says how far a rule's registry is reached from its private network, nil where that is not known yet; ReachChanged
	// returns a channel that is closed once one of these answers changes. Both may be nil.
	Reached      func(rule *pullsecret.Rule) *pullsecret.Reach
	ReachChanged func() <-chan struct{}
	// Healing says what there is to tell of the pods that ImagePullSecrets would heal; it may be nil.
	Healing Healing
	// Observer and QueueMetrics are told what happens, for metrics; both may be left out.
	Observer     Observer
	QueueMetrics workqueue.MetricsProvider
}

// Controller brings the cluster in line. It runs on the leader alone, and is made anew for each term.
type Controller struct {
	Config
	writer  *writer
	state   *plan.State
	queue   *queue
	term    context.Context // ends with it
	status  statusWriter
	repairs *plan.RepairBackoff
	secrets *secretWatch
	lookups plan.Lookups
	// refusals are the writes that the API server refuses; logged is which lines of the log stand for many.
	refusals *plan.Refusals
	logged   *logLimiter

	logForbidden map[string]func(verb string, err error) // logs a missing permission, by resource

	mu       sync.Mutex
	seen     map[string]bool            // namespaces brought in line once
	odd      map[string]map[string]bool // whose odd label was told of, by namespace
	watchers sync.WaitGroup
}

// statusWriter is told what may have changed the status of ImagePullSecrets, and what became of our requests.
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

// Progress returns how far each ImagePullSecret has got, as of the last look at it, which is at most a second or so old. It
// never waits for reconciliation.
func (c *Controller) Progress() []plan.Progress { return c.status.Progress() }

// Issued returns the sums of what the Secrets of a rule hold; false where they are not all known.
func (c *Controller) Issued(rule *pullsecret.Rule) (sums map[[32]byte]bool, known bool) {
	return c.state.Sums(rule)
}

// Checked takes in that something was found out about the credential of an ImagePullSecret.
func (c *Controller) Checked(imagePullSecret string) { c.status.Enqueue(imagePullSecret) }

// Run brings the cluster in line until ctx ends, and returns once everything it started has stopped.
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

// begin runs a watch until ctx ends. The channel is closed once it has told what there was at the start.
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
	source := reflector.ListWatch(c.answered("namespaces", ""), reflector.Everything, c.Clients.Namespaces().List, c.Clients.Namespaces().Watch)
	reflector.Run(ctx, "namespaces", source, &corev1.Namespace{}, &reflector.Store[*corev1.Namespace, plan.NamespaceMeta]{
		Strip: plan.StripNamespace,
		Put: func(namespace plan.NamespaceMeta) {
			changed, another := c.state.PutNamespace(namespace)
			if another {
				c.forget(namespace.Name)
			}
			if changed {
				c.queue.AddAfter(plan.NamespaceKey(namespace.Name), headStart)
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
	reflector.Run(ctx, "serviceaccounts", source, &corev1.ServiceAccount{}, &reflector.Store[*corev1.ServiceAccount, plan.Namespaced[plan.Account]]{
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

// ruleChanged compares anew every namespace that the rule concerned or concerns. One that can't be read any more leaves all as it is:
// to compare that would forget what was refused, and whoever breaks and mends it in a loop would have it tried each time.
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

// labelsChanged compares anew the namespaces whose labels are others by now. What matched them before has something to take back, and
// less to count.
func (c *Controller) labelsChanged(news namespaces.News) {
	rules := c.Index.Rules()
	for _, change := range news.Changes {
		c.queue.AddAfter(plan.NamespaceKey(change.Namespace), headStart)
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

// retire ends the watch of a deleted ImagePullSecret's Secrets once nothing of it is left. Until then the watch tells a
// Secret of ours from one that someone else made under the same name.
func (c *Controller) retire(name string) {
	secret := pullsecret.SecretName(name)
	if c.secrets.watches(name) && c.Index.Rules().Get(name) == nil && len(c.state.Mentioning(secret)) == 0 && c.secrets.retireEnding(name) {
		c.status.Unwatched(secret)
	}
}

// watchDerived has the status written of the ImagePullSecrets whose derived attachments are outdated, or were until now.
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

// watchReach has the status written of the ImagePullSecrets whose registry is to be reached from a private network.
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

// everyoneIsSeen marks every namespace that is there as seen: those that are created from now on overtake them.
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
