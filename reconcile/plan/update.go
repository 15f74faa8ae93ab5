package plan

import (
	"slices"
	"strings"

	"github.com/tcr-assistant/tcr-assistant/latest"
)

// PutNamespace records a namespace. It reports whether that changed anything, and whether it replaces an earlier namespace of the same
// name.
func (s *State) PutNamespace(seen NamespaceMeta) (changed, another bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putNamespace(seen)
}

func (s *State) putNamespace(seen NamespaceMeta) (changed, another bool) {
	namespace := s.namespace(seen.Name)
	another = namespace.UID != "" && namespace.UID != seen.UID
	changed = another || namespace.Live != seen.Live || namespace.OptOut != seen.OptOut
	if another {
		s.untrouble(namespace)
	}
	namespace.UID, namespace.Live, namespace.OptOut = seen.UID, seen.Live, seen.OptOut
	return changed, another
}

// RemoveNamespace records that a namespace is gone. The objects in it are removed by their own events, since objects of a new namespace
// of the same name may have arrived first.
func (s *State) RemoveNamespace(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if namespace, found := s.namespaces[name]; found {
		s.end(namespace)
	}
}

// ReplaceNamespaces records that these are all namespaces. It returns those that changed, and those that are gone or were replaced by
// another one of the same name.
func (s *State) ReplaceNamespaces(all []NamespaceMeta) (changed, gone []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete.namespaces = true
	listed := make(map[string]bool, len(all))
	for _, namespace := range all {
		listed[namespace.Name] = true
		changedNow, another := s.putNamespace(namespace)
		if changedNow {
			changed = append(changed, namespace.Name)
		}
		if another {
			gone = append(gone, namespace.Name)
		}
	}
	for name, namespace := range s.namespaces {
		if !listed[name] && namespace.UID != "" {
			s.end(namespace)
			gone = append(gone, name)
		}
	}
	return changed, gone
}

// PutSecret records a Secret and returns the part of its namespace that has to be compared again: nothing where the Secret is not newer
// than known, and everything where accounts that list it may be affected.
func (s *State) PutSecret(namespace string, secret Secret) Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putSecret(namespace, secret)
}

func (s *State) putSecret(namespace string, secret Secret) Part {
	key := ObjectKey{Namespace: namespace, Name: secret.Name}
	if s.goneSince(key, secret.Version) {
		return Part{}
	}
	s.lastVersion = max(s.lastVersion, secret.Version)
	known := s.namespace(namespace)
	before, found := known.Secret(secret.Name)
	switch {
	case !put(&known.Secrets, secret):
		return Part{}
	case !found || !before.sameHands(secret):
		return Whole()
	default:
		return PartOf(key)
	}
}

// PutIssued records a Secret from the watch of all Secrets of ours. It ignores names that have a watch of their own.
func (s *State) PutIssued(namespace string, secret Secret) Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named[secret.Name] {
		return Part{}
	}
	return s.putSecret(namespace, secret)
}

// PutAccount records a ServiceAccount and reports whether that changed anything.
func (s *State) PutAccount(namespace string, account Account) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.goneSince(ObjectKey{Namespace: namespace, Account: true, Name: account.Name}, account.Version) {
		return false
	}
	return put(&s.namespace(namespace).Accounts, account)
}

// RemoveSecret forgets a Secret that was deleted at that version, and reports whether it was known. A Secret that has been created again
// since stays.
func (s *State) RemoveSecret(namespace, name string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeSecret(namespace, name, version)
}

func (s *State) removeSecret(namespace, name string, version uint64) bool {
	s.goneAt(ObjectKey{Namespace: namespace, Name: name}, version)
	known, found := s.namespaces[namespace]
	if !found || !remove(&known.Secrets, name, version) {
		return false
	}
	s.sweep(known)
	return true
}

// RemoveIssued is RemoveSecret for the watch of all Secrets of ours: the Secret is gone, or is no longer ours. It ignores names that have
// a watch of their own.
func (s *State) RemoveIssued(namespace, name string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.named[name] && s.removeSecret(namespace, name, version)
}

// RemoveAccount forgets a ServiceAccount that was deleted at that version, and reports whether it was known.
func (s *State) RemoveAccount(namespace, name string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.goneAt(ObjectKey{Namespace: namespace, Account: true, Name: name}, version)
	known, found := s.namespaces[namespace]
	if !found || !remove(&known.Accounts, name, version) {
		return false
	}
	s.sweep(known)
	return true
}

// ReplaceSecrets records all Secrets of that name, by namespace, and returns the namespaces that changed.
func (s *State) ReplaceSecrets(name string, listed map[string][]Secret, at latest.Relist) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named[name] = true
	return s.replaceSecrets(listed, at, func(secret string) bool { return secret == name })
}

// ReplaceIssued records all Secrets of ours, by namespace, and returns the namespaces that changed. It ignores names that have a watch of
// their own.
func (s *State) ReplaceIssued(listed map[string][]Secret, at latest.Relist) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete.issued = true
	for namespace, secrets := range listed {
		listed[namespace] = slices.DeleteFunc(secrets, func(secret Secret) bool { return s.named[secret.Name] })
	}
	return s.replaceSecrets(listed, at, func(secret string) bool { return !s.named[secret] })
}

func (s *State) replaceSecrets(listed map[string][]Secret, at latest.Relist, concerned func(name string) bool) []string {
	if s.lastVersion = max(s.lastVersion, at.Version); at.Rewound {
		s.lastVersion = at.Version
	}
	s.missed(at, func(key ObjectKey) bool {
		return !key.Account && concerned(key.Name) &&
			!slices.ContainsFunc(listed[key.Namespace], func(secret Secret) bool { return secret.Name == key.Name })
	})
	return replaceAll(s, listed, at, func(namespace *Namespace) *[]Secret { return &namespace.Secrets }, concerned)
}

// ReplaceAccounts records all ServiceAccounts, by namespace, and returns the namespaces that changed.
func (s *State) ReplaceAccounts(listed map[string][]Account, at latest.Relist) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete.accounts = true
	s.missed(at, func(key ObjectKey) bool {
		return key.Account && !slices.ContainsFunc(listed[key.Namespace], func(account Account) bool { return account.Name == key.Name })
	})
	return replaceAll(s, listed, at, func(namespace *Namespace) *[]Account { return &namespace.Accounts }, func(string) bool { return true })
}

// replaceAll replaces, in one of the lists of every namespace, the objects whose names are concerned.
func replaceAll[T versioned](
	s *State, listed map[string][]T, at latest.Relist, list func(*Namespace) *[]T, concerned func(name string) bool,
) (changed []string) {
	for name, objects := range listed {
		if len(objects) > 0 {
			s.namespace(name)
		}
	}
	for name, namespace := range s.namespaces {
		if replace(list(namespace), listed[name], at, concerned) {
			changed = append(changed, name)
		}
		s.sweep(namespace)
	}
	return changed
}

// ForgetSecrets forgets the Secrets of that name, which no longer has a watch of its own. Where all Secrets of ours are watched, ours
// stay known.
func (s *State) ForgetSecrets(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.named, name)
	for _, namespace := range s.namespaces {
		if secret, found := namespace.Secret(name); found && (!s.complete.issued || !secret.Managed) {
			remove(&namespace.Secrets, name, ^uint64(0))
			s.sweep(namespace)
		}
	}
}

// UnwatchIssued records that there is no longer a watch of all Secrets of ours.
func (s *State) UnwatchIssued() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete.issued = false
}

// ObjectKey identifies a ServiceAccount, or else a Secret. Without a name it stands for all of a namespace.
type ObjectKey struct {
	Namespace string
	Account   bool
	Name      string
}

// NamespaceKey returns the key that stands for all of a namespace.
func NamespaceKey(namespace string) ObjectKey { return ObjectKey{Namespace: namespace} }

// localKey is an ObjectKey without its namespace, for what is kept by namespace, of thousands of objects.
type localKey struct {
	account bool
	name    string
}

// compare orders the objects of a namespace.
func (k localKey) compare(other localKey) int {
	switch {
	case k.account == other.account:
		return strings.Compare(k.name, other.name)
	case other.account:
		return -1
	default:
		return 1
	}
}

func (k ObjectKey) local() localKey { return localKey{k.Account, k.Name} }

// inFlight is what is learned about an object while it is being written.
type inFlight struct {
	writes int
	// gone is the highest version at which it was known not to exist.
	gone uint64
}

// BeginWrite notes that an object is being written, until end is called. News that the object is gone may arrive before the answer to the
// write, and is remembered until then.
func (s *State) BeginWrite(key ObjectKey) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing[key] == nil {
		s.writing[key] = &inFlight{}
	}
	s.writing[key].writes++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.writing[key].writes--; s.writing[key].writes == 0 {
			delete(s.writing, key)
		}
	}
}

// goneAt notes that an object was gone at a version.
func (s *State) goneAt(key ObjectKey, version uint64) {
	if written := s.writing[key]; written != nil {
		written.gone = max(written.gone, version)
	}
}

// goneSince reports whether an object is known to have been deleted after it had that version.
func (s *State) goneSince(key ObjectKey, version uint64) bool {
	written := s.writing[key]
	return written != nil && version <= written.gone
}

// missed notes which of the objects being written were not in a relist.
func (s *State) missed(at latest.Relist, absent func(ObjectKey) bool) {
	for key, written := range s.writing {
		switch {
		case at.Rewound:
			written.gone = 0
		case absent(key):
			written.gone = max(written.gone, at.Version)
		}
	}
}

func (s *State) namespace(name string) *Namespace {
	namespace, found := s.namespaces[name]
	if !found {
		namespace = &Namespace{Name: name}
		s.namespaces[name] = namespace
	}
	return namespace
}

// end records that a namespace no longer exists.
func (s *State) end(namespace *Namespace) {
	s.untrouble(namespace)
	namespace.UID, namespace.Live = "", false
	s.sweep(namespace)
}

// sweep drops a namespace that no longer exists and has no objects left.
func (s *State) sweep(namespace *Namespace) {
	if namespace.UID == "" && len(namespace.Secrets) == 0 && len(namespace.Accounts) == 0 {
		delete(s.namespaces, namespace.Name)
	}
}

type versioned interface {
	named() string
	compare(name string) int
	version() uint64
}

// put stores an object unless the known version is at least as new.
func put[T versioned](list *[]T, object T) bool {
	i, found := slices.BinarySearchFunc(*list, object.named(), T.compare)
	if !found {
		*list = slices.Insert(*list, i, object)
		return true
	}
	if (*list)[i].version() >= object.version() {
		return false
	}
	(*list)[i] = object
	return true
}

// remove forgets an object unless a newer one than that version is known.
func remove[T versioned](list *[]T, name string, version uint64) bool {
	i, found := slices.BinarySearchFunc(*list, name, T.compare)
	if !found || (*list)[i].version() > version {
		return false
	}
	*list = slices.Delete(*list, i, i+1)
	return true
}

// replace stores a relist of the objects that are concerned, and reports whether anything changed.
func replace[T versioned](list *[]T, listed []T, at latest.Relist, concerned func(name string) bool) (changed bool) {
	kept := slices.DeleteFunc(slices.Clone(*list), func(known T) bool { return concerned(known.named()) && at.Overrules(known.version()) })
	for _, object := range listed {
		put(&kept, object)
	}
	changed = !slices.EqualFunc(*list, kept, func(a, b T) bool { return a.named() == b.named() && a.version() == b.version() })
	*list = kept
	return changed
}
