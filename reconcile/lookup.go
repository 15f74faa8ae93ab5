package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// maxLookups is how many Secrets are looked up, and lookupTime how long, before a namespace makes room for others. Whoever may edit
// an account can have it list tens of thousands.
const (
	maxLookups = 50
	lookupTime = time.Second
)

// answer is what a look-up has told of the Secret behind an entry: that it is somebody's, or may be, unless it says otherwise.
type answer struct {
	// gone is whether it does not stand.
	gone bool
	// ours is the Secret where it is ours to delete.
	ours *Secret
	// version is that of the latest account which lists it: what may be removed is looked up anew once they have changed.
	version uint64
}

// lookups remembers what stands behind entries that no ImagePullSecret accounts for, so that each is asked for once.
type lookups struct {
	mu    sync.Mutex
	found map[string]map[string]answer // by namespace and name
}

// remember takes in what was found behind a name.
func (l *lookups) remember(namespace, secret string, found answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found == nil {
		l.found = map[string]map[string]answer{}
	}
	if l.found[namespace] == nil {
		l.found[namespace] = map[string]answer{}
	}
	l.found[namespace][secret] = found
}

// of returns what is remembered of a namespace and still holds. What its accounts no longer list is forgotten.
func (l *lookups) of(namespace Namespace) map[string]answer {
	l.mu.Lock()
	known := maps.Clone(l.found[namespace.Name])
	l.mu.Unlock()
	if len(known) == 0 {
		return known
	}
	listed := listing(namespace.Accounts, func(name string) bool { _, found := known[name]; return found })
	for name, found := range known {
		if version, is := listed[name]; !is || (found.gone || found.ours != nil) && found.version != version {
			delete(known, name)
			l.drop(namespace.Name, name)
		}
	}
	return known
}

// listing returns the names, of those that are asked for, that accounts list, each with the version of the latest of them.
func listing(accounts []Account, asked func(name string) bool) map[string]uint64 {
	listed := map[string]uint64{}
	for _, account := range accounts {
		for _, name := range account.Secrets {
			if asked(name) {
				listed[name] = max(listed[name], account.Version)
			}
		}
	}
	return listed
}

// drop forgets what stood behind one name.
func (l *lookups) drop(namespace, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.found[namespace], secret); len(l.found[namespace]) == 0 {
		delete(l.found, namespace)
	}
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
// An entry whose Secret cannot be looked up stays for now, and keeps nothing else from being planned. more is whether there are
// others to look up, after those of other namespaces.
func (c *Controller) plan(ctx context.Context, namespace Namespace) (planned Planned, more bool, errs []error) {
	rules, known := c.Index.Rules(), c.looked.of(namespace)
	planned = c.planned(rules, namespace, known)
	names := c.unknown(planned, namespace, known)
	if len(names) == 0 {
		return planned, false, nil
	}
	listed := listing(namespace.Accounts, pullsecret.Among(names[:min(len(names), maxLookups)]))
	began, news := time.Now(), false
	for i, name := range names {
		if i == maxLookups || time.Since(began) > lookupTime {
			more = news // else it is the errors after which it is tried again
			break
		}
		found, err := c.lookUpSecret(ctx, rules, namespace.Name, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("looking up secret %s/%s: %w", namespace.Name, name, err))
			continue
		}
		found.version = listed[name]
		c.looked.remember(namespace.Name, name, found)
		news = true
	}
	return c.planned(rules, namespace, c.looked.of(namespace)), more, errs
}

// planned plans by what is watched and what was looked up.
func (c *Controller) planned(rules *pullsecret.Rules, namespace Namespace, known map[string]answer) Planned {
	namespace.Secrets = slices.Clone(namespace.Secrets)
	for _, found := range known {
		if found.ours != nil {
			put(&namespace.Secrets, *found.ours)
		}
	}
	return Plan(rules, namespace, Sight{c.state.Issued, c.state.Watched, func(secret string) bool { return known[secret].gone }})
}

// unknown returns the names that are to be looked up: those of which nothing is remembered, unless they are listed only by accounts
// whose edit waits as it is. To ask for more would make another edit of it, which would not wait.
func (c *Controller) unknown(planned Planned, namespace Namespace, known map[string]answer) []string {
	names := slices.DeleteFunc(planned.Unknown, func(name string) bool { _, found := known[name]; return found })
	if len(names) == 0 {
		return nil
	}
	now, waiting := time.Now(), map[string]bool{}
	for _, change := range planned.Changes {
		if edit, is := change.(EditAccount); is {
			_, _, contended := c.fights.held(edit, now)
			waiting[edit.Name] = contended || c.refusals.knows(edit, edit.Version)
		}
	}
	open := slices.DeleteFunc(slices.Clone(namespace.Accounts), func(account Account) bool { return waiting[account.Name] })
	if len(open) == len(namespace.Accounts) {
		return names
	}
	listed := listing(open, pullsecret.Among(names))
	return slices.DeleteFunc(names, func(name string) bool { _, is := listed[name]; return !is })
}

// lookUpSecret asks what stands behind an entry. That it was asked for makes no Secret ours: only its owner, or an ImagePullSecret
// of its name, does.
func (c *Controller) lookUpSecret(ctx context.Context, rules *pullsecret.Rules, namespace, name string) (answer, error) {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return answer{gone: true}, nil // an entry may be any text, and a Secret's name may not
	}
	secret, err := c.Clients.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case gone(err):
		return answer{gone: true}, nil
	case apierrors.IsForbidden(err):
		// RBAC can be narrowed to the Secrets of certain names. Whose entry another one is stays unknown, and so it stays.
		c.Log.Debug("entries were left alone: their secret may not be read", "namespace", namespace, "secret", name)
		return answer{}, nil
	case err != nil:
		return answer{}, err
	}
	if stripped := stripSecret(secret).object; ours(stripped, rules, Sight{Watched: c.state.Watched}) {
		return answer{ours: &stripped}, nil
	}
	return answer{}, nil
}

// imagePullSecretOf returns the name of the ImagePullSecret that issues Secrets of that name.
func imagePullSecretOf(secret string) string {
	return strings.TrimPrefix(secret, pullsecret.SecretPrefix)
}
