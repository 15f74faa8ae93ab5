package namespaces

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

const (
	// askTimeout is how long reading one namespace may take: the API server waits three seconds for the answer that depends on it.
	askTimeout = 1500 * time.Millisecond
	// maxAsked bounds how many namespaces are read at a time; askRate and askBurst how many in a second and at once. Callers of the
	// webhook may name any namespace.
	maxAsked = 32
	askRate  = 100
	askBurst = 200
)

// News is what has changed about namespaces.
type News struct {
	Changes []Change
	// Relisted says that the labels of all namespaces are known now.
	Relisted bool
}

// Change is a change of the labels of one namespace. Before it is created, and after it is gone, they are not known.
type Change struct {
	Namespace     string
	Before, After pullsecret.Labels
}

// Cache holds the labels of namespaces. Its methods may be called at any time.
type Cache struct {
	log    *slog.Logger
	client *gentype.ClientWithList[*corev1.Namespace, *corev1.NamespaceList]
	limit  flowcontrol.RateLimiter

	mu        sync.RWMutex
	needed    map[any]bool
	turned    chan struct{} // closed when labels become needed, or are no longer
	known     map[string]labelled
	complete  bool
	told      uint64 // the latest version that the watch has reported
	asked     map[string]*question
	telling   sync.Mutex // keeps news in order
	observers map[*func(News)]struct{}
}

// labelled is what is kept of a namespace.
type labelled struct {
	name    string
	version uint64
	labels  pullsecret.Labels
}

// question is a namespace that is being read. Its labels are set before done is closed.
type question struct {
	done   chan struct{}
	labels pullsecret.Labels
}

// NewCache returns a cache that holds nothing yet.
func NewCache(log *slog.Logger, client *gentype.ClientWithList[*corev1.Namespace, *corev1.NamespaceList]) *Cache {
	return &Cache{
		log: log, client: client, limit: flowcontrol.NewTokenBucketRateLimiter(askRate, askBurst),
		needed: map[any]bool{}, turned: make(chan struct{}), known: map[string]labelled{}, asked: map[string]*question{},
		observers: map[*func(News)]struct{}{},
	}
}

// Need says whether somebody needs labels. They are watched while anybody does.
func (c *Cache) Need(who any, needs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.needed) > 0
	if delete(c.needed, who); needs {
		c.needed[who] = true
	}
	if before != (len(c.needed) > 0) {
		close(c.turned)
		c.turned = make(chan struct{})
	}
}

// Observe calls f with all news, in order. It returns a function that ends that.
func (c *Cache) Observe(f func(News)) (stop func()) {
	c.telling.Lock()
	defer c.telling.Unlock()
	key := &f
	c.observers[key] = struct{}{}
	return func() {
		c.telling.Lock()
		defer c.telling.Unlock()
		delete(c.observers, key)
	}
}

// Run watches while labels are needed, until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.RLock()
		needed, turned := len(c.needed) > 0, c.turned
		c.mu.RUnlock()
		phase, end := context.WithCancel(ctx)
		var watching sync.WaitGroup
		if needed {
			watching.Go(func() { c.watch(phase) })
		}
		select {
		case <-turned:
		case <-ctx.Done():
		}
		end()
		watching.Wait()
		c.clear()
	}
}

func (c *Cache) watch(ctx context.Context) {
	source := reflector.ListWatch(reflector.LogForbidden(c.log, "namespaces"), reflector.Everything, c.client.List, c.client.Watch)
	reflector.Run(ctx, "namespaces", source, &corev1.Namespace{}, &reflector.Store[*corev1.Namespace, labelled]{
		Strip:    strip,
		Put:      c.heard,
		Remove:   func(namespace labelled) { c.tell(func() News { return c.remove(namespace) }) },
		Replaced: c.replaced,
	})
}

// heard takes in what the watch reports about one namespace.
func (c *Cache) heard(namespace labelled) {
	c.tell(func() News {
		c.told = max(c.told, namespace.version)
		return c.put(namespace)
	})
}

// replaced takes in a list of all namespaces.
func (c *Cache) replaced(all []labelled, at latest.Relist) {
	c.tell(func() News {
		c.told = at.Version
		return c.replace(all)
	})
}

func strip(namespace *corev1.Namespace) labelled {
	return labelled{namespace.Name, latest.Version(namespace.ResourceVersion), pullsecret.PackLabels(namespace.Labels)}
}

// Labels returns the labels of a namespace; unknown ones if the cache does not have it.
func (c *Cache) Labels(namespace string) pullsecret.Labels {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[namespace].labels
}

// Complete reports whether the labels of all namespaces are known.
func (c *Cache) Complete() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.complete
}

// Ask returns the labels of a namespace. Those that are not known are read from the API server. They stay unknown if it does not answer
// in time, or if too many namespaces are being read.
func (c *Cache) Ask(ctx context.Context, namespace string) pullsecret.Labels {
	if labels := c.Labels(namespace); labels.Known() {
		return labels
	}
	q := c.question(ctx, namespace)
	if q == nil {
		return pullsecret.Labels{}
	}
	select {
	case <-q.done:
		return q.labels
	case <-ctx.Done():
		return pullsecret.Labels{}
	}
}

// question returns the question about a namespace that is being read, or starts to read it; nil if nobody needs labels, or too many are
// being read.
func (c *Cache) question(ctx context.Context, namespace string) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.asked[namespace]; q != nil {
		return q
	}
	q := &question{done: make(chan struct{})}
	if known := c.known[namespace]; known.labels.Known() {
		q.labels = known.labels
		close(q.done)
		return q
	}
	if len(c.needed) == 0 || len(c.asked) >= maxAsked || !c.limit.TryAccept() {
		return nil
	}
	c.asked[namespace] = q
	go c.read(context.WithoutCancel(ctx), namespace, q)
	return q
}

// read answers a question, unless the watch answers it first.
func (c *Cache) read(ctx context.Context, namespace string, q *question) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := c.client.Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		c.log.Debug("labels of a namespace were not read", "namespace", namespace, "error", err)
	} else {
		c.tell(func() News { return c.found(strip(found)) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[namespace] == q { // there is no such namespace, or nobody needs labels any more
		c.answer(namespace, pullsecret.Labels{})
	}
}

// answer answers the question about a namespace, if there is one. The cache is locked.
func (c *Cache) answer(namespace string, labels pullsecret.Labels) {
	if q := c.asked[namespace]; q != nil {
		delete(c.asked, namespace)
		q.labels = labels
		close(q.done)
	}
}

// tell calls take under the lock, and passes its news on to the observers.
func (c *Cache) tell(take func() News) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	news := take()
	c.mu.Unlock()
	if len(news.Changes) == 0 && !news.Relisted {
		return
	}
	for observe := range c.observers {
		(*observe)(news)
	}
}

// found takes in a namespace that was read. If it is no newer than what the watch has reported, but unknown to the watch, it has been
// deleted since.
func (c *Cache) found(namespace labelled) News {
	if !c.known[namespace.name].labels.Known() && c.complete && namespace.version <= c.told {
		c.answer(namespace.name, namespace.labels)
		return News{}
	}
	return c.put(namespace)
}

func (c *Cache) put(namespace labelled) News {
	c.answer(namespace.name, namespace.labels)
	before := c.known[namespace.name]
	if len(c.needed) == 0 || before.labels.Known() && before.version >= namespace.version {
		return News{}
	}
	c.known[namespace.name] = namespace
	if before.labels == namespace.labels {
		return News{}
	}
	return News{Changes: []Change{{namespace.name, before.labels, namespace.labels}}}
}

func (c *Cache) remove(namespace labelled) News {
	c.told = max(c.told, namespace.version)
	before := c.known[namespace.name]
	if !before.labels.Known() || before.version > namespace.version {
		return News{}
	}
	delete(c.known, namespace.name)
	return News{Changes: []Change{{namespace.name, before.labels, pullsecret.Labels{}}}}
}

// replace takes in all namespaces. One that was read since the list is dropped: the watch will report it.
func (c *Cache) replace(all []labelled) News {
	news, before := News{Relisted: true}, c.known
	c.known, c.complete = make(map[string]labelled, len(all)), true
	for _, namespace := range all {
		c.known[namespace.name] = namespace
		c.answer(namespace.name, namespace.labels)
		if was := before[namespace.name]; was.labels != namespace.labels {
			news.Changes = append(news.Changes, Change{namespace.name, was.labels, namespace.labels})
		}
		delete(before, namespace.name)
	}
	for name, was := range before {
		news.Changes = append(news.Changes, Change{name, was.labels, pullsecret.Labels{}})
	}
	return news
}

// clear forgets everything: what is not watched is soon outdated.
func (c *Cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	c.known, c.complete, c.told = map[string]labelled{}, false, 0
}
