package pullsecret

import (
	"cmp"
	"maps"
	"slices"
)

// The size of the parts is computed before they are built: a rule's definition, which takes a hundred thousand bytes if its list of
// accounts is long, is repeated in each part in which it has a namespace, and building parts in vain takes seconds.

// definitionSize returns how many bytes of JSON define a rule.
func definitionSize(key string, rule *Rule) int {
	size := len(key) + len(rule.Secret) + len(rule.Servers[0]) + len(`"":{"secret":"","server":""},`)
	if len(rule.Servers) > 1 {
		size += len(`,"additionalServers":[]`)
		for _, server := range rule.Servers[1:] {
			size += len(server) + len(`"",`)
		}
	}
	if !rule.ServiceAccounts.All() {
		size += len(`,"serviceAccounts":[]`)
		for _, account := range rule.ServiceAccounts.names {
			size += len(account) + len(`"",`)
		}
	}
	if rule.Pods != "" {
		size += len(rule.Pods) + len(`,"pods":""`)
	}
	requirements, excluded := rule.Namespaces.asked()
	if len(requirements) > 0 {
		size += len(`,"requirements":[]`)
	}
	for _, requirement := range requirements {
		size += len(requirement.Key) + len(requirement.Operator) + len(`{"key":"","operator":"","values":[]},`)
		for _, value := range requirement.Values {
			size += len(value) + len(`"",`)
		}
	}
	if len(excluded) > 0 {
		size += len(`,"excluded":[]`)
	}
	for _, namespace := range excluded {
		size += len(namespace) + len(`"",`)
	}
	return size
}

// entrySize returns how many bytes a rule's key takes up in a list.
func entrySize(key string) int { return len(key) + len(`"",`) }

// listSize returns how many bytes the list of a namespace or a label takes up without its entries.
func listSize(of string) int { return len(of) + len(`"":[],`) }

// ruleSize returns how many bytes a rule takes up if there is only one part, without the lists of the namespaces and labels.
func ruleSize(rule *Rule) int {
	key := derivedKey(rule.Name)
	entries := len(rule.Namespaces.filed())
	if rule.Namespaces.listed() {
		entries++
	}
	if entries == 0 {
		return 0 // all that it names is excluded
	}
	return definitionSize(key, rule) + entries*entrySize(key)
}

// weights are how many bytes each rule takes up in each part.
type weights struct {
	rules []weight
	lists [maxParts]int // of all namespaces and labels, without their entries
	// filed are the rules by the keys they are filed under.
	filed table[[]*Rule]
}

// weight is how many bytes one rule takes up: its definition, once in each part in which it has an entry, and its entries, by part
// where there are maxParts of them. (With fewer parts, several of these are one.)
type weight struct {
	rule       *Rule
	definition int
	entries    [maxParts]int32
	// lists are what the lists that hold its entries take up, even if they also hold entries of other rules.
	lists [maxParts]int32
}

func weigh(rules *Rules) *weights {
	all := &weights{rules: make([]weight, 0, rules.byName.size), filed: rules.filed}
	for rule := range rules.All() {
		key := derivedKey(rule.Name)
		one := weight{rule: rule, definition: definitionSize(key, rule)}
		if rule.Namespaces.listed() {
			one.entries[partFor(key, maxParts)] = int32(entrySize(key))
		}
		for _, under := range rule.Namespaces.filed() {
			i := partFor(under, maxParts)
			one.entries[i] += int32(entrySize(key))
			one.lists[i] += int32(listSize(under))
		}
		all.rules = append(all.rules, one)
	}
	for under := range rules.filed.all() {
		all.lists[partFor(under, maxParts)] += listSize(under)
	}
	return all
}

// in returns how many bytes a rule takes up in one part, out of number, and how many the lists do that hold its entries.
func (w *weight) in(part, number int) (own, lists int) {
	for i := part; i < maxParts; i += number {
		own += int(w.entries[i])
		lists += int(w.lists[i])
	}
	if own > 0 {
		own += w.definition
	}
	return own, lists
}

// omissions are the rules that are left out of each part.
type omissions []map[*Rule]bool

func (o omissions) hold(part int, rule *Rule) bool { return o != nil && o[part][rule] }

// names returns the names of all rules that some part leaves out, in order.
func (o omissions) names() []string {
	names := map[string]bool{}
	for _, rules := range o {
		for rule := range rules {
			names[rule.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// size returns the size of one part, out of number, in bytes.
func (w *weights) size(part, number int) (size int) {
	for i := part; i < maxParts; i += number {
		size += w.lists[i]
	}
	for i := range w.rules {
		own, _ := w.rules[i].in(part, number)
		size += own
	}
	return size
}

// leave returns which rules to leave out of each of number parts, so that none is larger than bound.
func (w *weights) leave(number, bound int) omissions {
	without := make(omissions, number)
	for part := range without {
		if size := w.size(part, number); size > bound {
			without[part] = w.largest(part, number, size-bound)
		}
	}
	return without
}

// largest returns the largest rules in a part: as many as together take up at least the excess.
func (w *weights) largest(part, number, excess int) map[*Rule]bool {
	type share struct {
		rule       *Rule
		own, total int
	}
	var shares []share
	for i := range w.rules {
		if own, lists := w.rules[i].in(part, number); own > 0 {
			shares = append(shares, share{w.rules[i].rule, own, own + lists})
		}
	}
	slices.SortFunc(shares, func(a, b share) int {
		return cmp.Or(cmp.Compare(b.total, a.total), a.rule.compare(b.rule.Name))
	})
	chosen, emptied := map[*Rule]bool{}, map[string]int{}
	for _, one := range shares {
		if excess <= 0 {
			break
		}
		chosen[one.rule] = true
		excess -= one.own
		for _, under := range one.rule.Namespaces.filed() {
			if partFor(under, number) != part {
				continue
			}
			emptied[under]++
			if filed, _ := w.filed.get(under); emptied[under] == len(filed) {
				excess -= listSize(under) // the list is empty now
			}
		}
	}
	return chosen
}
