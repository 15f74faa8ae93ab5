package pullsecret

import (
	"slices"
	"strings"
	"unsafe"

	"gomodules.xyz/jsonpatch/v2"
)

// maxEdits is how many edits a part is changed by. With more it is made anew: the API server refuses a JSON patch of more than
// 10,000 operations, and takes long for thousands.
const maxEdits = 1000

// Edits returns the JSON patch (RFC 6902), by paths that begin in the spec, that makes of an earlier part the part of that number
// as it is now. It is empty where they do not differ. What it costs depends on what was changed, not on what there is. known is
// false where only making the part anew can tell: another number of parts, rules that are left out, or a great many edits.
func (d *Derived) Edits(part int, earlier *Derived) (edits []jsonpatch.Operation, known bool) {
	if earlier == nil || earlier.Number != d.Number || len(earlier.TooLarge)+len(d.TooLarge) > 0 {
		return nil, false
	}
	before, after := view{earlier.rules, part, d.Number}, view{d.rules, part, d.Number}
	if before.rules == after.rules {
		return nil, true
	}
	edits = slices.Concat(ruleEdits(before, after), everywhereEdits(before, after), namespaceEdits(before, after))
	if len(edits) > maxEdits {
		return nil, false
	}
	return edits, true
}

// view is what a part of so many holds of rules.
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
	if rule.Namespaces.All() {
		return v.files(derivedKey(rule.Name))
	}
	for _, namespace := range rule.Namespaces.names {
		if v.files(namespace) {
			return true
		}
	}
	return false
}

// files reports whether what is filed under a key stands in the part.
func (v view) files(key string) bool { return partFor(key, v.number) == v.part }

// everywhere returns the keys of the rules that select every namespace.
func (v view) everywhere() []string {
	keys := []string{}
	for _, rule := range v.rules.everywhere {
		if key := derivedKey(rule.Name); v.files(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// naming returns the keys of the rules that name a namespace; nil where none does.
func (v view) naming(namespace string) (keys []string) {
	if !v.files(namespace) {
		return nil
	}
	rules, _ := v.rules.naming.get(namespace)
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

func (v view) hasNamespaces() bool {
	for namespace := range v.rules.naming.all() {
		if v.files(namespace) {
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
		case is != nil && (was == nil || !slices.Equal(was.Servers, is.Servers) || !slices.Equal(was.ServiceAccounts.names, is.ServiceAccounts.names)):
			edits.set(derivedKey(name), definition(is))
		case is == nil && was != nil:
			edits.remove(derivedKey(name))
		}
	}
	return edits.patch()
}

func namespaceEdits(before, after view) []jsonpatch.Operation {
	edits := members{list: "/namespaces", empty: !before.hasNamespaces()}
	for namespace := range after.rules.naming.apart(before.rules.naming) {
		was, is := before.naming(namespace), after.naming(namespace)
		switch {
		case slices.Equal(was, is):
		case is == nil:
			edits.remove(namespace)
		default:
			edits.set(namespace, is)
		}
	}
	return edits.patch()
}

func everywhereEdits(before, after view) []jsonpatch.Operation {
	if unsafe.SliceData(before.rules.everywhere) == unsafe.SliceData(after.rules.everywhere) {
		return nil // nobody changed it
	}
	keys := after.everywhere()
	if slices.Equal(before.everywhere(), keys) {
		return nil
	}
	return []jsonpatch.Operation{{Operation: "add", Path: "/everywhere", Value: keys}}
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

func (m *members) path(key string) string {
	return m.list + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key) // RFC 6901
}

func (m *members) patch() []jsonpatch.Operation {
	slices.SortFunc(m.edits, func(a, b jsonpatch.Operation) int { return strings.Compare(a.Path, b.Path) })
	if len(m.edits) > 0 && m.empty {
		return slices.Insert(m.edits, 0, jsonpatch.Operation{Operation: "add", Path: m.list, Value: map[string]any{}})
	}
	return m.edits
}
