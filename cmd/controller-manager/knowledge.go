package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/tcr-assistant/tcr-assistant/derived"
	"github.com/tcr-assistant/tcr-assistant/namespaces"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// knowledge is what admission is answered from: on the leader the rules, which are never older than what is derived from them, and
// elsewhere what the leader has derived, which holds no credential.
type knowledge struct {
	follower *derived.Follower
	labels   *namespaces.Cache
	attaches bool // admission requests of accounts are answered here

	rules atomic.Pointer[pullsecret.Index] // while this replica leads, once it knows them all

	mu      sync.Mutex
	changed chan struct{} // closed when rules has changed
}

var _ webhook.Attachments = (*knowledge)(nil)

func newKnowledge(follower *derived.Follower, labels *namespaces.Cache, attaches bool) *knowledge {
	k := &knowledge{follower: follower, labels: labels, attaches: attaches, changed: make(chan struct{})}
	follower.Observe(k.needLabels)
	return k
}

// needLabels has the labels of namespaces watched where accounts of which this replica is asked depend on them.
func (k *knowledge) needLabels() {
	k.mu.Lock()
	defer k.mu.Unlock()
	leads := k.rules.Load() != nil // then the term needs them, as the rules say
	attached := k.follower.Get()   // asked for here, so that whoever comes last knows the newest
	k.labels.Need(k, k.attaches && !leads && attached != nil && attached.Labelled())
}

// labelsOf returns the labels of a namespace.
func (k *knowledge) labelsOf(ctx context.Context, namespace string) pullsecret.Labels {
	return k.labels.Ask(ctx, namespace)
}

// run follows what the leader derives, whenever this replica does not lead, until ctx ends.
func (k *knowledge) run(ctx context.Context) {
	for ctx.Err() == nil {
		leads, changed := k.look()
		phase, end := context.WithCancel(ctx)
		var following sync.WaitGroup
		if !leads {
			following.Go(func() { k.follower.Run(phase) })
		}
		wait(ctx, changed)
		end()
		following.Wait()
	}
}

func (k *knowledge) look() (leads bool, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rules.Load() != nil, k.changed
}

func (k *knowledge) turn(rules *pullsecret.Index) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rules.Store(rules)
	close(k.changed)
	k.changed = make(chan struct{})
}

// lead has admission answered from the rules of this term, which must all be known.
func (k *knowledge) lead(rules *pullsecret.Index) {
	k.turn(rules)
	k.needLabels()
}

// follow forgets the rules of a term that has ended. What they attach stays known until it is known what another leader derives.
func (k *knowledge) follow(rules *pullsecret.Index) {
	if k.rules.Load() == rules {
		k.follower.Assume(rules.Rules().Attachments())
		k.turn(nil)
		k.needLabels()
	}
	rules.Forget()
	// What is garbage now is collected, and the pages that become free are returned to the system, which empties them. The next
	// leader need not wait for that.
	go func() {
		runtime.GC() // what is pooled is kept once
		debug.FreeOSMemory()
	}()
}

// known returns why it is not known what is attached; nil when it is.
func (k *knowledge) known() error {
	if k.rules.Load() != nil {
		return nil
	}
	return k.follower.Known()
}

// attachments returns what is attached at this moment.
func (k *knowledge) attachments() webhook.Attachments {
	if rules := k.rules.Load(); rules != nil {
		return rules.Rules().Attaching()
	}
	if attachments := k.follower.Get(); attachments != nil {
		return attachments
	}
	return pullsecret.NewAttachments() // nobody is answered from it: see known
}

// Secrets returns the names of the Secrets that a service account should list.
func (k *knowledge) Secrets(namespace string, labels func() pullsecret.Labels, serviceAccount string) []string {
	return k.attachments().Secrets(namespace, labels, serviceAccount)
}

// PodSecrets returns the names of the Secrets that a pod is given that lists pull secrets of its own. At the beginning of a term, while it
// is not known which accounts' pods get nothing, it is what the leader of before has derived.
func (k *knowledge) PodSecrets(pod *pullsecret.Pod, labels func() pullsecret.Labels) []string {
	if rules := k.rules.Load(); rules != nil && rules.Rules().BarredKnown() {
		return rules.PodSecrets(pod, labels)
	}
	if attachments := k.follower.Get(); attachments != nil {
		return attachments.PodSecrets(pod, labels)
	}
	return nil
}

// Sources returns the ImagePullSecrets that give a server a credential in some of these namespaces.
func (k *knowledge) Sources(server string, namespaces pullsecret.Namespaces) []pullsecret.Source {
	return k.attachments().Sources(server, namespaces)
}
