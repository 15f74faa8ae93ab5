package pullsecret

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"maps"
	"slices"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

const (
	// maxPart bounds one part of what is derived, in bytes of JSON: etcd takes requests of 1.5 MiB.
	maxPart = 1_000_000
	// maxParts bounds the number of parts: the admission policy is evaluated once for each.
	maxParts = 16
	// maxKey is the length up to which a rule's key is the ImagePullSecret's name. The key stands once for each namespace
	// that a rule names.
	maxKey = 40
)

// Derived is what all rules together attach, in as many parts as it takes for each to be stored. The parts add up: what one
// attaches does not depend on the others.
type Derived struct {
	Parts []v1.DerivedAttachmentsSpec
	// TooLarge are, by the number of a part that is too large to be stored, the names of the rules in it. That takes some
	// hundred thousand names in all lists together.
	TooLarge map[int][]string
}

// Outdated is why what is stored of what is derived is not what the rules say now. What was stored before goes on to be
// attached inside the API server; webhook and reconciliation attach the rest.
type Outdated struct {
	// Reason is a CamelCase word, Message says what is wrong and what would mend it.
	Reason, Message string
	// ImagePullSecrets are those it concerns; nil for all.
	ImagePullSecrets []string
}

// Concerns reports whether an ImagePullSecret is among those that are not stored as they are now.
func (o *Outdated) Concerns(imagePullSecret string) bool {
	return o != nil && (o.ImagePullSecrets == nil || slices.Contains(o.ImagePullSecrets, imagePullSecret))
}

// Derive returns what the rules attach, in parts whose number is a power of two. have is how many there are now: the number
// falls only once everything fits well into fewer.
func Derive(rules *Rules, have int) Derived { return derive(rules, have, maxPart) }

func derive(rules *Rules, have, limit int) Derived {
	for number := 1; ; number *= 2 {
		bound := limit
		if number < have {
			bound /= 2
		}
		divided := divide(rules, number)
		if number < maxParts && slices.ContainsFunc(divided, func(d part) bool { return d.size > bound }) {
			continue
		}
		derived := Derived{Parts: make([]v1.DerivedAttachmentsSpec, number), TooLarge: map[int][]string{}}
		for i, one := range divided {
			derived.Parts[i] = one.spec()
			if one.size > limit {
				derived.TooLarge[i] = slices.Sorted(maps.Values(one.names))
			}
		}
		return derived
	}
}

// part is one of the parts on its way.
type part struct {
	v1.DerivedAttachmentsSpec
	names map[string]string // of the rules in it, by key
	size  int
}

// spec returns the part as it is stored: equal ones are encoded alike.
func (p *part) spec() v1.DerivedAttachmentsSpec {
	slices.Sort(p.Everywhere)
	for _, keys := range p.Namespaces {
		slices.Sort(keys)
	}
	return p.DerivedAttachmentsSpec
}

func divide(rules *Rules, number int) []part {
	divided := make([]part, number)
	for i := range divided {
		divided[i] = part{names: map[string]string{}, DerivedAttachmentsSpec: v1.DerivedAttachmentsSpec{
			Rules: map[string]v1.DerivedRule{}, Namespaces: map[string][]string{},
		}}
	}
	for rule := range rules.All() {
		key := derivedKey(rule.Name)
		if rule.Namespaces.All() {
			one := &divided[partFor(key, number)]
			one.define(key, rule)
			one.Everywhere = append(one.Everywhere, key)
			one.size += len(key) + len(`"",`)
			continue
		}
		for namespace := range rule.Namespaces.names {
			one := &divided[partFor(namespace, number)]
			one.define(key, rule)
			if one.Namespaces[namespace] == nil {
				one.size += len(namespace) + len(`"":[],`)
			}
			one.Namespaces[namespace] = append(one.Namespaces[namespace], key)
			one.size += len(key) + len(`"",`)
		}
	}
	return divided
}

func (p *part) define(key string, rule *Rule) {
	if _, defined := p.names[key]; defined {
		return
	}
	defined := v1.DerivedRule{Secret: rule.Secret}
	p.size += len(key) + len(rule.Secret) + len(`"":{"secret":""},`)
	if !rule.ServiceAccounts.All() {
		defined.ServiceAccounts = rule.ServiceAccounts.Names()
		p.size += len(`,"serviceAccounts":[]`)
		for _, account := range defined.ServiceAccounts {
			p.size += len(account) + len(`"",`)
		}
	}
	p.names[key], p.Rules[key] = rule.Name, defined
}

// derivedKey stands for an ImagePullSecret's name. A long one is told by its beginning and its hash; the "~" between them
// occurs in no name.
func derivedKey(name string) string {
	if len(name) <= maxKey {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxKey-17] + "~" + hex.EncodeToString(sum[:8])
}

// partFor says in which part what is filed under a key stands. With twice as many parts, each is divided in two.
func partFor(key string, number int) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key)) // it never fails
	return int(hash.Sum32() % uint32(number))
}
