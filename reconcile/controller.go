package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// headStart is what the API server's own watch of namespaces has to be ahead of ours: it makes whoever creates something
	// in a namespace that it has not seen itself yet wait for 50 ms (missingNamespaceWait in its plugin NamespaceLifecycle).
	// Without it that is one birth in thirty.
	headStart = 200 * time.Microsecond
	// settle is how long a Secret that vanished is left alone before it is restored: a namespace that is being deleted
	// loses its Secrets before everybody has heard of its end.
	settle = 100 * time.Millisecond
	// statusDelay gathers what happens at once into one write of the status.
	statusDelay = 100 * time.Millisecond
	// statusPeriod is the least time between two writes of one status.
	statusPeriod = time.Second
)

// Config is what a Controller needs to run.
type Config struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
	Index            *pullsecret.Index
	Follower         *Follower
	// Concurrency is the number of namespaces brought in line at a time.
	Concurrency int
	// ResyncPeriod is how often every namespace is compared anew, should an event ever be missed. It costs no API call
	// where nothing is amiss.
	ResyncPeriod time.Duration
	// Recorder records events on the ImagePullSecrets; it may be nil. Each event stands for many writes, and a cluster in
	// which nothing changes gets none.
	Recorder record.EventRecorder
	// Observer and QueueMetrics are told what happens, for metrics; both may be left out.
	Observer     Observer
	QueueMetrics workqueue.MetricsProvider
}

// Controller brings the cluster in line. It runs on the leader alone, and is made anew for each term.
type Controller struct {
	Config
	writer *writer
	state  *State
	queue  workqueue.TypedRateLimitingInterface[string] // of namespaces
	status *statusWriter
	fights *contention

	mu       sync.Mutex
	watches  map[string]context.CancelFunc // by ImagePullSecret
	seen     map[string]bool               // namespaces brought in line once
	watchers sync.WaitGroup
}

// NewController returns a controller for one term of leadership.
func NewController(config Config) *Controller {
	c := &Controller{
		Config:  config,
		state:   NewState(),
		fights:  newContention(),
		watches: map[string]context.CancelFunc{},
		seen:    map[string]bool{},
	}
	c.queue = newQueue(c.unseen, config.QueueMetrics)
	c.writer = &writer{clients: config.Clients, state: c.state}
	c.status = newStatusWriter(config, c.state, c.retire)
	return c
}

// Progress returns how far each ImagePullSecret has got, as of the last look at it, which is at most a second or so old. It
// never waits for reconciliation.
func (c *Controller) Progress() []Progress { return c.status.board.all() }

// Run brings the cluster in line until ctx ends, and returns once everything it started has stopped.
func (c *Controller) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer c.watchers.Wait()
	defer cancel()

	namespaces, accounts := make(chan struct{}), make(chan struct{})
	c.watchers.Go(func() { c.followNamespaces(ctx, sync.OnceFunc(func() { close(namespaces) })) })
	c.watchers.Go(func() { c.followAccounts(ctx, sync.OnceFunc(func() { close(accounts) })) })
	select {
	case <-c.Follower.Synced():
	case <-ctx.Done():
		return
	}
	defer c.Index.Observe(func(before, after *pullsecret.Rule, name string) { c.ruleChanged(ctx, before, after, name) })()
	for _, rule := range c.Index.Rules().All() {
		c.watchSecrets(ctx, rule.Name)
	}
	c.watchers.Go(func() { c.status.run(ctx) })
	defer c.status.stop()
	for _, synced := range []chan struct{}{namespaces, accounts} {
		select {
		case <-synced:
		case <-ctx.Done():
			return
		}
	}
	c.Log.Info("watches were synced")

	for range c.Concurrency {
		c.watchers.Go(func() { c.work(ctx) })
	}
	c.status.touch(c.Index.Rules().Names()...)
	c.watchers.Go(func() {
		wait.JitterUntilWithContext(ctx, func(context.Context) { c.enqueue(everyNamespace) }, c.ResyncPeriod, 0.2, true)
	})
	<-ctx.Done()
	c.queue.ShutDown()
}

func (c *Controller) followNamespaces(ctx context.Context, synced func()) {
	source := listWatch(c.answered("namespaces", ""), everyObject, c.Clients.Namespaces().List, c.Clients.Namespaces().Watch)
	follow(ctx, "namespaces", source, &corev1.Namespace{}, &feed[*corev1.Namespace, observedNamespace]{
		strip: stripNamespace,
		put: func(namespace observedNamespace) {
			if c.state.PutNamespace(namespace.name, namespace.live) {
				c.queue.AddAfter(namespace.name, headStart)
				c.touch(namespace.name)
			}
		},
		remove: func(namespace observedNamespace) {
			c.state.RemoveNamespace(namespace.name)
			c.forget(namespace.name)
			c.touch(namespace.name)
		},
		replace: func(all []observedNamespace, _ uint64) {
			live := make(map[string]bool, len(all))
			for _, namespace := range all {
				live[namespace.name] = namespace.live
			}
			c.changed(c.state.ReplaceNamespaces(live)...)
			synced()
		},
	})
}

func (c *Controller) followAccounts(ctx context.Context, synced func()) {
	accounts := c.Clients.ServiceAccounts(metav1.NamespaceAll)
	source := listWatch(c.answered("serviceaccounts", ""), everyObject, accounts.List, accounts.Watch)
	follow(ctx, "serviceaccounts", source, &corev1.ServiceAccount{}, &feed[*corev1.ServiceAccount, placed[Account]]{
		strip: stripAccount,
		put: func(account placed[Account]) {
			if c.state.PutAccount(account.namespace, account.object) {
				c.changed(account.namespace)
			}
		},
		remove: func(account placed[Account]) {
			if c.state.RemoveAccount(account.namespace, account.object.Name, account.object.Version) {
				c.fights.forgetAccount(account.namespace, account.object.Name)
				c.touch(account.namespace)
			}
		},
		replace: func(all []placed[Account], version uint64) {
			c.changed(c.state.ReplaceAccounts(byNamespace(all), version)...)
			synced()
		},
	})
}

// watchSecrets starts to watch the Secrets of one ImagePullSecret, unless they are watched already.
func (c *Controller) watchSecrets(ctx context.Context, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, watched := c.watches[name]; watched || ctx.Err() != nil {
		return
	}
	ctx, c.watches[name] = context.WithCancel(ctx)
	c.watchers.Go(func() { c.followSecrets(ctx, pullsecret.SecretName(name)) })
}

func (c *Controller) followSecrets(ctx context.Context, name string) {
	secrets := c.Clients.Secrets(metav1.NamespaceAll)
	source := listWatch(c.answered("secrets", name), named(name), secrets.List, secrets.Watch)
	follow(ctx, "secrets "+name, source, &corev1.Secret{}, &feed[*corev1.Secret, placed[Secret]]{
		strip: stripSecret,
		put: func(secret placed[Secret]) {
			if c.state.PutSecret(secret.namespace, secret.object) {
				c.changed(secret.namespace)
			}
		},
		remove: func(secret placed[Secret]) {
			if c.state.RemoveSecret(secret.namespace, name, secret.object.Version) {
				c.queue.AddAfter(secret.namespace, settle)
				c.touch(secret.namespace)
			}
		},
		replace: func(all []placed[Secret], version uint64) {
			byNamespace := make(map[string]Secret, len(all))
			for _, secret := range all {
				byNamespace[secret.namespace] = secret.object
			}
			c.state.ReplaceSecrets(name, byNamespace, version)
			c.status.touch(strings.TrimPrefix(name, pullsecret.SecretPrefix))
			c.enqueue(everyNamespace) // where it is missing has just become known
		},
	})
}

// ruleChanged compares anew every namespace that the rule concerned or concerns.
func (c *Controller) ruleChanged(ctx context.Context, before, after *pullsecret.Rule, name string) {
	if after != nil {
		c.watchSecrets(ctx, name)
	}
	c.enqueue(func(namespace string) bool {
		return before != nil && before.Namespaces.Matches(namespace) || after != nil && after.Namespaces.Matches(namespace)
	})
	c.status.touch(name)
}

// retire ends the watch of a deleted ImagePullSecret's Secrets once nothing of it is left. Until then the watch tells a
// Secret of ours from one that someone else made under the same name.
func (c *Controller) retire(name string) {
	secret := pullsecret.SecretName(name)
	if c.state.Mentions(secret) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel, watched := c.watches[name]; watched && c.Index.Rules().Get(name) == nil {
		cancel()
		delete(c.watches, name)
		c.state.ForgetSecrets(secret)
		c.status.access.forget(secret)
	}
}

// changed enqueues namespaces of which something changed.
func (c *Controller) changed(namespaces ...string) {
	for _, namespace := range namespaces {
		c.queue.Add(namespace)
	}
	c.touch(namespaces...)
}

// touch notes that the status of every ImagePullSecret that concerns one of these namespaces may have changed.
func (c *Controller) touch(namespaces ...string) {
	for _, rule := range c.Index.Rules().All() {
		if slices.ContainsFunc(namespaces, rule.Namespaces.Matches) {
			c.status.touch(rule.Name)
		}
	}
	for _, name := range c.retiring() {
		c.status.touch(name)
	}
}

// retiring returns the ImagePullSecrets that are watched but no longer there.
func (c *Controller) retiring() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Keys(c.watches)), func(name string) bool { return c.Index.Rules().Get(name) != nil })
}

// enqueue compares the selected live namespaces anew.
func (c *Controller) enqueue(selected func(namespace string) bool) {
	var names []string
	c.state.Each(func(namespace *Namespace) {
		if selected(namespace.Name) {
			names = append(names, namespace.Name)
		}
	})
	for _, name := range names {
		c.queue.Add(name)
	}
}

func everyNamespace(string) bool { return true }

func (c *Controller) unseen(namespace string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.seen[namespace]
}

func (c *Controller) forget(namespace string) {
	c.fights.forget(namespace)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, namespace)
}

func (c *Controller) work(ctx context.Context) {
	for {
		namespace, stopped := c.queue.Get()
		if stopped {
			return
		}
		c.handle(ctx, namespace)
		c.queue.Done(namespace)
	}
}

func (c *Controller) handle(ctx context.Context, namespace string) {
	began := time.Now()
	err := c.sync(ctx, namespace)
	if ctx.Err() == nil {
		c.Observer.synced(resultOf(err), time.Since(began))
	}
	switch {
	case err == nil:
		c.queue.Forget(namespace)
		return
	case ctx.Err() != nil:
		return
	case apierrors.IsConflict(err):
		// Someone wrote first: what is planned next is planned from what they wrote.
		c.Log.Debug("namespace was changed meanwhile", "namespace", namespace, "error", err)
	default:
		c.Log.Warn("namespace was not brought in line", "namespace", namespace, "error", err)
	}
	c.queue.AddRateLimited(namespace)
}

// sync makes the writes that a namespace lacks. One that fails does not keep the others from being made.
func (c *Controller) sync(ctx context.Context, name string) error {
	namespace, found := c.state.View(name)
	if !found {
		return nil
	}
	planned, errs := c.plan(ctx, namespace)
	for _, change := range planned.Changes {
		if fight, until, held := c.fights.held(change, time.Now()); held {
			planned.Problems = append(planned.Problems, contended(change, fight, until, namespace)...)
			c.queue.AddAfter(name, time.Until(until))
			continue
		}
		err := c.write(ctx, change)
		planned.Problems = append(planned.Problems, problemsOf(change, err)...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", change, err))
		}
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for i := range planned.Problems {
		if planned.Problems[i].Since.IsZero() {
			planned.Problems[i].Since = now
		}
	}
	if news := c.state.SetProblems(name, planned.Problems); news || len(planned.Changes) > 0 {
		c.touch(name)
	}
	c.mu.Lock()
	c.seen[name] = true
	c.mu.Unlock()
	return errors.Join(errs...)
}

// plan looks up what the plan cannot know from the watches: the Secrets behind entries that no ImagePullSecret accounts for.
// An entry whose Secret cannot be looked up stays for now, and keeps nothing else from being planned.
func (c *Controller) plan(ctx context.Context, namespace Namespace) (planned Planned, errs []error) {
	rules := c.Index.Rules()
	planned = Plan(rules, namespace, c.state.Watched)
	if len(planned.Unknown) == 0 {
		return planned, nil
	}
	looked := map[string]bool{}
	for _, name := range planned.Unknown {
		secret, err := c.Clients.Secrets(namespace.Name).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err):
			// RBAC can be narrowed to the Secrets of certain names. Whose entry another one is stays unknown, and so it stays.
			c.Log.Debug("entries were left alone: their secret may not be read", "namespace", namespace.Name, "secret", name)
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("looking up secret %s/%s: %w", namespace.Name, name, err))
			continue
		default:
			put(&namespace.Secrets, name, stripSecret(secret).object)
		}
		looked[name] = true
	}
	return Plan(rules, namespace, func(secret string) bool { return looked[secret] || c.state.Watched(secret) }), errs
}
