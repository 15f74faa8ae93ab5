package reconcile

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// minNamedWatch is how long a name has a watch of its own at least, and how often to check whether it still needs one.
const minNamedWatch = time.Minute

// fewNamespaces is the number of namespaces up to which all Secrets of one name can be held in memory at once.
const fewNamespaces = 100

// namedWatch is a watch of the Secrets of one name.
type namedWatch struct {
	since  time.Time
	cancel context.CancelFunc
}

// want watches the Secrets of an ImagePullSecret, and notes whether the ImagePullSecret still exists.
func (w *secretWatch) want(ctx context.Context, imagePullSecret string, exists bool) {
	w.mu.Lock()
	byName := w.byName
	_, watched := w.named[imagePullSecret]
	if watched && !exists {
		w.ending[imagePullSecret] = true
	} else {
		delete(w.ending, imagePullSecret)
	}
	w.mu.Unlock()
	switch {
	case byName && exists:
		w.watch(ctx, imagePullSecret)
	case w.Grants != nil && !exists && !watched && w.Index.Rules().Invalid(imagePullSecret) == nil:
		w.Grants.Drop(pullsecret.SecretName(imagePullSecret))
	}
}

// watch starts to watch the Secrets of one ImagePullSecret by name, unless they already have a watch of their own.
func (w *secretWatch) watch(ctx context.Context, imagePullSecret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, watched := w.named[imagePullSecret]; watched || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	watch := &namedWatch{time.Now(), cancel}
	w.named[imagePullSecret] = watch
	if w.Index.Rules().Get(imagePullSecret) == nil { // it was deleted since the caller saw it, before want could see this watch
		w.ending[imagePullSecret] = true
	}
	name := pullsecret.SecretName(imagePullSecret)
	// One store for all attempts remembers how far the API server was, even after other watches have seen it go back in time.
	store := w.storeOf(imagePullSecret, watch)
	follow := func(ctx context.Context, answered func(verb string, err error)) {
		reflector.RunStream(ctx, w.source, w.narrow(imagePullSecret), answered, store)
	}
	answered := w.answered("secrets", name)
	if w.Grants == nil {
		w.watchers.Go(func() { follow(ctx, answered) })
		return
	}
	w.Grants.Want(name)
	w.watchers.Go(func() { w.followGranted(ctx, name, answered, follow) })
}

// narrow returns a function that narrows a list or a watch to the Secrets of an ImagePullSecret. It asks for pages only where there may
// be many Secrets: to fill a page, an API server before 1.34 reads every Secret of the cluster from etcd. A list without pages is served
// from its cache from 1.31 on.
func (w *secretWatch) narrow(imagePullSecret string) func(*metav1.ListOptions) {
	byName := clientset.ByName(pullsecret.SecretName(imagePullSecret))
	return func(options *metav1.ListOptions) {
		byName(options)
		if rule := w.Index.Rules().Get(imagePullSecret); rule != nil && selectsFew(rule) {
			options.Limit = 0
		}
	}
}

// selectsFew reports whether a rule selects namespaces by name only, and few of them.
func selectsFew(rule *pullsecret.Rule) bool {
	names, only := rule.Namespaces.OnlyNames()
	return only && len(names) <= fewNamespaces
}

// storeOf returns the store that a named watch writes to.
func (w *secretWatch) storeOf(imagePullSecret string, watch *namedWatch) *reflector.Store[*corev1.Secret, plan.Namespaced[plan.Secret]] {
	name := pullsecret.SecretName(imagePullSecret)
	return &reflector.Store[*corev1.Secret, plan.Namespaced[plan.Secret]]{
		LastVersion: w.state.LastVersion(),
		Strip:       plan.StripSecret,
		Put: func(secret plan.Namespaced[plan.Secret]) {
			var concerned plan.Part
			w.takeIn(imagePullSecret, watch, func() bool {
				concerned = w.state.PutSecret(secret.Namespace, secret.Object)
				return !concerned.Empty()
			})
			w.partChanged(secret.Namespace, concerned)
		},
		Remove: func(secret plan.Namespaced[plan.Secret]) {
			if w.takeIn(imagePullSecret, watch, func() bool { return w.state.RemoveSecret(secret.Namespace, name, secret.Object.Version) }) {
				w.vanished(secret.Namespace, name)
			}
		},
		Replaced: func(all []plan.Namespaced[plan.Secret], at latest.Relist) {
			listed := plan.ByNamespace(all)
			var changed []string
			if !w.takeIn(imagePullSecret, watch, func() bool {
				changed = w.state.ReplaceSecrets(name, listed, at)
				w.listed(imagePullSecret)
				return true
			}) {
				return
			}
			w.changed(changed...)
			w.status.Enqueue(imagePullSecret)
			if rule := w.Index.Rules().Get(imagePullSecret); rule != nil {
				w.enqueue(rule.Namespaces) // only now is it known where the Secret is missing
			}
		},
	}
}

// takeIn calls take, and returns its result, unless the watch was retired: it may still be busy with a long list.
func (w *secretWatch) takeIn(imagePullSecret string, watch *namedWatch, take func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.named[imagePullSecret] == watch && take()
}

// watches reports whether the Secrets of an ImagePullSecret are watched by name.
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
	w.end(imagePullSecret)
}

// retireEnding ends the watch of the Secrets of an ImagePullSecret that was deleted, and reports whether it did: the ImagePullSecret may
// exist again by now.
func (w *secretWatch) retireEnding(imagePullSecret string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ending[imagePullSecret] {
		return false
	}
	w.end(imagePullSecret)
	return true
}

// end ends the watch of the Secrets of an ImagePullSecret. w.mu is held.
func (w *secretWatch) end(imagePullSecret string) {
	if watch, watched := w.named[imagePullSecret]; watched {
		watch.cancel()
		delete(w.named, imagePullSecret)
		delete(w.ending, imagePullSecret)
		w.listed(imagePullSecret)
		w.state.ForgetSecrets(pullsecret.SecretName(imagePullSecret))
		if w.Grants != nil {
			w.Grants.Drop(pullsecret.SecretName(imagePullSecret))
		}
	}
}

// retiring returns the ImagePullSecrets that were deleted, or can no longer be read, and whose Secrets are still watched by name.
func (w *secretWatch) retiring() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ending) == 0 {
		return nil
	}
	return slices.Collect(maps.Keys(w.ending))
}

// retireUnneeded ends, until ctx ends, the watches of names under which no foreign Secret is left: the watch of all Secrets of ours
// covers the rest.
func (w *secretWatch) retireUnneeded(ctx context.Context) {
	tick := time.NewTicker(minNamedWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, name := range w.unneeded(now) {
				w.retire(name)
			}
		}
	}
}

// unneeded returns the ImagePullSecrets whose Secrets no longer need a watch of their own.
func (w *secretWatch) unneeded(now time.Time) (names []string) {
	w.mu.Lock()
	watched := maps.Clone(w.named)
	w.mu.Unlock()
	if len(watched) == 0 {
		return nil
	}
	foreign := w.state.Foreign()
	for name, watch := range watched {
		secret := pullsecret.SecretName(name)
		if now.Sub(watch.since) >= minNamedWatch && !foreign[secret] && w.state.Watched(secret) {
			names = append(names, name)
		}
	}
	return names
}
