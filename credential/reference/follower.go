package reference

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

const (
	// lookups is how many Secrets are listed by name at a time.
	lookups = 4
	// lookupTimeout is how long one may take.
	lookupTimeout = 10 * time.Second
	// doubtful is how long a refusal does not count: an API server that has just started knows no roles yet.
	doubtful = 3 * time.Second
)

// Role is the Role that permits what a Follower does, in the manager's namespace.
const Role = "tcr-assistant-credentials-role"

// ReasonForbidden is the reason if the manager may not read the Secret.
const ReasonForbidden = string(metav1.StatusReasonForbidden)

// Follower follows the Secrets that ImagePullSecrets refer to. It runs on the leader alone, once in a term.
type Follower struct {
	log       *slog.Logger
	clients   *clientset.Clientset
	namespace string
	index     *pullsecret.Index
	forbidden func(verb string, err error) // logs a missing permission

	changed chan struct{}                                // holds a token once the rules have changed
	queue   workqueue.TypedRateLimitingInterface[string] // of the names of Secrets to list
	cache   struct {                                     // which rules refer to which Secret
		sync.Mutex
		rules       *pullsecret.Rules
		byReference map[string][]*pullsecret.Rule
	}

	mu sync.Mutex // guards what follows, and orders what is supplied
	// era counts the watches: an answer to a request from one era is void in the next. seen is the version of the last relist in this era; 0
	// before the first.
	era  int
	seen uint64
	// known holds the versions of the Secrets that were taken in since then, by name.
	known map[string]uint64
	// refused says why the Secrets may not be watched; nil if they may. since is when the API server first refused; zero if it does not.
	refused *pullsecret.Unread
	since   time.Time
}

// NewFollower returns a Follower for the Secrets of a namespace, which supplies index.
func NewFollower(log *slog.Logger, clients *clientset.Clientset, namespace string, index *pullsecret.Index) *Follower {
	return &Follower{
		log: log, clients: clients, namespace: namespace, index: index,
		forbidden: reflector.LogForbidden(log, "secrets in namespace "+namespace),
		changed:   make(chan struct{}, 1),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond,
			10*time.Second)),
		known: map[string]uint64{},
	}
}

// Run follows the Secrets until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer f.queue.ShutDown()
	defer f.index.Observe(f.observe)()
	for range lookups {
		running.Go(func() { f.work(ctx) })
	}
	var stop context.CancelFunc
	var watching sync.WaitGroup
	defer watching.Wait()
	for {
		switch referred := len(f.referring()) > 0; {
		case referred && stop == nil:
			var watch context.Context
			watch, stop = context.WithCancel(ctx)
			watching.Go(func() { f.watch(watch) })
		case !referred && stop != nil:
			stop()
			watching.Wait()
			stop = nil
		}
		select {
		case <-ctx.Done():
			if stop != nil {
				stop()
			}
			return
		case <-f.changed:
		}
	}
}

// observe takes in a change of the rules. It is called under the index's lock.
func (f *Follower) observe(change pullsecret.Change) {
	if rule := change.After; rule != nil && rule.Reference != "" && !rule.Known() && rule.Unread == nil {
		f.queue.Add(rule.Reference)
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// referring returns the rules that refer to Secrets, by the names of those.
func (f *Follower) referring() map[string][]*pullsecret.Rule {
	f.cache.Lock()
	defer f.cache.Unlock()
	if rules := f.index.Rules(); rules != f.cache.rules {
		f.cache.rules, f.cache.byReference = rules, map[string][]*pullsecret.Rule{}
		for rule := range rules.All() {
			if rule.Reference != "" {
				f.cache.byReference[rule.Reference] = append(f.cache.byReference[rule.Reference], rule)
			}
		}
	}
	return f.cache.byReference
}

// found is what a list or watch says of a Secret at a version.
type found struct {
	name    string
	version uint64
	// secret has only the fields that are used; it is nil if no rule referred to the Secret at that time.
	secret *corev1.Secret
}

// candidates selects the Secrets that hold a credential, or may be meant to. The API server does not even send the others, such as
// certificates and Helm releases, which contain all values.
func candidates(options *metav1.ListOptions) {
	var others []fields.Selector
	for _, kind := range []corev1.SecretType{"helm.sh/release.v1", corev1.SecretTypeTLS, corev1.SecretTypeServiceAccountToken} {
		others = append(others, fields.OneTermNotEqualSelector("type", string(kind)))
	}
	options.FieldSelector = fields.AndSelectors(others...).String()
}

// watch watches the Secrets of the namespace until ctx ends.
func (f *Follower) watch(ctx context.Context) {
	defer f.unwatch()
	secrets := f.clients.Secrets(f.namespace)
	source := reflector.ListWatch(f.answered, candidates, secrets.List, secrets.Watch)
	reflector.Run(ctx, "credentials", source, &corev1.Secret{}, &reflector.Store[*corev1.Secret, found]{
		Strip: f.strip, Put: f.put, Remove: f.remove, Replaced: f.replace,
	})
}

// put takes in a Secret as it is now.
func (f *Follower) put(told found) {
	if told.secret == nil {
		f.lookUpReferred(told.name) // a rule may refer to it by now
		return
	}
	f.take(told)
}

// remove takes in that a Secret is gone.
func (f *Follower) remove(told found) { f.take(found{told.name, told.version, nil}) }

func (f *Follower) strip(secret *corev1.Secret) found {
	told := found{name: secret.Name, version: latest.Version(secret.ResourceVersion)}
	if len(f.referring()[secret.Name]) > 0 {
		told.secret = credential.Referred(secret)
	}
	return told
}

// unwatch takes in that the watch has ended.
func (f *Follower) unwatch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.era++
	f.seen, f.refused, f.since = 0, nil, time.Time{}
	clear(f.known)
}

// take takes in what the watch reports of a Secret.
func (f *Follower) take(told found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if told.version <= max(f.seen, f.known[told.name]) {
		return // a list has overtaken it
	}
	f.supply(told)
}

// supply supplies the rules that refer to a Secret. f.mu is held.
func (f *Follower) supply(told found) {
	credentials := map[*pullsecret.Rule]pullsecret.Credential{}
	for _, rule := range f.referring()[told.name] {
		credentials[rule] = f.credentialOf(rule, told.secret)
	}
	if len(credentials) > 0 {
		f.known[told.name] = told.version
		f.hand(credentials)
	}
}

// credentialOf returns what a rule gets from its Secret; nil is a missing one. f.mu is held.
func (f *Follower) credentialOf(rule *pullsecret.Rule, secret *corev1.Secret) pullsecret.Credential {
	given := credential.Of(types.NamespacedName{Namespace: f.namespace, Name: rule.Reference}, secret, rule.Servers)
	if given.Unread == nil {
		given.Unread = f.refused
	}
	return given
}

// hand supplies the index with credentials, and logs those that can no longer be read.
func (f *Follower) hand(credentials map[*pullsecret.Rule]pullsecret.Credential) {
	for rule, given := range credentials {
		if given.Unread != nil && !given.Unread.Equal(rule.Unread) {
			f.log.Warn("credential was not read", "imagePullSecret", rule.Name, "namespace", f.namespace, "secret", rule.Reference, "error",
				given.Unread.Message)
		}
		if why := given.Expiry.Unread; why != "" && why != rule.Expiry.Unread {
			f.log.Warn("end of credential was not read", "imagePullSecret", rule.Name, "namespace", f.namespace, "secret", rule.Reference, "error",
				why)
		}
	}
	f.index.Supply(credentials)
}

// replace takes in a list of all Secrets.
func (f *Follower) replace(all []found, at latest.Relist) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.Rewound {
		f.era++
		clear(f.known)
	}
	listed := make(map[string]found, len(all))
	for _, told := range all {
		listed[told.name] = told
	}
	credentials := map[*pullsecret.Rule]pullsecret.Credential{}
	for name, rules := range f.referring() {
		told, exists := listed[name]
		switch {
		case f.known[name] > at.Version:
			continue // what was listed by its name is newer
		case exists && told.secret == nil:
			f.queue.Add(name) // no rule referred to it yet
			continue
		}
		for _, rule := range rules {
			credentials[rule] = f.credentialOf(rule, told.secret)
		}
	}
	f.seen = max(at.Version, 1)
	for name, version := range f.known {
		if version <= f.seen {
			delete(f.known, name)
		}
	}
	f.hand(credentials)
}

// answered takes in how the API server answers lists and watches. While it refuses, what is known is kept.
func (f *Follower) answered(verb string, err error) {
	f.forbidden(verb, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil && verb == "watch":
		f.since = time.Time{}
		f.refuse(nil)
	case !apierrors.IsForbidden(err):
	case f.since.IsZero():
		f.since = time.Now()
	case time.Since(f.since) > doubtful && f.refused == nil:
		f.refuse(&pullsecret.Unread{
			Reason: ReasonForbidden, Object: f.namespace + "/*",
			Message: fmt.Sprintf("the manager may not read secrets in namespace %s: grant it the verbs list and watch on them there, by the Role %s",
				f.namespace, Role),
		})
	}
}

// refuse takes in why the Secrets may not be watched, nil if they may, and passes it to all rules that refer to one. f.mu is held.
func (f *Follower) refuse(why *pullsecret.Unread) {
	before := f.refused
	f.refused = why
	if before.Equal(why) {
		return
	}
	credentials := map[*pullsecret.Rule]pullsecret.Credential{}
	for _, rules := range f.referring() {
		for _, rule := range rules {
			if rule.Unread == nil || rule.Unread.Equal(before) { // else the rule has another problem
				credentials[rule] = pullsecret.Credential{Config: rule.Config, Expiry: rule.Expiry, Unread: why}
			}
		}
	}
	f.hand(credentials)
}
