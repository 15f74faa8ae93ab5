package pullsecret

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Rules is one moment's set of rules. It is immutable, so whoever holds one sees no change.
type Rules struct {
	ordered []*Rule // by name
	byName  map[string]*Rule
	invalid map[string]field.ErrorList
}

// All returns the rules in the order of their names. The slice is shared: it must not be changed.
func (r *Rules) All() []*Rule { return r.ordered }

// Get returns the rule of the ImagePullSecret of that name; nil where there is none, or none that is valid.
func (r *Rules) Get(name string) *Rule { return r.byName[name] }

// Invalid returns what is wrong with the ImagePullSecret of that name; nil where it is valid or absent.
func (r *Rules) Invalid(name string) field.ErrorList { return r.invalid[name] }

// Names returns the names of all ImagePullSecrets, the valid and the invalid, in no order.
func (r *Rules) Names() []string {
	return slices.AppendSeq(slices.Collect(maps.Keys(r.byName)), maps.Keys(r.invalid))
}

// Secrets returns the names of the Secrets that a service account should list, in the order of the rules' names.
func (r *Rules) Secrets(namespace, serviceAccount string) []string {
	var secrets []string
	for _, rule := range r.ordered {
		if rule.Namespaces.Matches(namespace) && rule.ServiceAccounts.Matches(serviceAccount) {
			secrets = append(secrets, rule.Secret)
		}
	}
	return secrets
}

// Frozen reports whether the Secret of that name belongs to an ImagePullSecret that exists but cannot be read. Its
// copies and entries are left as they are: a typing mistake must not take a credential away.
func (r *Rules) Frozen(secret string) bool {
	name, ours := strings.CutPrefix(secret, SecretPrefix)
	return ours && r.invalid[name] != nil
}

// Index holds the current Rules. Reading it costs one atomic load: it stands on the path of admission requests.
type Index struct {
	current atomic.Pointer[Rules]

	mu        sync.Mutex // serializes writers and guards observers
	observers []func(before, after *Rule, name string)
}

// NewIndex returns an index without rules.
func NewIndex() *Index {
	index := &Index{}
	index.current.Store(&Rules{})
	return index
}

// Rules returns the rules of this moment.
func (i *Index) Rules() *Rules { return i.current.Load() }

// Observe calls f after each change that the index takes in, in order, with the rule as it was and as it is: nil where
// there was or is none. It returns a function that ends that. f must not call back into Put, Remove or Observe.
func (i *Index) Observe(f func(before, after *Rule, name string)) (stop func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.observers = append(slices.Clone(i.observers), f)
	slot := len(i.observers) - 1
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.observers = slices.Clone(i.observers)
		i.observers[slot] = func(_, _ *Rule, _ string) {}
	}
}

// Put takes in an ImagePullSecret as it is now. One that is being deleted counts as gone.
func (i *Index) Put(object *v1.ImagePullSecret) {
	if object.DeletionTimestamp != nil {
		i.Remove(object.Name)
		return
	}
	if have := i.Rules().Get(object.Name); have != nil && have.UID == object.UID && have.Generation == object.Generation {
		return // only its status or metadata changed
	}
	rule, errs := Parse(object)
	i.set(object.Name, rule, errs)
}

// Replace takes in objects as all there are.
func (i *Index) Replace(objects []*v1.ImagePullSecret) {
	listed := make(map[string]bool, len(objects))
	for _, object := range objects {
		listed[object.Name] = true
		i.Put(object)
	}
	for _, name := range i.Rules().Names() {
		if !listed[name] {
			i.Remove(name)
		}
	}
}

// Remove takes the ImagePullSecret of that name out.
func (i *Index) Remove(name string) { i.set(name, nil, nil) }

func (i *Index) set(name string, rule *Rule, errs field.ErrorList) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.current.Load()
	before := old.byName[name]
	if rule == nil && len(errs) == 0 && before == nil && old.invalid[name] == nil {
		return // was not there either
	}
	next := &Rules{byName: make(map[string]*Rule, len(old.byName)+1), invalid: make(map[string]field.ErrorList, len(old.invalid))}
	maps.Copy(next.byName, old.byName)
	maps.Copy(next.invalid, old.invalid)
	delete(next.byName, name)
	delete(next.invalid, name)
	if rule != nil {
		next.byName[name] = rule
	} else if len(errs) > 0 {
		next.invalid[name] = errs
	}
	next.ordered = slices.SortedFunc(maps.Values(next.byName), func(a, b *Rule) int { return strings.Compare(a.Name, b.Name) })
	i.current.Store(next)
	for _, observe := range i.observers {
		observe(before, rule, name)
	}
}
