package pullsecret

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Rules is the set of rules at one moment. It is immutable.
type Rules struct {
	byName     table[*Rule]
	invalid    table[invalid]
	everywhere []*Rule        // those that select every namespace, by name
	selecting  []*Rule        // those that must be evaluated for each namespace, by name
	filed      table[[]*Rule] // the rules by each key that Namespaces.filed returns, and then by name
	labelled   int            // how many select by labels
	asking     int            // how many give their Secret to pods
	barred     barred         // the accounts whose pods get none
	size       int            // of what they attach, in bytes, as one part
	attaching  *Rules         // see Attaching; nil where it is these themselves
}

// invalid is an ImagePullSecret that cannot be read.
type invalid struct {
	errs field.ErrorList
	uid  types.UID // of the object
	// last is the rule that it was before it became invalid; nil where that is not known.
	last *Rule
}

// gives returns the rule that still gives entries; nil where there is none. The last rule of another object, which was deleted and
// recreated under the same name, gives none: its Secrets are deleted with it.
func (i invalid) gives() *Rule {
	if i.last == nil || i.last.UID != i.uid {
		return nil
	}
	return i.last
}

// All returns the rules, in no order.
func (r *Rules) All() iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for _, rule := range r.byName.all() {
			if !yield(rule) {
				return
			}
		}
	}
}

// Get returns the rule of the ImagePullSecret with that name; nil where it is absent or invalid.
func (r *Rules) Get(name string) *Rule {
	rule, _ := r.byName.get(name)
	return rule
}

// Invalid returns what is wrong with the ImagePullSecret with that name; nil where it is valid or absent.
func (r *Rules) Invalid(name string) field.ErrorList {
	found, _ := r.invalid.get(name)
	return found.errs
}

// Names returns the names of all ImagePullSecrets, the valid and the invalid, in no order.
func (r *Rules) Names() []string {
	names := make([]string, 0, r.byName.size+r.invalid.size)
	for name := range r.byName.all() {
		names = append(names, name)
	}
	for name := range r.invalid.all() {
		names = append(names, name)
	}
	return names
}

// Labelled reports whether some rule selects by labels.
func (r *Rules) Labelled() bool { return r.labelled > 0 }

// In returns the rules that are known to select a namespace with these labels, in the order of their names. Its cost does not
// depend on how many rules select other namespaces by their names or by the values of labels.
func (r *Rules) In(namespace string, labels Labels) []*Rule {
	naming, _ := r.filed.get(namespace)
	if r.labelled > 0 || len(r.selecting) > 0 {
		naming = r.andMatching(naming, namespace, labels)
	}
	if len(naming) == 0 {
		return slices.Clip(r.everywhere)
	}
	selected := make([]*Rule, 0, len(r.everywhere)+len(naming))
	everywhere := r.everywhere
	for _, rule := range naming {
		i, _ := slices.BinarySearchFunc(everywhere, rule.Name, (*Rule).compare)
		selected = append(append(selected, everywhere[:i]...), rule)
		everywhere = everywhere[i:]
	}
	return append(selected, everywhere...)
}

// andMatching returns the rules that name a namespace and those that match it.
func (r *Rules) andMatching(naming []*Rule, namespace string, labels Labels) []*Rule {
	all := slices.Clip(naming)
	add := func(candidates []*Rule) {
		for _, rule := range candidates {
			if rule.Namespaces.matches(namespace, labels) {
				all = append(all, rule)
			}
		}
	}
	add(r.selecting)
	for label := range labels.pairs() {
		candidates, _ := r.filed.get(label)
		add(candidates)
	}
	if len(all) == len(naming) {
		return naming
	}
	slices.SortFunc(all, func(a, b *Rule) int { return a.compare(b.Name) })
	return slices.Compact(all)
}

// Undecided reports whether it is unknown if the Secret with that name belongs in a namespace with these labels.
func (r *Rules) Undecided(secret, namespace string, labels Labels) bool {
	if r.labelled == 0 || labels.Known() {
		return false
	}
	rule := r.Get(ImagePullSecretName(secret))
	if rule == nil || rule.Secret != secret {
		return false
	}
	_, known := rule.Namespaces.Selects(namespace, labels)
	return !known
}

// Secrets returns the names of the Secrets that a service account should list, in the order of the rules' names. labels returns the
// labels of the namespace; it is called only if they may decide. If it is nil, they are not known.
func (r *Rules) Secrets(namespace string, labels func() Labels, serviceAccount string) []string {
	var secrets []string
	for _, rule := range r.In(namespace, r.ask(labels)) {
		if rule.ServiceAccounts.Matches(serviceAccount) {
			secrets = append(secrets, rule.Secret)
		}
	}
	return secrets
}

func (r *Rules) ask(labels func() Labels) Labels {
	if labels == nil || r.labelled == 0 {
		return Labels{}
	}
	return labels()
}

// Attaching returns the rules from which ServiceAccounts and pods get their entries: these, and for each ImagePullSecret that cannot be
// read its last valid rule, where that is known. An account that is created while an object is invalid gets the entry like those before
// it, and an object that becomes invalid and valid again changes nothing of what is derived.
func (r *Rules) Attaching() *Rules {
	if r.attaching != nil {
		return r.attaching
	}
	return r
}

// Frozen reports whether the Secret with that name belongs to an ImagePullSecret that exists but cannot be read. Its
// copies and entries are left as they are: a typing mistake must not take a credential away.
func (r *Rules) Frozen(secret string) bool {
	name, ours := strings.CutPrefix(secret, SecretPrefix)
	return ours && r.Invalid(name) != nil
}

func (r *Rule) compare(name string) int { return strings.Compare(r.Name, name) }

// Change is a change of one ImagePullSecret.
type Change struct {
	Name string
	// Before is the rule before the change, or the last valid one if the ImagePullSecret was invalid; nil where there was none.
	Before *Rule
	// After is the rule after the change; nil where there is none.
	After *Rule
	// Unknown says that there may be copies and entries that Before does not select: the ImagePullSecret was invalid, and meanwhile
	// what was left to remove of earlier rules was not removed.
	Unknown bool
}

// Index holds the current Rules. Reading them costs one atomic load, since every admission request does so.
type Index struct {
	current atomic.Pointer[Rules]

	mu        sync.Mutex // serializes writers and guards the fields below
	seen      map[string]identity
	observers map[*func(Change)]struct{}
	barring   map[*func()]struct{} // those who observe what is barred
}

// NewIndex returns an index without rules.
func NewIndex() *Index {
	index := &Index{seen: map[string]identity{}, observers: map[*func(Change)]struct{}{}, barring: map[*func()]struct{}{}}
	index.current.Store(&Rules{})
	return index
}

// Rules returns the current rules.
func (i *Index) Rules() *Rules { return i.current.Load() }

// Observe calls f after each change of the index, in order. It returns a function that ends that. f must not call Put, Replace,
// Remove or Observe.
func (i *Index) Observe(f func(Change)) (stop func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := &f
	i.observers[key] = struct{}{}
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.observers, key)
	}
}

// Put takes in an ImagePullSecret as it is now. One that is being deleted counts as gone.
func (i *Index) Put(object *v1.ImagePullSecret) {
	i.mu.Lock()
	defer i.mu.Unlock()
	edit := i.edit()
	edit.put(object)
	edit.commit()
}

// Replace takes in objects as all the ImagePullSecrets there are.
func (i *Index) Replace(objects []*v1.ImagePullSecret) {
	i.mu.Lock()
	defer i.mu.Unlock()
	edit := i.edit()
	listed := make(map[string]bool, len(objects))
	for _, object := range objects {
		listed[object.Name] = true
		edit.put(object)
	}
	for _, name := range i.Rules().Names() {
		if !listed[name] {
			edit.set(name, nil, invalid{})
		}
	}
	edit.commit()
}

// Remove takes out the ImagePullSecret with that name.
func (i *Index) Remove(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	edit := i.edit()
	edit.set(name, nil, invalid{})
	edit.commit()
}
