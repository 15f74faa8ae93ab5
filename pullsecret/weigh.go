package pullsecret

import (
	"cmp"
	"maps"
	"slices"
)

// What is derived is weighed before it is made: a rule's definition, of a hundred thousand bytes where its list of accounts is
// long, is repeated in each part in which it has a namespace, and making parts in vain takes seconds.

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
	return size
}

// entrySize returns how many bytes a rule's key takes up in the list of a namespace.
func entrySize(key string) int { return len(key) + len(`"",`) }

// listSize returns how many bytes the list of a namespace takes up besides its entries.
func listSize(namespace string) int { return len(namespace) + len(`"":[],`) }

// ruleSize returns how many bytes a rule takes up, besides the lists of the namespaces, where all is one part.
func ruleSize(rule *Rule) int {
	key := derivedKey(rule.Name)
	entries := len(rule.Namespaces.names)
	if rule.Namespaces.All() {
		entries = 1
	}
	return definitionSize(key, rule) + entries*entrySize(key)
}

// weights are how many bytes each rule takes up in each part.
type weights struct {
	rules []weight
	lists [maxParts]int // of all namespaces, besides their entries
	// naming are the rules that name a namespace.
	naming table[[]*Rule]
}

// weight is how many bytes one rule takes up: once in each part in which it has an entry, and then for these, by the part in
// which they are where there are as many as can be. (With fewer, several of these are one.)
type weight struct {
	rule       *Rule
	definition int
	entries    [maxParts]int32
	// lists are what the lists take up in which its entries stand, whoever else's stand there.
	lists [maxParts]int32
}

func weigh(rules *Rules) *weights {
	all := &weights{rules: make([]weight, 0, rules.byName.size), naming: rules.naming}
	for rule := range rules.All() {
		key := derivedKey(rule.Name)
		one := weight{rule: rule, definition: definitionSize(key, rule)}
		if rule.Namespaces.All() {
			one.entries[partFor(key, maxParts)] = int32(entrySize(key))
		}
		for _, namespace := range rule.Namespaces.names {
			i := partFor(namespace, maxParts)
			one.entries[i] += int32(entrySize(key))
			one.lists[i] += int32(listSize(namespace))
		}
		all.rules = append(all.rules, one)
	}
	for namespace := range rules.naming.all() {
		all.lists[partFor(namespace, maxParts)] += listSize(namespace)
	}
	return all
}

// in returns how many bytes a rule takes up in one of so many parts, and how many the lists do in which its entries stand.
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

// omissions are, for each part, the rules that are left out of it.
type omissions []map[*Rule]bool

func (o omissions) hold(part int, rule *Rule) bool { return o != nil && o[part][rule] }

// names returns the names of all that are left out somewhere, in order.
func (o omissions) names() []string {
	names := map[string]bool{}
	for _, rules := range o {
		for rule := range rules {
			names[rule.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// size returns how many bytes one of so many parts is.
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

// leave returns which rules are to be left out of each of so many parts for none to be larger than a bound.
func (w *weights) leave(number, bound int) omissions {
	without := make(omissions, number)
	for part := range without {
		if size := w.size(part, number); size > bound {
			without[part] = w.largest(part, number, size-bound)
		}
	}
	return without
}

// largest returns the largest rules in a part, as many of them as together take up as much as is too much.
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
		for _, namespace := range one.rule.Namespaces.names {
			if partFor(namespace, number) != part {
				continue
			}
			emptied[namespace]++
			if naming, _ := w.naming.get(namespace); emptied[namespace] == len(naming) {
				excess -= listSize(namespace) // nobody has an entry there any more
			}
		}
	}
	return chosen
}
