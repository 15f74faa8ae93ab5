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

// knowledge is the source of answers to admission requests: on the leader the rules, which are never older than what is derived from them,
// and elsewhere what the leader has derived, which contains no credential.
type knowledge struct {
	follower *derived.Follower
	labels   *namespaces.Cache
	attaches bool // this replica answers admission requests about accounts

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

// needLabels has the labels of namespaces watched if answers about accounts depend on them here.
func (k *knowledge) needLabels() {
	k.mu.Lock()
	defer k.mu.Unlock()
	leads := k.rules.Load() != nil // then the term decides whether it needs them, by the rules
	attached := k.follower.Get()   // under the lock, so that the last caller sees the newest
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

// lead answers admission requests from the rules of this term from now on. All rules must be known.
func (k *knowledge) lead(rules *pullsecret.Index) {
	k.turn(rules)
	k.needLabels()
}

// follow drops the rules of a term that has ended. What they attach is used until it is known what another leader derives.
func (k *knowledge) follow(rules *pullsecret.Index) {
	if k.rules.Load() == rules {
		k.follower.Assume(rules.Rules().Attachments())
		k.turn(nil)
		k.needLabels()
	}
	rules.Forget()
	// Collects what is garbage now, and returns the free pages to the system, which clears them. The next leader need not wait for that.
	go func() {
		runtime.GC() // the first collection keeps what is pooled
		debug.FreeOSMemory()
	}()
}

// known returns why it is not known yet what is attached; nil once it is.
func (k *knowledge) known() error {
	if k.rules.Load() != nil {
		return nil
	}
	return k.follower.Known()
}

// attachments returns what is attached now.
func (k *knowledge) attachments() webhook.Attachments {
	if rules := k.rules.Load(); rules != nil {
		return rules.Rules().Attaching()
	}
	if attachments := k.follower.Get(); attachments != nil {
		return attachments
	}
	return pullsecret.NewAttachments() // no request is answered from it: see known
}

// Secrets returns the names of the Secrets that a service account should list.
func (k *knowledge) Secrets(namespace string, labels func() pullsecret.Labels, serviceAccount string) []string {
	return k.attachments().Secrets(namespace, labels, serviceAccount)
}

// PodSecrets returns the names of the Secrets that are added to a pod that lists pull secrets of its own. At the beginning of a term, while
// it is not known which accounts' pods get nothing, that is what the previous leader has derived.
func (k *knowledge) PodSecrets(pod *pullsecret.Pod, labels func() pullsecret.Labels) []string {
	if rules := k.rules.Load(); rules != nil && rules.Rules().BarredKnown() {
		return rules.PodSecrets(pod, labels)
	}
	if attachments := k.follower.Get(); attachments != nil {
		return attachments.PodSecrets(pod, labels)
	}
	return nil
}

// Sources returns the ImagePullSecrets that issue a credential for a server in some of these namespaces.
func (k *knowledge) Sources(server string, namespaces pullsecret.Namespaces) []pullsecret.Source {
	return k.attachments().Sources(server, namespaces)
}
