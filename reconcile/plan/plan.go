package plan

import (
	"slices"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// ReasonForeignSecret is the failure of a Secret whose name we need and whose type is not ours to change.
const ReasonForeignSecret = "ForeignSecret"

// Plan is what brings a namespace in line.
type Plan struct {
	Changes  []Change
	Problems []Problem
	// Unknown are Secrets whose presence decides about an entry and is not known: look them up and plan again.
	Unknown []string
	// Odd is whose label says neither that it is kept out nor that it is not: names of accounts, and "" for the namespace itself.
	Odd []string
}

// Visibility says of the Secrets of which name it is known where they are and where not.
type Visibility struct {
	// Issued is asked about those of ours, Watched about all. Those of an ImagePullSecret that there is, or just was, are watched.
	Issued, Watched func(secret string) bool
	// Gone is whether a Secret was looked up in the namespace and is not there. That says nothing of whose it was.
	Gone func(secret string) bool
}

// For compares a namespace with the rules.
func For(rules *pullsecret.Rules, namespace Namespace, seen Visibility) Plan {
	return ForPart(rules, namespace, Whole(), seen)
}

// ForPart compares a part of a namespace with the rules, and plans for it what For does. Of the namespace it takes no more than
// State.ViewPart returns.
func ForPart(rules *pullsecret.Rules, namespace Namespace, part Part, seen Visibility) Plan {
	var planned Plan
	if !namespace.Live {
		return planned // what is being deleted takes nothing new, and needs nothing removed
	}
	if part.IsWhole() && namespace.OptOut == pullsecret.OddOptOut {
		planned.Odd = append(planned.Odd, "")
	}
	var selecting []*pullsecret.Rule
	if namespace.OptOut != pullsecret.OptedOut {
		selecting = rules.In(namespace.Name, namespace.Labels)
	}
	if part.holdsSecrets() {
		planned.secrets(rules, selecting, namespace, part, seen)
	}
	for _, account := range namespace.Accounts {
		if part.holds(localKey{account: true, name: account.Name}) {
			planned.account(rules, selecting, namespace, account, seen)
		}
	}
	slices.Sort(planned.Unknown)
	planned.Unknown = slices.Compact(planned.Unknown)
	return planned
}

func (p *Plan) secrets(rules *pullsecret.Rules, selecting []*pullsecret.Rule, namespace Namespace, part Part, seen Visibility) {
	wanted := map[string]bool{}
	for _, rule := range selecting {
		if part.holds(localKey{name: rule.Secret}) {
			wanted[rule.Secret] = true
			p.secret(rule, namespace, seen)
		}
	}
	for _, secret := range namespace.Secrets {
		if !part.holds(localKey{name: secret.Name}) || wanted[secret.Name] || frozen(rules, secret.Name, namespace, pullsecret.NotOptedOut) {
			continue
		}
		if Ours(secret, rules, seen) {
			p.Changes = append(p.Changes, DeleteSecret{namespace.Name, secret.Name, secret.Version})
		}
	}
}

// Ours reports whether a Secret is ours to delete.
func Ours(secret Secret, rules *pullsecret.Rules, seen Visibility) bool {
	return pullsecret.Ours(secret.Managed, len(secret.Owners) > 0, rules.Get(pullsecret.ImagePullSecretName(secret.Name)) != nil || seen.Watched(secret.Name))
}

// frozen reports whether what there is of a Secret of that name stays as it is: its ImagePullSecret can't be read, or it is not known
// whether that selects the namespace. Whoever opts out does not wait for that.
func frozen(rules *pullsecret.Rules, secret string, namespace Namespace, account pullsecret.OptOut) bool {
	if namespace.OptOut == pullsecret.OptedOut || account == pullsecret.OptedOut {
		return false
	}
	return rules.Frozen(secret) || rules.Undecided(secret, namespace.Name, namespace.Labels)
}

func (p *Plan) secret(rule *pullsecret.Rule, namespace Namespace, seen Visibility) {
	secret, found := namespace.Secret(rule.Secret)
	switch {
	case found && !secret.Docker:
		p.Problems = append(p.Problems, Problem{rule.Name, false, v1.Failure{
			NamespacedName: namespace.Name + "/" + rule.Secret,
			Reason:         ReasonForeignSecret,
			Message:        "a Secret of this name and another type than kubernetes.io/dockerconfigjson is in the way: delete or rename it",
		}})
	case found && Current(secret, rule):
	case !rule.Known(): // what there is stays
	case found && secret.Immutable && secret.Sum != rule.Sum: // only the data is, of all that we write
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, &secret})
	case found || seen.Issued(rule.Secret):
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, nil})
	}
}

// Current reports whether a Secret is all that the rule wants it to be. While the credential is not known, it may hold any.
func Current(secret Secret, rule *pullsecret.Rule) bool {
	return secret.Docker && secret.Managed && (secret.Sum == rule.Sum || !rule.Known()) && slices.Contains(secret.Owners, rule.UID)
}

func (p *Plan) account(rules *pullsecret.Rules, selecting []*pullsecret.Rule, namespace Namespace, account Account, seen Visibility) {
	if account.OptOut == pullsecret.OddOptOut {
		p.Odd = append(p.Odd, account.Name)
	}
	var wanted []string
	for _, rule := range selecting {
		if account.OptOut != pullsecret.OptedOut && rule.ServiceAccounts.Matches(account.Name) {
			wanted = append(wanted, rule.Secret)
		}
	}
	isWanted := pullsecret.Among(wanted)
	var unwanted []string
	patch, left, rest := pullsecret.Detach(account.Secrets, func(name string) bool {
		if isWanted(name) || frozen(rules, name, namespace, account.OptOut) || !pullsecret.Removable(name, false, false) {
			return false
		}
		secret, found := namespace.Secret(name)
		if !found && !seen.Watched(name) && !seen.Gone(name) {
			p.Unknown = append(p.Unknown, name)
			return false
		}
		if !pullsecret.Removable(name, found, found && Ours(secret, rules, seen)) {
			return false
		}
		unwanted = append(unwanted, name)
		return true
	})
	removed := unwanted
	if rest {
		removed = slices.DeleteFunc(unwanted, pullsecret.Among(left))
	}
	attach, added, more := pullsecret.Attach(left, len(account.Secrets) > 0, wanted)
	if patch = append(patch, attach...); len(patch) > 0 {
		p.Changes = append(p.Changes, EditAccount{namespace.Name, account.Name, account.Version, append(removed, added...), patch, rest || more})
	}
}
