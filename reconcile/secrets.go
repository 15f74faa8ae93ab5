package reconcile

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// secretWatch watches Secrets. Where all Secrets may be watched, one watch narrowed to our label shows all of ours, whatever their
// number; a name gets a watch of its own only where somebody else has created a Secret under it, to see when that is deleted. Where only
// named Secrets may be watched, there is a watch for each name.
type secretWatch struct {
	*Controller
	source *reflector.StreamSource[*corev1.Secret, *corev1.SecretList] // where the Secrets of each name come from

	mu     sync.Mutex
	byName bool                   // there is a watch for each name
	named  map[string]*namedWatch // the watches of single names, by ImagePullSecret
	ending map[string]bool        // the ImagePullSecrets among them that were deleted, or can no longer be read
	// unlisted are the ImagePullSecrets that existed at the beginning and whose Secrets are not known yet.
	unlisted map[string]bool
}

func newSecretWatch(c *Controller) *secretWatch {
	list := c.Clients.Secrets(metav1.NamespaceAll).List
	return &secretWatch{
		Controller: c,
		source:     reflector.NewStreamSource[*corev1.Secret](list, c.Clients.StreamSecrets, c.Clients.Decoder()),
		named:      map[string]*namedWatch{},
		ending:     map[string]bool{},
		unlisted:   map[string]bool{},
	}
}

// run watches until ctx ends.
func (w *secretWatch) run(ctx context.Context, synced func()) {
	if w.Grants != nil {
		w.Grants.Want(secretNames(w.Index.Rules().Names())...)
		w.watchEach(ctx, true)
		synced()
		return
	}
	for attempts := 1; ctx.Err() == nil; {
		if w.mayWatchAll(ctx, attempts) {
			w.watchEach(ctx, false)
			w.watchIssued(ctx, synced)
			attempts = forbiddenAttempts
			continue
		}
		if ctx.Err() != nil {
			return
		}
		w.Log.Info("secrets are watched by name, with one watch for each name")
		w.watchEach(ctx, true)
		synced()
		if !w.permittedSoon(ctx) {
			return
		}
		attempts = 1
	}
}

// watchEach begins or ceases to have a watch for each name. Existing watches are not ended here.
func (w *secretWatch) watchEach(ctx context.Context, byName bool) {
	w.mu.Lock()
	w.byName = byName
	rules := w.Index.Rules() // not earlier: later ones arrive in want, which has to see byName
	clear(w.unlisted)
	for rule := range rules.All() {
		if _, watched := w.named[rule.Name]; byName && !watched {
			w.unlisted[rule.Name] = true
		}
	}
	w.mu.Unlock()
	if byName {
		for rule := range rules.All() {
			w.watch(ctx, rule.Name)
		}
	}
}

// listed notes that the Secrets of an ImagePullSecret are known, or are no longer needed. w.mu is held.
func (w *secretWatch) listed(imagePullSecret string) {
	if !w.unlisted[imagePullSecret] {
		return
	}
	delete(w.unlisted, imagePullSecret)
	if len(w.unlisted) == 0 {
		w.Log.Info("secrets of every name were listed")
	}
}

// permittedSoon asks a few more times whether all Secrets may be watched: an API server that has just started, or a role that was bound a
// moment late, must not decide for a whole term. It returns false once the permission can no longer be expected, or when ctx ends.
func (w *secretWatch) permittedSoon(ctx context.Context) bool {
	for pause := time.Second; pause <= 16*time.Second; pause *= 2 {
		if backoff.Sleep(ctx, pause); ctx.Err() != nil {
			return false
		}
		if w.permitted(ctx) {
			return ctx.Err() == nil
		}
	}
	return false
}

// forbiddenAttempts is how often in a row, a second apart, the permission to watch all Secrets has to be missing before a watch that was
// permitted is given up: an API server that has just started does not know any roles for a moment.
const forbiddenAttempts = 5

// mayWatchAll asks whether all Secrets may be watched: false once the answer was no that many times in a row, or when ctx ends.
func (w *secretWatch) mayWatchAll(ctx context.Context, attempts int) bool {
	for ; ctx.Err() == nil; attempts-- {
		if w.permitted(ctx) {
			return ctx.Err() == nil
		}
		if attempts == 1 {
			return false
		}
		backoff.Sleep(ctx, time.Second)
	}
	return false
}

// permitted asks whether all Secrets may be watched. Where that question fails, it returns true, and the watch itself shows.
func (w *secretWatch) permitted(ctx context.Context) bool {
	for _, verb := range []string{"list", "watch"} {
		review, err := w.Clients.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "secrets"},
			},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			return false
		}
	}
	return true
}

// watchIssued follows all Secrets of ours, until ctx ends or that is forbidden.
func (w *secretWatch) watchIssued(ctx context.Context, synced func()) {
	ctx, forbidden := context.WithCancel(ctx)
	defer forbidden()
	defer w.state.UnwatchIssued()
	w.watchers.Go(func() { w.retireUnneeded(ctx) })
	secrets := w.Clients.Secrets(metav1.NamespaceAll)
	source := reflector.ListWatch(stopWhenForbidden(forbidden), issued, secrets.List, secrets.Watch)
	reflector.Run(ctx, "secrets", source, &corev1.Secret{}, &reflector.Store[*corev1.Secret, plan.Namespaced[plan.Secret]]{
		LastVersion: w.state.LastVersion(),
		Strip:       plan.StripSecret,
		Put: func(secret plan.Namespaced[plan.Secret]) {
			if issuable(secret) {
				w.partChanged(secret.Namespace, w.state.PutIssued(secret.Namespace, secret.Object))
			}
		},
		Remove: func(secret plan.Namespaced[plan.Secret]) {
			if issuable(secret) && w.state.RemoveIssued(secret.Namespace, secret.Object.Name, secret.Object.Version) {
				w.vanished(secret.Namespace, secret.Object.Name)
			}
		},
		Replaced: func(all []plan.Namespaced[plan.Secret], at latest.Relist) {
			all = slices.DeleteFunc(all, func(secret plan.Namespaced[plan.Secret]) bool { return !issuable(secret) })
			w.changed(w.state.ReplaceIssued(plan.ByNamespace(all), at)...)
			synced()
		},
	})
}

// issued selects the Secrets that have our label.
func issued(options *metav1.ListOptions) {
	options.LabelSelector = labels.Set(v1.ManagedLabels()).String()
}

// stopWhenForbidden returns a function that ends a watch that is not, or no longer, permitted.
func stopWhenForbidden(stop func()) func(verb string, err error) {
	return func(_ string, err error) {
		if apierrors.IsForbidden(err) {
			stop()
		}
	}
}

// issuable reports whether a Secret's name is one that an ImagePullSecret can have issued: our label is on other objects, too.
func issuable(secret plan.Namespaced[plan.Secret]) bool {
	return strings.HasPrefix(secret.Object.Name, pullsecret.SecretPrefix)
}

// vanished schedules the namespace of a Secret that is gone, so that the Secret is restored after a moment if it is still wanted.
func (w *secretWatch) vanished(namespace, secret string) {
	w.queue.AddAfter(plan.NamespaceKey(namespace), restoreDelay)
	w.enqueueStatuses(namespace)
	w.status.Enqueue(pullsecret.ImagePullSecretName(secret))
}

// answered returns a function that records how the API server answers lists and watches of a resource. secret is the name of the watched
// Secrets, and is empty for other resources.
func (c *Controller) answered(resource, secret string) func(verb string, err error) {
	explain := c.logForbidden[resource]
	return func(verb string, err error) {
		explain(verb, err)
		c.status.Answered(plan.WatchRequest{Verb: verb, Resource: resource, Secret: secret}, err)
	}
}
