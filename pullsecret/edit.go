package pullsecret

import (
	"slices"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// edit is a change of the rules that is not committed yet. Its index is locked.
type edit struct {
	index      *Index // nil where none does
	now        *Rules // as they are without it
	byName     draft[*Rule]
	invalid    draft[invalid]
	filed      draft[[]*Rule]
	everywhere map[string]*Rule // changes of Rules.everywhere, by name; nil takes a rule out
	selecting  map[string]*Rule // changes of Rules.selecting
	labelled   int
	asking     int
	size       int // of what all attach
	changes    []Change
}

func (i *Index) edit() *edit {
	e := i.Rules().edit()
	e.index = i
	return e
}

func (r *Rules) edit() *edit {
	return &edit{
		now: r, byName: r.byName.draft(), invalid: r.invalid.draft(), filed: r.filed.draft(),
		everywhere: map[string]*Rule{}, selecting: map[string]*Rule{}, labelled: r.labelled, asking: r.asking, size: r.size,
	}
}

func (e *edit) put(object *v1.ImagePullSecret) {
	if object.DeletionTimestamp != nil {
		e.set(object.Name, nil, invalid{})
		return
	}
	is := identify(object)
	if e.index.seen[object.Name] == is {
		return // only its status or metadata changed
	}
	rule, errs := Parse(object)
	if rule != nil {
		rule.inherits(e.predecessor(rule))
	}
	e.set(object.Name, rule, invalid{errs: errs, uid: object.UID})
	e.index.seen[object.Name] = is
}

// predecessor returns the rule from which a new one may inherit its credential; nil where there is none. An object that was invalid
// meanwhile keeps the token that the cloud has issued for it, but nobody has followed the Secret that it refers to.
func (e *edit) predecessor(rule *Rule) *Rule {
	before, valid := e.byName.get(rule.Name)
	if broken, _ := e.invalid.get(rule.Name); !valid && rule.Registry != nil {
		return broken.last
	}
	return before
}

// set takes in a rule, or what is wrong with its ImagePullSecret, or neither if that is gone.
func (e *edit) set(name string, rule *Rule, wrong invalid) {
	delete(e.index.seen, name)
	before, valid := e.byName.get(name)
	broken, wasInvalid := e.invalid.get(name)
	if rule == nil && len(wrong.errs) == 0 && !valid && !wasInvalid {
		return // it was not there before either
	}
	change := Change{Name: name, Before: before, After: rule}
	if wasInvalid {
		change.Before, change.Unknown = broken.last, true
	}
	e.byName.delete(name)
	e.invalid.delete(name)
	if rule != nil {
		e.byName.set(name, rule)
	} else if len(wrong.errs) > 0 {
		wrong.last = change.Before
		e.invalid.set(name, wrong)
	}
	if before != nil {
		e.unlist(before)
	}
	if rule != nil {
		e.list(rule)
	}
	e.changes = append(e.changes, change)
}

func (e *edit) unlist(rule *Rule) {
	e.size -= ruleSize(rule)
	e.file(rule, nil)
	if rule.Namespaces.Labelled() {
		e.labelled--
	}
	if rule.Pods != "" {
		e.asking--
	}
	for _, key := range rule.Namespaces.filed() {
		others, _ := e.filed.get(key)
		others = slices.DeleteFunc(slices.Clone(others), func(other *Rule) bool { return other.Name == rule.Name })
		if len(others) == 0 {
			e.size -= listSize(key)
			e.filed.delete(key)
			continue
		}
		e.filed.set(key, others)
	}
}

func (e *edit) list(rule *Rule) {
	e.size += ruleSize(rule)
	e.file(rule, rule)
	if rule.Namespaces.Labelled() {
		e.labelled++
	}
	if rule.Pods != "" {
		e.asking++
	}
	for _, key := range rule.Namespaces.filed() {
		others, listed := e.filed.get(key)
		if !listed {
			e.size += listSize(key)
		}
		i, _ := slices.BinarySearchFunc(others, rule.Name, (*Rule).compare)
		e.filed.set(key, slices.Insert(slices.Clip(others), i, rule))
	}
}

// file notes what a rule becomes in the lists everywhere and selecting; nil takes it out.
func (e *edit) file(rule, becomes *Rule) {
	if rule.Namespaces.everywhere() {
		e.everywhere[rule.Name] = becomes
	}
	if rule.Namespaces.selecting() {
		e.selecting[rule.Name] = becomes
	}
}

func (e *edit) commit() {
	if len(e.changes) == 0 {
		return
	}
	next := e.done()
	next.attaching = e.attaching(next)
	e.index.current.Store(next)
	for _, change := range e.changes {
		for observe := range e.index.observers {
			(*observe)(change)
		}
	}
}

// done returns the changed rules.
func (e *edit) done() *Rules {
	return &Rules{
		byName: e.byName.done(), invalid: e.invalid.done(), filed: e.filed.done(),
		everywhere: listed(e.now.everywhere, e.everywhere), selecting: listed(e.now.selecting, e.selecting),
		labelled: e.labelled, asking: e.asking, barred: e.now.barred, size: e.size,
	}
}

// attaching returns next together with the last valid rules of objects that cannot be read; nil where there are no such objects. It
// starts from what attached before, so that its cost does not depend on how many of them there are.
func (e *edit) attaching(next *Rules) *Rules {
	if next.invalid.size == 0 {
		return nil
	}
	attaching := e.now.Attaching().edit()
	attaching.invalid = next.invalid.draft()
	for _, change := range e.changes {
		rule, valid := next.byName.get(change.Name)
		if broken, _ := next.invalid.get(change.Name); !valid {
			rule = broken.gives()
		}
		attaching.replace(change.Name, rule)
	}
	return attaching.done()
}

// replace replaces the rule with that name, if there is one; nil takes it out.
func (e *edit) replace(name string, rule *Rule) {
	before, _ := e.byName.get(name)
	if before == rule {
		return
	}
	if before != nil {
		e.byName.delete(name)
		e.unlist(before)
	}
	if rule != nil {
		e.byName.set(name, rule)
		e.list(rule)
	}
}

// listed returns a list with its changes applied: the same list where there are none.
func listed(rules []*Rule, become map[string]*Rule) []*Rule {
	if len(become) == 0 {
		return rules
	}
	rules = slices.DeleteFunc(slices.Clone(rules), func(rule *Rule) bool {
		_, changed := become[rule.Name]
		return changed
	})
	for _, rule := range become {
		if rule != nil {
			rules = append(rules, rule)
		}
	}
	slices.SortFunc(rules, func(a, b *Rule) int { return a.compare(b.Name) })
	return rules
}
