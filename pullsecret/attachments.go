package pullsecret

import (
	"iter"
	"maps"
	"slices"
	"strings"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Attachments is what all parts of a Derived say together: which Secrets accounts list. It holds nothing of their credentials. It is
// immutable. Its zero value attaches nothing.
type Attachments struct {
	parts    []v1.DerivedAttachmentsSpec
	labelled bool // some rule selects by labels
	pods     bool // some rule gives its Secret to pods
}

// NewAttachments returns what parts say together. They must not be changed after that.
func NewAttachments(parts ...v1.DerivedAttachmentsSpec) *Attachments {
	var labelled, pods bool
	for _, part := range parts {
		for _, rule := range part.Rules {
			labelled = labelled || len(rule.Requirements) > 0
			pods = pods || rule.Pods != ""
			if !slices.IsSorted(rule.ServiceAccounts) { // somebody has edited it
				slices.Sort(rule.ServiceAccounts)
			}
			if !slices.IsSorted(rule.Excluded) {
				slices.Sort(rule.Excluded)
			}
		}
		for _, accounts := range part.Barred {
			if !slices.IsSorted(accounts) {
				slices.Sort(accounts)
			}
		}
	}
	return &Attachments{parts, labelled, pods}
}

// Attachments returns what the rules attach, however much that is. It shares no memory with the rules' credentials.
func (r *Rules) Attachments() *Attachments { return NewAttachments(divide(r.Attaching(), 1, nil)...) }

// Labelled reports whether some rule selects by labels.
func (a *Attachments) Labelled() bool { return a.labelled }

// Secrets returns the names of the Secrets that a service account should list, in alphabetical order. The admission policy, which reads
// the same parts, decides the same. Secrets whose name does not begin with SecretPrefix are ignored. labels returns the labels of the
// namespace; it is called only if they may decide. If it is nil, they are not known.
func (a *Attachments) Secrets(namespace string, labels func() Labels, serviceAccount string) []string {
	var secrets []string
	for rule := range a.selecting(namespace, a.ask(labels)) {
		if selects(rule, serviceAccount) {
			secrets = append(secrets, rule.Secret)
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets) // a rule occurs twice while a part is being divided, or if it both names and matches
}

func (a *Attachments) ask(labels func() Labels) Labels {
	if labels == nil || !a.labelled {
		return Labels{}
	}
	return labels()
}

// selecting yields the rules that are known to select a namespace with these labels, some of them twice. It skips those whose Secret's
// name does not begin with SecretPrefix.
func (a *Attachments) selecting(namespace string, labels Labels) iter.Seq[*v1.DerivedRule] {
	return func(yield func(*v1.DerivedRule) bool) {
		for i := range a.parts {
			part := &a.parts[i]
			each := func(keys []string, matching bool) bool {
				for _, key := range keys {
					rule := part.Rules[key]
					if strings.HasPrefix(rule.Secret, SecretPrefix) && (!matching || matches(&rule, namespace, labels)) && !yield(&rule) {
						return false
					}
				}
				return true
			}
			if !each(part.Everywhere, false) || !each(part.Namespaces[namespace], false) || !each(part.Selecting, true) {
				return
			}
			if len(part.Labelled) == 0 {
				continue
			}
			for label := range labels.pairs() {
				if !each(part.Labelled[label], true) {
					return
				}
			}
		}
	}
}

// matches reports whether a rule is known to select a namespace that it does not name.
func matches(rule *v1.DerivedRule, namespace string, labels Labels) bool {
	return (len(rule.Requirements) == 0 || labels.Known() && labels.meet(rule.Requirements)) && !slices.Contains(rule.Excluded, namespace)
}

func selects(rule *v1.DerivedRule, serviceAccount string) bool {
	if rule.ServiceAccounts == nil {
		return true
	}
	_, listed := slices.BinarySearch(rule.ServiceAccounts, serviceAccount)
	return listed
}

// Source is an ImagePullSecret that gives a server a credential in some namespaces.
type Source struct {
	Name string
	// Labelled says that whether it does depends on the labels of namespaces.
	Labelled bool
}

// sources are the Secrets that were found, by name: whether they give the credential whatever the labels are.
type sources map[string]bool

func (s sources) add(secret string, always bool) { s[secret] = s[secret] || always }

// sorted returns the sources in the order of their names.
func (s sources) sorted() (all []Source) {
	for _, secret := range slices.Sorted(maps.Keys(s)) {
		all = append(all, Source{ImagePullSecretName(secret), !s[secret]})
	}
	return all
}

// Sources returns the ImagePullSecrets that give a server a credential in some of these namespaces, or could after a change of labels.
func (a *Attachments) Sources(server string, namespaces Namespaces) []Source {
	found := sources{}
	for i := range a.parts {
		part := &a.parts[i]
		add := func(keys []string, of func(*v1.DerivedRule) Namespaces) {
			for _, key := range keys {
				rule := part.Rules[key]
				if !gives(&rule, server) || !strings.HasPrefix(rule.Secret, SecretPrefix) {
					continue
				}
				if theirs := of(&rule); theirs.Intersects(namespaces) {
					found.add(rule.Secret, theirs.always().Intersects(namespaces.always()))
				}
			}
		}
		matched := func(rule *v1.DerivedRule) Namespaces {
			return Namespaces{matching: &matching{requirements: rule.Requirements, excluded: rule.Excluded}}
		}
		add(part.Everywhere, func(*v1.DerivedRule) Namespaces { return Named(Everything) })
		add(part.Selecting, matched)
		for _, keys := range part.Labelled {
			add(keys, matched)
		}
		for namespace, keys := range naming(part, namespaces) {
			add(keys, func(*v1.DerivedRule) Namespaces { return Named(Selector{names: []string{namespace}}) })
		}
	}
	return found.sorted()
}

// gives reports whether a rule's credential is for a server.
func gives(rule *v1.DerivedRule, server string) bool {
	return rule.Server == server || slices.Contains(rule.AdditionalServers, server)
}

// naming returns a part's lists for these namespaces; all of its lists where they could be any.
func naming(part *v1.DerivedAttachmentsSpec, namespaces Namespaces) map[string][]string {
	if namespaces.All() || namespaces.matching != nil {
		return part.Namespaces
	}
	lists := map[string][]string{}
	for _, namespace := range namespaces.named.names {
		lists[namespace] = part.Namespaces[namespace]
	}
	return lists
}

// Sources returns the ImagePullSecrets that give a server a credential in some of these namespaces, or could after a change of labels.
func (r *Rules) Sources(server string, namespaces Namespaces) []Source {
	found := sources{}
	for rule := range r.All() {
		if slices.Contains(rule.Servers, server) && rule.Namespaces.Intersects(namespaces) {
			found.add(rule.Secret, rule.Namespaces.always().Intersects(namespaces.always()))
		}
	}
	return found.sorted()
}

// Secrets returns what the current rules attach (see Rules.Attaching).
func (i *Index) Secrets(namespace string, labels func() Labels, serviceAccount string) []string {
	return i.Rules().Attaching().Secrets(namespace, labels, serviceAccount)
}

// PodSecrets returns what the current rules attach (see Rules.Attaching).
func (i *Index) PodSecrets(pod *Pod, labels func() Labels) []string {
	return i.Rules().Attaching().PodSecrets(pod, labels)
}

// Sources returns what the current rules attach (see Rules.Attaching).
func (i *Index) Sources(server string, namespaces Namespaces) []Source {
	return i.Rules().Attaching().Sources(server, namespaces)
}

// Forget overwrites the credentials in the rules. After it, nobody may use a credential of theirs, or call Observe. What the rules
// attach stays as it is: a request that is being answered must not hear that it is nothing. Other copies of the credentials, such as
// the objects the rules were read from, are left to the garbage collector.
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
