package plan

import (
	"slices"
	"sync"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// State is the cluster as far as it is watched, including our own writes: the answer to a write goes into the state at once, so that the
// same write is not planned twice while its watch event is on the way. Objects are ordered by resourceVersion, which the API server
// promises to increase (KEP-5504), so a late watch event never replaces newer content, and the late answer to a write never brings back
// what is gone.
//
// A relist is the truth as of its version, whatever was known until then: after etcd was restored from a backup, objects can have lower
// versions than before.
type State struct {
	mu         sync.RWMutex
	namespaces map[string]*Namespace
	// complete says whether all namespaces, all ServiceAccounts and all Secrets of ours have been seen.
	complete struct{ namespaces, accounts, issued bool }
	// named are the names of Secrets that have a watch of their own, which shows foreign Secrets too, once they have been listed.
	named map[string]bool
	// lastVersion is the highest version of any Secret that was seen.
	lastVersion uint64
	// writing are the objects that are being written.
	writing map[ObjectKey]*inFlight
	// labels knows the labels of namespaces; nil where no rule selects by them.
	labels LabelSource
	// troubled are the objects with problems, by ImagePullSecret.
	troubled map[string]map[ObjectKey]bool
}

// NewState returns an empty state.
func NewState() *State {
	return &State{
		namespaces: map[string]*Namespace{}, named: map[string]bool{},
		writing: map[ObjectKey]*inFlight{}, troubled: map[string]map[ObjectKey]bool{},
	}
}

// LabelSource knows the labels of namespaces. It must not call back into the state.
type LabelSource interface {
	// Labels returns the labels of a namespace; unknown ones where they have not been seen.
	Labels(namespace string) pullsecret.Labels
	// Complete reports whether the labels of every namespace are known.
	Complete() bool
}

// LabelsFrom sets where the labels of namespaces are looked up. It has to be called before anything else.
func (s *State) LabelsFrom(source LabelSource) { s.labels = source }

// Labels returns the labels of a namespace; unknown ones where they have not been seen.
func (s *State) Labels(namespace string) pullsecret.Labels {
	if s.labels == nil {
		return pullsecret.Labels{}
	}
	return s.labels.Labels(namespace)
}

// View returns the namespace as it is now; false where nothing in it was ever seen.
func (s *State) View(name string) (Namespace, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	namespace, found := s.namespaces[name]
	if !found {
		return Namespace{}, false
	}
	view := *namespace
	view.Labels, view.problems = s.Labels(name), nil
	view.Secrets = slices.Clone(view.Secrets)
	view.Accounts = slices.Clone(view.Accounts)
	return view, true
}

// ViewPart returns what the decisions about a part of a namespace depend on: the objects in the part, and the Secrets that its accounts
// list.
func (s *State) ViewPart(name string, part Part) (Namespace, bool) {
	if part.IsWhole() {
		return s.View(name)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	namespace, found := s.namespaces[name]
	if !found {
		return Namespace{}, false
	}
	view := *namespace
	view.Labels, view.Secrets, view.Accounts, view.problems = s.Labels(name), nil, nil, nil
	addSecret := func(name string) {
		if secret, found := namespace.Secret(name); found {
			put(&view.Secrets, secret)
		}
	}
	for key := range part.objects {
		if !key.account {
			addSecret(key.name)
			continue
		}
		if account, found := namespace.Account(key.name); found {
			put(&view.Accounts, account)
			for _, listed := range account.Secrets {
				addSecret(listed)
			}
		}
	}
	return view, true
}

// Each calls f with every live namespace that is selected. f must not keep the namespace, and must not call back into the state.
func (s *State) Each(selected pullsecret.Namespaces, f func(*Namespace)) {
	s.each(selected, false, f)
}

// EachPossible is Each, but calls f also with namespaces that may be selected, where that is not known.
func (s *State) EachPossible(selected pullsecret.Namespaces, f func(*Namespace)) {
	s.each(selected, true, f)
}

func (s *State) each(selected pullsecret.Namespaces, possible bool, f func(*Namespace)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if names, only := selected.OnlyNames(); only {
		for _, name := range names {
			if namespace, found := s.namespaces[name]; found && namespace.Live {
				f(namespace)
			}
		}
		return
	}
	labelled := selected.Labelled()
	for name, namespace := range s.namespaces {
		if !namespace.Live {
			continue
		}
		var labels pullsecret.Labels
		if labelled {
			labels = s.Labels(name)
		}
		if is, known := selected.Selects(name, labels); is || possible && !known {
			f(namespace)
		}
	}
}

// Issued reports whether all Secrets of ours with that name are known.
func (s *State) Issued(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.complete.issued || s.named[secret]
}

// LastVersion returns the highest version of any Secret that was seen.
func (s *State) LastVersion() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lastVersion
}

// Watched reports whether all Secrets with that name are known, including foreign ones.
func (s *State) Watched(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.named[secret]
}

// Complete reports whether every namespace, every ServiceAccount and every Secret of a rule has been seen, and all labels where it
// selects by them, so that they can be counted.
func (s *State) Complete(rule *pullsecret.Rule) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if rule.Namespaces.Labelled() && (s.labels == nil || !s.labels.Complete()) {
		return false
	}
	secret := rule.Secret
	return (s.complete.issued || s.named[secret]) && s.complete.namespaces && s.complete.accounts
}

// Sums returns the checksums of what the Secrets of a rule hold in all namespaces; false where not all of them are known.
func (s *State) Sums(rule *pullsecret.Rule) (sums map[[32]byte]bool, known bool) {
	if !s.Complete(rule) {
		return nil, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	sums = map[[32]byte]bool{}
	for _, namespace := range s.namespaces {
		if secret, found := namespace.Secret(rule.Secret); found && secret.Managed && namespace.Live {
			sums[secret.Sum] = true
		}
	}
	return sums, true
}

// Mentioning returns the live namespaces that still have a Secret of ours, or an entry, of that name.
func (s *State) Mentioning(name string) (namespaces []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, namespace := range s.namespaces {
		if namespace.Live && namespace.mentions(name) {
			namespaces = append(namespaces, namespace.Name)
		}
	}
	return namespaces
}

func (n *Namespace) mentions(name string) bool {
	if secret, found := n.Secret(name); found && secret.Managed {
		return true
	}
	return slices.ContainsFunc(n.Accounts, func(account Account) bool { return slices.Contains(account.Secrets, name) })
}

// Foreign returns the names of the known Secrets without our label.
func (s *State) Foreign() map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	foreign := map[string]bool{}
	for _, namespace := range s.namespaces {
		for _, secret := range namespace.Secrets {
			if !secret.Managed {
				foreign[secret.Name] = true
			}
		}
	}
	return foreign
}
