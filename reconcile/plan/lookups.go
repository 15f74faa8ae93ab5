package plan

import (
	"maps"
	"sync"
)

// Lookup is what was found behind an entry. Unless Gone or Ours is set, the Secret is somebody else's, or may be.
type Lookup struct {
	// Gone is whether there is no Secret.
	Gone bool
	// Ours is the Secret, where it is ours to delete.
	Ours *Secret
	// Version is the highest version of the accounts that list it: an entry that may be removed is looked up again once they have changed.
	Version uint64
}

// Lookups remembers what is behind entries that belong to no ImagePullSecret, so that each is looked up once. Its zero value is ready to
// use.
type Lookups struct {
	mu    sync.Mutex
	found map[string]map[string]Lookup // by namespace and name
}

// Remember records what was found behind a name.
func (l *Lookups) Remember(namespace, secret string, found Lookup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found == nil {
		l.found = map[string]map[string]Lookup{}
	}
	if l.found[namespace] == nil {
		l.found[namespace] = map[string]Lookup{}
	}
	l.found[namespace][secret] = found
}

// In returns what is remembered of a namespace and is still valid. It forgets names that its accounts no longer list.
func (l *Lookups) In(namespace Namespace) map[string]Lookup {
	l.mu.Lock()
	known := maps.Clone(l.found[namespace.Name])
	l.mu.Unlock()
	if len(known) == 0 {
		return known
	}
	listed := Listed(namespace.Accounts, func(name string) bool { _, found := known[name]; return found })
	for name, found := range known {
		if version, is := listed[name]; !is || (found.Gone || found.Ours != nil) && found.Version != version {
			delete(known, name)
			l.Forget(namespace.Name, name)
		}
	}
	return known
}

// InPart is In for a part of a namespace, as State.ViewPart returns it; false where In has to be called for the whole, since something
// may have changed.
func (l *Lookups) InPart(namespace Namespace, part Part) (known map[string]Lookup, current bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	remembered := l.found[namespace.Name]
	if len(remembered) == 0 {
		return nil, true
	}
	for key := range part.objects {
		if _, found := remembered[key.name]; found && !key.account {
			return nil, false
		}
	}
	known = map[string]Lookup{}
	for _, account := range namespace.Accounts {
		for _, name := range account.Secrets {
			found, is := remembered[name]
			if is && (found.Gone || found.Ours != nil) && found.Version < account.Version {
				return nil, false
			}
			if is {
				known[name] = found
			}
		}
	}
	return known, true
}

// Listed returns those of the asked names that accounts list, each with the highest version of these accounts.
func Listed(accounts []Account, asked func(name string) bool) map[string]uint64 {
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

// Forget forgets what was behind one name.
func (l *Lookups) Forget(namespace, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.found[namespace], secret); len(l.found[namespace]) == 0 {
		delete(l.found, namespace)
	}
}

// ForgetNamespace forgets what was in a namespace that is gone.
func (l *Lookups) ForgetNamespace(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.found, namespace)
}

// ForgetSecret forgets what was behind a name in any namespace: whose Secret it is depends on whether there is an ImagePullSecret of that
// name.
func (l *Lookups) ForgetSecret(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for namespace, found := range l.found {
		if delete(found, secret); len(found) == 0 {
			delete(l.found, namespace)
		}
	}
}
