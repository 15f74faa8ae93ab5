package reconcile

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// lookups remembers which Secrets behind foreign entries were found to stand, so that each is asked for once.
type lookups struct {
	mu    sync.Mutex
	found map[string]map[string]bool // by namespace and name
}

// remember notes that a Secret that is not ours stands there, or may.
func (l *lookups) remember(namespace, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found == nil {
		l.found = map[string]map[string]bool{}
	}
	if l.found[namespace] == nil {
		l.found[namespace] = map[string]bool{}
	}
	l.found[namespace][secret] = true
}

func (l *lookups) stands(namespace, secret string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.found[namespace][secret]
}

// forgetNamespace forgets what stood in a namespace that is gone.
func (l *lookups) forgetNamespace(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.found, namespace)
}

// forget forgets everything: each is asked for once more.
func (l *lookups) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.found)
}

// plan looks up what the plan cannot know from the watches: the Secrets behind entries that no ImagePullSecret accounts for.
// An entry whose Secret cannot be looked up stays for now, and keeps nothing else from being planned.
func (c *Controller) plan(ctx context.Context, namespace Namespace) (planned Planned, errs []error) {
	rules := c.Index.Rules()
	sight := Sight{Issued: c.state.Issued, Watched: c.state.Watched}
	planned = Plan(rules, namespace, sight)
	if len(planned.Unknown) == 0 {
		return planned, nil
	}
	looked := map[string]bool{}
	for _, name := range planned.Unknown {
		if c.looked.stands(namespace.Name, name) {
			continue // the entry is somebody's, and stays
		}
		secret, err := c.Clients.Secrets(namespace.Name).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err):
			// RBAC can be narrowed to the Secrets of certain names. Whose entry another one is stays unknown, and so it stays.
			c.Log.Debug("entries were left alone: their secret may not be read", "namespace", namespace.Name, "secret", name)
			c.looked.remember(namespace.Name, name)
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("looking up secret %s/%s: %w", namespace.Name, name, err))
			continue
		case !pullsecret.Managed(secret.Labels):
			c.looked.remember(namespace.Name, name)
			continue
		default:
			put(&namespace.Secrets, stripSecret(secret).object)
		}
		looked[name] = true
	}
	sight.Watched = func(secret string) bool { return looked[secret] || c.state.Watched(secret) }
	return Plan(rules, namespace, sight), errs
}

// imagePullSecretOf returns the name of the ImagePullSecret that issues Secrets of that name.
func imagePullSecretOf(secret string) string {
	return strings.TrimPrefix(secret, pullsecret.SecretPrefix)
}
