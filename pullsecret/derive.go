package pullsecret

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"slices"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

const (
	// maxPart bounds one part of what is derived, in bytes of JSON: etcd takes requests of 1.5 MiB.
	maxPart = 1_000_000
	// maxParts bounds the number of parts: the admission policy is evaluated once for each.
	maxParts = 16
	// maxKey is the length up to which a rule's key is the ImagePullSecret's name. The key is repeated for each namespace
	// that a rule names.
	maxKey = 40
)

// Derived is what all rules together attach, in as many parts as it takes for each to be stored. The parts add up: what one
// attaches does not depend on the others. Derived is immutable, and cheap until its parts are built.
type Derived struct {
	// Number is how many parts there are.
	Number int
	// Size is about how many bytes of JSON the parts are together, at most.
	Size int
	// TooLarge are the names of the rules, in order, that some part leaves out so that it can be stored: the largest in it. It takes
	// some hundred thousand names in all lists together to get there.
	TooLarge []string
	// WithoutPods are the names of the rules, in order, that should give their Secret to pods, but do not because more accounts are
	// barred than can be listed.
	WithoutPods []string

	rules   *Rules
	without omissions
}

// Outdated is why the stored DerivedAttachments are not what the rules say now.
type Outdated struct {
	// Reason is a CamelCase word, Message says what is wrong and how to fix it, Meanwhile who attaches what until then.
	Reason, Message, Meanwhile string
	// ImagePullSecrets are the names of those it concerns; nil for all.
	ImagePullSecrets []string
}

// Concerns reports whether an ImagePullSecret is among those that are not stored as they are now.
func (o *Outdated) Concerns(imagePullSecret string) bool {
	return o != nil && (o.ImagePullSecrets == nil || slices.Contains(o.ImagePullSecrets, imagePullSecret))
}

// Derive returns what the rules attach, in parts whose number is a power of two. have is how many there are now: the number
// falls only once everything fits well into fewer. If no number lets everything be stored, it is the smallest that leaves out the
// fewest rules.
func Derive(rules *Rules, have int) *Derived { return derive(rules, have, maxPart) }

func derive(rules *Rules, have, limit int) *Derived {
	bound := func(number int) int {
		if number < min(have, maxParts) {
			return limit / 2
		}
		return limit
	}
	var barred int // in each part
	if rules.servesPods() && rules.barred.size > 0 {
		barred = rules.barred.size + len(`"barred":{},`)
	}
	if size := rules.size + barred; size <= bound(1) {
		return &Derived{Number: 1, Size: size, WithoutPods: rules.unserved(), rules: rules}
	}
	weighed := weigh(rules)
	number, fewest := 0, 0
	for tried := 1; tried <= maxParts && (number == 0 || fewest > 0); tried *= 2 {
		if left := len(weighed.leave(tried, bound(tried)-barred).names()); number == 0 || left < fewest {
			number, fewest = tried, left
		}
	}
	without := weighed.leave(number, limit-barred)
	derived := &Derived{Number: number, TooLarge: without.names(), WithoutPods: rules.unserved(), rules: rules, without: without}
	for part := range number {
		derived.Size += min(weighed.size(part, number)+barred, limit)
	}
	return derived
}

// ServesPods reports whether some part may give Secrets to pods that list pull secrets of their own.
func (d *Derived) ServesPods() bool { return d.rules.servesPods() }

// Parts builds the parts. Equal ones have the same encoding.
func (d *Derived) Parts() []v1.DerivedAttachmentsSpec { return divide(d.rules, d.Number, d.without) }

// divide returns the parts, without the rules that are left out of each.
func divide(rules *Rules, number int, without omissions) []v1.DerivedAttachmentsSpec {
	parts := make([]v1.DerivedAttachmentsSpec, number)
	for i := range parts {
		parts[i] = v1.DerivedAttachmentsSpec{
			Rules: map[string]v1.DerivedRule{}, Namespaces: map[string][]string{}, Labelled: map[string][]string{},
		}
		if rules.servesPods() {
			parts[i].Barred = rules.barred.all()
		}
		if number > 1 {
			parts[i].Parts = number
		}
	}
	for rule := range rules.All() {
		key := derivedKey(rule.Name)
		if i := partFor(key, number); rule.Namespaces.listed() && !without.hold(i, rule) {
			rules.define(&parts[i], key, rule)
			if rule.Namespaces.everywhere() {
				parts[i].Everywhere = append(parts[i].Everywhere, key)
			} else {
				parts[i].Selecting = append(parts[i].Selecting, key)
			}
		}
		for _, under := range rule.Namespaces.filed() {
			if i := partFor(under, number); !without.hold(i, rule) {
				rules.define(&parts[i], key, rule)
				lists := parts[i].Namespaces
				if isPair(under) {
					lists = parts[i].Labelled
				}
				lists[under] = append(lists[under], key)
			}
		}
	}
	for _, part := range parts {
		slices.Sort(part.Everywhere)
		slices.Sort(part.Selecting)
		for _, lists := range []map[string][]string{part.Namespaces, part.Labelled} {
			for _, keys := range lists {
				slices.Sort(keys)
			}
		}
	}
	return parts
}

func (r *Rules) define(part *v1.DerivedAttachmentsSpec, key string, rule *Rule) {
	if _, defined := part.Rules[key]; defined {
		return
	}
	part.Rules[key] = r.definition(rule)
}

// definition returns what one of these rules attaches.
func (r *Rules) definition(rule *Rule) v1.DerivedRule {
	requirements, excluded := rule.Namespaces.asked()
	derived := v1.DerivedRule{
		Secret:          rule.Secret,
		ServiceAccounts: rule.ServiceAccounts.Names(), // a Selector for every name has a nil list
		Server:          rule.Servers[0],
		Requirements:    requirements, Excluded: excluded,
	}
	if len(rule.Servers) > 1 {
		derived.AdditionalServers = rule.Servers[1:]
	}
	if r.servesPods() {
		derived.Pods = rule.Pods
	}
	return derived
}

// derivedKey returns the key that stands for an ImagePullSecret's name: the name itself or, if it is long, its beginning and its
// hash. The "~" between them occurs in no name.
func derivedKey(name string) string {
	if len(name) <= maxKey {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxKey-17] + "~" + hex.EncodeToString(sum[:8])
}

// partFor returns the index of the part that holds what is filed under a key. With twice as many parts, each is divided in two.
func partFor(key string, number int) int {
	if number == 1 {
		return 0
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key)) // never fails
	return int(hash.Sum32() % uint32(number))
}
