package pullsecret

import (
	"slices"
	"strings"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Attachments is what the parts of what is derived say together: which Secrets accounts list, and nothing of the credentials in
// them. It is immutable. Its zero value attaches nothing.
type Attachments struct {
	parts []v1.DerivedAttachmentsSpec
}

// NewAttachments returns what parts say together. They must not be changed any more.
func NewAttachments(parts ...v1.DerivedAttachmentsSpec) *Attachments {
	for _, part := range parts {
		for _, rule := range part.Rules {
			if !slices.IsSorted(rule.ServiceAccounts) { // somebody has edited it
				slices.Sort(rule.ServiceAccounts)
			}
		}
	}
	return &Attachments{parts}
}

// Attachments returns what the rules attach, however much that is. It shares no memory with the rules' credentials.
func (r *Rules) Attachments() *Attachments { return NewAttachments(divide(r, 1, nil)...) }

// Secrets returns the names of the Secrets that a service account should list, in alphabetical order. It means what the admission
// policy means, which reads the same parts, and attaches nothing that is not ours by its name.
func (a *Attachments) Secrets(namespace, serviceAccount string) []string {
	var secrets []string
	for _, part := range a.parts {
		for _, keys := range [][]string{part.Everywhere, part.Namespaces[namespace]} {
			for _, key := range keys {
				if rule := part.Rules[key]; strings.HasPrefix(rule.Secret, SecretPrefix) && selects(rule, serviceAccount) {
					secrets = append(secrets, rule.Secret)
				}
			}
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets) // a part that is being divided has a rule twice
}

func selects(rule v1.DerivedRule, serviceAccount string) bool {
	if rule.ServiceAccounts == nil {
		return true
	}
	_, listed := slices.BinarySearch(rule.ServiceAccounts, serviceAccount)
	return listed
}

// Sources returns the names of the ImagePullSecrets that give a server a credential in some of these namespaces, in alphabetical
// order.
func (a *Attachments) Sources(server string, namespaces Selector) []string {
	var names []string
	for _, part := range a.parts {
		add := func(keys []string) {
			for _, key := range keys {
				if rule := part.Rules[key]; rule.Server == server || slices.Contains(rule.AdditionalServers, server) {
					if name, ours := strings.CutPrefix(rule.Secret, SecretPrefix); ours {
						names = append(names, name)
					}
				}
			}
		}
		add(part.Everywhere)
		if namespaces.All() {
			for _, keys := range part.Namespaces {
				add(keys)
			}
			continue
		}
		for _, namespace := range namespaces.names {
			add(part.Namespaces[namespace])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Sources returns the names of the ImagePullSecrets that give a server a credential in some of these namespaces, in alphabetical
// order.
func (r *Rules) Sources(server string, namespaces Selector) []string {
	var names []string
	for rule := range r.All() {
		if slices.Contains(rule.Servers, server) && rule.Namespaces.Intersects(namespaces) {
			names = append(names, rule.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Secrets returns what the rules of this moment say.
func (i *Index) Secrets(namespace, serviceAccount string) []string {
	return i.Rules().Secrets(namespace, serviceAccount)
}

// Sources returns what the rules of this moment say.
func (i *Index) Sources(server string, namespaces Selector) []string {
	return i.Rules().Sources(server, namespaces)
}

// Forget overwrites the credentials in the rules. Nobody may use a credential of them any more, nor Observe. What they attach stays as it
// is: whoever has just asked for it must not hear that it is nothing. What else there was of them, such as the objects they were read
// from, is left to the garbage collector.
func (i *Index) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	rules := i.Rules()
	i.seen = map[string]identity{}
	clear(i.observers)
	for rule := range rules.All() {
		clear(rule.Config)
	}
	for _, broken := range rules.invalid.all() {
		if broken.last != nil {
			clear(broken.last.Config)
		}
	}
}
