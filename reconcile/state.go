package reconcile

import (
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Secret is what reconciliation knows of a Secret. Its data is known by checksum only.
type Secret struct {
	Name    string
	Version uint64 // metadata.resourceVersion
	// Docker tells type kubernetes.io/dockerconfigjson from any other.
	Docker bool
	// Managed tells a Secret that bears our label from a foreign one.
	Managed bool
	// Owners are the ImagePullSecrets among its owners.
	Owners []types.UID
	// Sum is the SHA-256 of its .dockerconfigjson.
	Sum [32]byte
	// Updated is when we last wrote it, in Unix seconds.
	Updated int64
	// Writer is the field manager that wrote it after us, where one is known.
	Writer string
}

// Account is what reconciliation knows of a ServiceAccount.
type Account struct {
	Name    string
	Version uint64 // metadata.resourceVersion
	// Secrets are the names in its imagePullSecrets, in their order.
	Secrets []string
	// Updated is when we last wrote it, or when it was created where we never did, in Unix seconds.
	Updated int64
	// Writer is the field manager that wrote its imagePullSecrets after us, where one is known.
	Writer string
}

// Namespace is one namespace with what stands in it.
type Namespace struct {
	Name string
	// Live tells a namespace that takes new objects from one that is being deleted or not yet seen.
	Live     bool
	Secrets  []Secret  // by name
	Accounts []Account // by name
	// Problems are what the last attempt to bring it in line could not mend.
	Problems []Problem
}

// Secret returns the Secret of that name.
func (n *Namespace) Secret(name string) (Secret, bool) {
	i, found := slices.BinarySearchFunc(n.Secrets, name, Secret.compare)
	if !found {
		return Secret{}, false
	}
	return n.Secrets[i], true
}

func (s Secret) compare(name string) int  { return strings.Compare(s.Name, name) }
func (a Account) compare(name string) int { return strings.Compare(a.Name, name) }
func (s Secret) version() uint64          { return s.Version }
func (a Account) version() uint64         { return a.Version }

// Problem is one object that could not be brought in line.
type Problem struct {
	// ImagePullSecret is whose rule it concerns.
	ImagePullSecret string
	v1.Failure
}

// State is the cluster as far as watched, and as our own writes have left it: each write's answer is taken in at once, so
// that no plan is made twice while its echo is on the way. Objects are ordered by their resourceVersion, which the API
// server promises to grow (KEP-5504), so a late echo never undoes what is newer.
type State struct {
	mu         sync.RWMutex
	namespaces map[string]*Namespace
	watched    map[string]bool // Secret names whose watch has delivered its initial list
	listed     struct{ namespaces, accounts bool }
}

// NewState returns an empty state.
func NewState() *State {
	return &State{namespaces: map[string]*Namespace{}, watched: map[string]bool{}}
}

// View returns the namespace as it is now; false where nothing of it was ever seen.
func (s *State) View(name string) (Namespace, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	namespace, found := s.namespaces[name]
	if !found {
		return Namespace{}, false
	}
	view := *namespace
	view.Secrets = slices.Clone(view.Secrets)
	view.Accounts = slices.Clone(view.Accounts)
	return view, true
}

// Each calls f with every live namespace. f must not keep it, and must not call back into the state.
func (s *State) Each(f func(*Namespace)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, namespace := range s.namespaces {
		if namespace.Live {
			f(namespace)
		}
	}
}

// Watched reports whether the Secrets of that name are known in every namespace.
func (s *State) Watched(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.watched[secret]
}

// Complete reports whether every namespace, every ServiceAccount and every Secret of that name has been seen, so that what
// is counted of them is so.
func (s *State) Complete(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.watched[secret] && s.listed.namespaces && s.listed.accounts
}

// PutNamespace takes in a namespace and reports whether that changed anything.
func (s *State) PutNamespace(name string, live bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	namespace := s.namespace(name)
	changed := namespace.Live != live
	namespace.Live = live
	return changed
}

// RemoveNamespace takes in that a namespace is gone. What stood in it goes by events of its own: those of a new namespace
// of the same name may have arrived first.
func (s *State) RemoveNamespace(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(name)
}

// ReplaceNamespaces takes in names as all the namespaces there are, and returns those that changed.
func (s *State) ReplaceNamespaces(live map[string]bool) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed.namespaces = true
	for name := range s.namespaces {
		if _, there := live[name]; !there {
			s.end(name)
		}
	}
	for name, isLive := range live {
		if namespace := s.namespace(name); namespace.Live != isLive {
			namespace.Live = isLive
			changed = append(changed, name)
		}
	}
	return changed
}

// PutSecret takes in a Secret and reports whether that was news.
func (s *State) PutSecret(namespace string, secret Secret) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return put(&s.namespace(namespace).Secrets, secret.Name, secret)
}

// PutAccount takes in a ServiceAccount and reports whether that was news.
func (s *State) PutAccount(namespace string, account Account) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return put(&s.namespace(namespace).Accounts, account.Name, account)
}

// RemoveSecret forgets a Secret that was deleted at that version, and reports whether it was known. One that has been
// written anew since stays.
func (s *State) RemoveSecret(namespace, name string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, found := s.namespaces[namespace]
	if !found || !remove(&known.Secrets, name, version) {
		return false
	}
	s.sweep(known)
	return true
}

// RemoveAccount forgets a ServiceAccount that was deleted at that version, and reports whether it was known.
func (s *State) RemoveAccount(namespace, name string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, found := s.namespaces[namespace]
	if !found || !remove(&known.Accounts, name, version) {
		return false
	}
	s.sweep(known)
	return true
}

// ReplaceSecrets takes in, by namespace, all the Secrets of that name there were at that version.
func (s *State) ReplaceSecrets(name string, secrets map[string]Secret, version uint64) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched[name] = true
	for namespace, known := range s.namespaces {
		if _, there := secrets[namespace]; !there && remove(&known.Secrets, name, version) {
			changed = append(changed, namespace)
		}
	}
	for namespace, secret := range secrets {
		if put(&s.namespace(namespace).Secrets, name, secret) {
			changed = append(changed, namespace)
		}
	}
	return changed
}

// ReplaceAccounts takes in, by namespace, all the ServiceAccounts there were at that version.
func (s *State) ReplaceAccounts(accounts map[string][]Account, version uint64) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed.accounts = true
	for name, namespace := range s.namespaces {
		listed := accounts[name]
		kept := slices.DeleteFunc(slices.Clone(namespace.Accounts), func(have Account) bool {
			return have.Version <= version && !slices.ContainsFunc(listed, func(a Account) bool { return a.Name == have.Name })
		})
		if len(kept) < len(namespace.Accounts) {
			namespace.Accounts = kept
			changed = append(changed, name)
		}
	}
	for name, listed := range accounts {
		namespace, news := s.namespace(name), false
		for _, account := range listed {
			news = put(&namespace.Accounts, account.Name, account) || news
		}
		if news {
			changed = append(changed, name)
		}
	}
	return changed
}

// ForgetSecrets forgets every Secret of that name: they are watched no more.
func (s *State) ForgetSecrets(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watched, name)
	for _, namespace := range s.namespaces {
		remove(&namespace.Secrets, name, ^uint64(0))
	}
}

// Mentions reports whether a Secret of ours or an entry of that name is left in a live namespace.
func (s *State) Mentions(name string) bool {
	mentioned := false
	s.Each(func(namespace *Namespace) {
		if secret, found := namespace.Secret(name); found && secret.Managed {
			mentioned = true
		}
		for _, account := range namespace.Accounts {
			mentioned = mentioned || slices.Contains(account.Secrets, name)
		}
	})
	return mentioned
}

// Failures returns all that could not be mended for one ImagePullSecret.
func (s *State) Failures(imagePullSecret string) []v1.Failure {
	var failures []v1.Failure
	s.Each(func(namespace *Namespace) {
		for _, problem := range namespace.Problems {
			if problem.ImagePullSecret == imagePullSecret {
				failures = append(failures, problem.Failure)
			}
		}
	})
	return failures
}

// SetProblems records what could not be mended in a namespace, and reports whether that was news. A problem that was there
// before keeps its Since.
func (s *State) SetProblems(name string, problems []Problem) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	namespace, found := s.namespaces[name]
	if !found {
		return false
	}
	for i := range problems {
		for _, old := range namespace.Problems {
			if old.ImagePullSecret == problems[i].ImagePullSecret && old.NamespacedName == problems[i].NamespacedName && old.Reason == problems[i].Reason {
				problems[i].Since = old.Since
			}
		}
	}
	changed := !slices.Equal(namespace.Problems, problems)
	namespace.Problems = problems
	return changed
}

func (s *State) namespace(name string) *Namespace {
	namespace, found := s.namespaces[name]
	if !found {
		namespace = &Namespace{Name: name}
		s.namespaces[name] = namespace
	}
	return namespace
}

// end takes in that a namespace is no longer there.
func (s *State) end(name string) {
	if namespace, found := s.namespaces[name]; found {
		namespace.Live, namespace.Problems = false, nil
		s.sweep(namespace)
	}
}

// sweep drops a namespace of which nothing is left.
func (s *State) sweep(namespace *Namespace) {
	if !namespace.Live && len(namespace.Secrets) == 0 && len(namespace.Accounts) == 0 {
		delete(s.namespaces, namespace.Name)
	}
}

type versioned interface {
	compare(name string) int
	version() uint64
}

// put takes in an object unless as new a one is known.
func put[T versioned](list *[]T, name string, object T) bool {
	i, found := slices.BinarySearchFunc(*list, name, T.compare)
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
