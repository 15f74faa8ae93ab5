package pullsecret

import (
	"slices"
	"strings"
	"unsafe"

	"gomodules.xyz/jsonpatch/v2"
)

// maxEdits is by how many edits a part is changed at most. If it takes more, the part is rebuilt: the API server refuses a JSON patch
// of more than 10,000 operations, and is slow with thousands.
const maxEdits = 1000

// Edits returns the JSON patch (RFC 6902), with paths relative to the spec, that turns the part with that index, as earlier derived it,
// into what it is now. It is empty where they do not differ. Its cost depends on what was changed, not on what there is. known is
// false where the part must be rebuilt instead: the number of parts has changed, rules are left out, or there are too many edits.
func (d *Derived) Edits(part int, earlier *Derived) (edits []jsonpatch.Operation, known bool) {
	if earlier == nil || earlier.Number != d.Number || len(earlier.TooLarge)+len(d.TooLarge) > 0 ||
		earlier.rules.servesPods() != d.rules.servesPods() {
		return nil, false
	}
	before, after := view{earlier.rules, part, d.Number}, view{d.rules, part, d.Number}
	if before.rules == after.rules {
		return nil, true
	}
	edits = slices.Concat(
		ruleEdits(before, after),
		listEdits("/everywhere", before, after, before.rules.everywhere, after.rules.everywhere),
		listEdits("/selecting", before, after, before.rules.selecting, after.rules.selecting),
		filedEdits("/namespaces", before, after, func(under string) bool { return !isPair(under) }),
		filedEdits("/labelled", before, after, isPair),
		barredEdits("/barred", before.rules, after.rules))
	if len(edits) > maxEdits {
		return nil, false
	}
	return edits, true
}

// view is what one part, out of number parts, holds of the rules.
type view struct {
	rules        *Rules
	part, number int
}

// rule returns the rule of that name; nil where the part does not define it.
func (v view) rule(name string) *Rule {
	if rule := v.rules.Get(name); rule != nil && v.defines(rule) {
		return rule
	}
	return nil
}

func (v view) defines(rule *Rule) bool {
	return rule.Namespaces.listed() && v.files(derivedKey(rule.Name)) || slices.ContainsFunc(rule.Namespaces.filed(), v.files)
}

// files reports whether the part holds what is filed under a key.
func (v view) files(key string) bool { return partFor(key, v.number) == v.part }

// listed returns the keys of those rules that the part lists.
func (v view) listed(rules []*Rule) []string {
	keys := []string{}
	for _, rule := range rules {
		if key := derivedKey(rule.Name); v.files(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// filed returns the keys of the rules that the part files under the name of a namespace, or a label; nil where it files none.
func (v view) filed(under string) (keys []string) {
	if !v.files(under) {
		return nil
	}
	rules, _ := v.rules.filed.get(under)
	for _, rule := range rules {
		keys = append(keys, derivedKey(rule.Name))
	}
	slices.Sort(keys)
	return keys
}

func (v view) hasRules() bool {
	for rule := range v.rules.All() {
		if v.defines(rule) {
			return true
		}
	}
	return false
}

// has reports whether the part files anything under a key for which such is true.
func (v view) has(such func(under string) bool) bool {
	for under := range v.rules.filed.all() {
		if such(under) && v.files(under) {
			return true
		}
	}
	return false
}

func ruleEdits(before, after view) []jsonpatch.Operation {
	edits := members{list: "/rules", empty: !before.hasRules()}
	for name := range after.rules.byName.apart(before.rules.byName) {
		was, is := before.rule(name), after.rule(name)
		switch {
		case is != nil && (was == nil || was.Pods != is.Pods || !slices.Equal(was.Servers, is.Servers) ||
			!slices.Equal(was.ServiceAccounts.names, is.ServiceAccounts.names) ||
			!was.Namespaces.equalAsked(is.Namespaces)):
			edits.set(derivedKey(name), after.rules.definition(is))
		case is == nil && was != nil:
			edits.remove(derivedKey(name))
		}
	}
	return edits.patch()
}

func filedEdits(list string, before, after view, such func(under string) bool) []jsonpatch.Operation {
	edits := members{list: list}
	for under := range after.rules.filed.apart(before.rules.filed) {
		if !such(under) {
			continue
		}
		was, is := before.filed(under), after.filed(under)
		switch {
		case slices.Equal(was, is):
		case is == nil:
			edits.remove(under)
		default:
			edits.set(under, is)
		}
	}
	edits.empty = len(edits.edits) > 0 && !before.has(such)
	return edits.patch()
}

func barredEdits(list string, before, after *Rules) []jsonpatch.Operation {
	if !after.servesPods() {
		return nil // as before
	}
	edits := members{list: list, empty: before.barred.accounts.size == 0}
	for namespace := range after.barred.accounts.apart(before.barred.accounts) {
		was, _ := before.barred.accounts.get(namespace)
		is, listed := after.barred.accounts.get(namespace)
		switch {
		case slices.Equal(was, is):
		case !listed:
			edits.remove(namespace)
		default:
			edits.set(namespace, is)
		}
	}
	return edits.patch()
}

func listEdits(list string, before, after view, were, are []*Rule) []jsonpatch.Operation {
	if unsafe.SliceData(were) == unsafe.SliceData(are) {
		return nil // nobody changed it
	}
	keys := after.listed(are)
	if slices.Equal(before.listed(were), keys) {
		return nil
	}
	return []jsonpatch.Operation{{Operation: "add", Path: list, Value: keys}}
}

// members are edits of an object's members.
type members struct {
	list  string // the object's path
	empty bool   // there may be no such object yet
	edits []jsonpatch.Operation
}

func (m *members) set(key string, value any) {
	m.edits = append(m.edits, jsonpatch.Operation{Operation: "add", Path: m.path(key), Value: value})
}

func (m *members) remove(key string) {
	m.edits = append(m.edits, jsonpatch.Operation{Operation: "remove", Path: m.path(key)})
}

// escaped escapes a key for use in a path (RFC 6901).
var escaped = strings.NewReplacer("~", "~0", "/", "~1")

func (m *members) path(key string) string { return m.list + "/" + escaped.Replace(key) }

func (m *members) patch() []jsonpatch.Operation {
	slices.SortFunc(m.edits, func(a, b jsonpatch.Operation) int { return strings.Compare(a.Path, b.Path) })
	if len(m.edits) > 0 && m.empty {
		return slices.Insert(m.edits, 0, jsonpatch.Operation{Operation: "add", Path: m.list, Value: map[string]any{}})
	}
	return m.edits
}
