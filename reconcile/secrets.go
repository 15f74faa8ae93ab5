package reconcile

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tcr-assistant/tcr-assistant/feed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// secretWatch watches Secrets. Where all Secrets may be watched, one watch narrowed to our label shows all of ours, whatever
// their number; only the names of which others have made a Secret, too, are watched each by itself, to see when those go.
// Where the permission is for named Secrets alone, there is a watch for each name.
type secretWatch struct {
	*Controller
	few *feed.Few[*corev1.Secret, *corev1.SecretList] // where the Secrets of each name come from

	mu     sync.Mutex
	byName bool                          // there is a watch for each name
	named  map[string]context.CancelFunc // the names watched by themselves, by ImagePullSecret
}

func newSecretWatch(c *Controller) *secretWatch {
	list := c.Clients.Secrets(metav1.NamespaceAll).List
	return &secretWatch{
		Controller: c,
		few:        feed.NewFew[*corev1.Secret](list, c.Clients.StreamSecrets, c.Clients.Decoder()),
		named:      map[string]context.CancelFunc{},
	}
}

// run watches until ctx ends.
func (w *secretWatch) run(ctx context.Context, synced func()) {
	for patience := 1; w.mayWatchAll(ctx, patience); patience = forbiddenFor {
		w.followIssued(ctx, synced)
	}
	if ctx.Err() != nil {
		return
	}
	w.Log.Info("secrets are watched by name, each by itself")
	w.mu.Lock()
	w.byName = true
	w.mu.Unlock()
	for rule := range w.Index.Rules().All() {
		w.watch(ctx, rule.Name)
	}
	synced()
}

// forbiddenFor is how often in a row, a second apart, the permission to watch all Secrets has to be missing for a watch that was
// permitted to be given up: an API server that has just started knows of no roles for a moment.
const forbiddenFor = 5

// mayWatchAll asks whether all Secrets may be watched: false once the answer was no so often in a row, or when ctx ends.
func (w *secretWatch) mayWatchAll(ctx context.Context, patience int) bool {
	for ; ctx.Err() == nil; patience-- {
		if w.permitted(ctx) {
			return ctx.Err() == nil
		}
		if patience == 1 {
			return false
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return false
}

// permitted asks whether all Secrets may be watched. Where nobody answers, it is tried.
func (w *secretWatch) permitted(ctx context.Context) bool {
	for _, verb := range []string{"list", "watch"} {
		review, err := w.Clients.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "secrets"}},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			return false
		}
	}
	return true
}

// followIssued follows all of our Secrets, until ctx ends or that is forbidden.
func (w *secretWatch) followIssued(ctx context.Context, synced func()) {
	ctx, forbidden := context.WithCancel(ctx)
	defer forbidden()
	defer w.state.Blind()
	secrets := w.Clients.Secrets(metav1.NamespaceAll)
	source := feed.ListWatch(stopWhenForbidden(forbidden), issued, secrets.List, secrets.Watch)
	feed.Follow(ctx, "secrets", source, &corev1.Secret{}, &feed.Feed[*corev1.Secret, placed[Secret]]{
		Told:  w.state.Told(),
		Strip: stripSecret,
		Put: func(secret placed[Secret]) {
			if issuable(secret) && w.state.PutIssued(secret.namespace, secret.object) {
				w.changed(secret.namespace)
			}
		},
		Remove: func(secret placed[Secret]) {
			if issuable(secret) && w.state.RemoveIssued(secret.namespace, secret.object.Name, secret.object.Version) {
				w.vanished(secret.namespace, secret.object.Name)
			}
		},
		Replaced: func(all []placed[Secret], at feed.Relist) {
			all = slices.DeleteFunc(all, func(secret placed[Secret]) bool { return !issuable(secret) })
			w.changed(w.state.ReplaceIssued(byNamespace(all), at)...)
			synced()
		},
	})
}

// issued selects the Secrets that bear our label.
func issued(options *metav1.ListOptions) {
	options.LabelSelector = labels.Set{pullsecret.ManagedByLabel: pullsecret.ManagedByValue}.String()
}

// stopWhenForbidden returns what ends a watch that is not, or no longer, permitted.
func stopWhenForbidden(stop func()) func(verb string, err error) {
	return func(_ string, err error) {
		if apierrors.IsForbidden(err) {
			stop()
		}
	}
}

// issuable reports whether a Secret's name is one that an ImagePullSecret can have issued: our label is on other objects, too.
func issuable(secret placed[Secret]) bool {
	return strings.HasPrefix(secret.object.Name, pullsecret.SecretPrefix)
}

// vanished has a Secret that is gone restored, if it is still wanted, after a moment.
func (w *secretWatch) vanished(namespace, secret string) {
	w.queue.AddAfter(namespace, settle)
	w.touch(namespace)
	w.status.touch(imagePullSecretOf(secret))
}

// want has the Secrets of an ImagePullSecret watched.
func (w *secretWatch) want(ctx context.Context, imagePullSecret string) {
	w.mu.Lock()
	byName := w.byName
	w.mu.Unlock()
	if byName {
		w.watch(ctx, imagePullSecret)
	}
}

// watch starts to watch the Secrets of one ImagePullSecret by their name, unless they are watched so already.
func (w *secretWatch) watch(ctx context.Context, imagePullSecret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, watched := w.named[imagePullSecret]; watched || ctx.Err() != nil {
		return
	}
	ctx, w.named[imagePullSecret] = context.WithCancel(ctx)
	w.watchers.Go(func() { w.followNamed(ctx, imagePullSecret) })
}

func (w *secretWatch) followNamed(ctx context.Context, imagePullSecret string) {
	name := pullsecret.SecretName(imagePullSecret)
	feed.FollowFew(ctx, w.few, feed.Named(name), w.answered("secrets", name), &feed.Feed[*corev1.Secret, placed[Secret]]{
		Told:  w.state.Told(),
		Strip: stripSecret,
		Put: func(secret placed[Secret]) {
			if w.state.PutSecret(secret.namespace, secret.object) {
				w.changed(secret.namespace)
			}
		},
		Remove: func(secret placed[Secret]) {
			if w.state.RemoveSecret(secret.namespace, name, secret.object.Version) {
				w.vanished(secret.namespace, name)
			}
		},
		Replaced: func(all []placed[Secret], at feed.Relist) {
			w.changed(w.state.ReplaceSecrets(name, byNamespace(all), at)...)
			w.status.touch(imagePullSecret)
			if rule := w.Index.Rules().Get(imagePullSecret); rule != nil {
				w.enqueue(rule.Namespaces) // where it is missing has just become known
			}
		},
	})
}

// watches reports whether the Secrets of an ImagePullSecret are watched by their name.
func (w *secretWatch) watches(imagePullSecret string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, watched := w.named[imagePullSecret]
	return watched
}

// retire ends the watch of the Secrets of an ImagePullSecret.
func (w *secretWatch) retire(imagePullSecret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cancel, watched := w.named[imagePullSecret]; watched {
		cancel()
		delete(w.named, imagePullSecret)
		w.state.ForgetSecrets(pullsecret.SecretName(imagePullSecret))
	}
}

// retiring returns the ImagePullSecrets whose Secrets are watched by their name but that are no longer there.
func (w *secretWatch) retiring() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	rules := w.Index.Rules()
	return slices.DeleteFunc(slices.Collect(maps.Keys(w.named)), func(name string) bool { return rules.Get(name) != nil })
}
