package plan

import (
	"slices"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// ReasonForeignSecret is the failure of a Secret that has the name we need, but another type. It is left alone.
const ReasonForeignSecret = "ForeignSecret"

// Plan is what has to be done to reconcile a namespace.
type Plan struct {
	Changes  []Change
	Problems []Problem
	// Unknown are the names of Secrets whose existence decides about an entry and is not known: look them up and plan again.
	Unknown []string
	// Odd are the names of accounts whose opt-out label has an unknown value, and "" where the namespace's own label does.
	Odd []string
}

// Visibility says for which names the Secrets are known in every namespace.
type Visibility struct {
	// Issued reports whether the Secrets of ours under a name are known, Watched whether all Secrets under it are. The Secrets of an
	// ImagePullSecret that exists, or just existed, are watched.
	Issued, Watched func(secret string) bool
	// Gone reports whether a Secret was looked up in the namespace and does not exist. That says nothing about whose it was.
	Gone func(secret string) bool
}

// For compares a namespace with the rules.
func For(rules *pullsecret.Rules, namespace Namespace, seen Visibility) Plan {
	return ForPart(rules, namespace, Whole(), seen)
}

// ForPart compares a part of a namespace with the rules, and plans for it what For does. It needs no more of the namespace than
// State.ViewPart returns.
func ForPart(rules *pullsecret.Rules, namespace Namespace, part Part, seen Visibility) Plan {
	var planned Plan
	if !namespace.Live {
		return planned // a namespace that is being deleted accepts nothing new, and needs nothing removed
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
	named := rules.Get(pullsecret.ImagePullSecretName(secret.Name)) != nil || seen.Watched(secret.Name)
	return pullsecret.Ours(secret.Managed, len(secret.Owners) > 0, named)
}

// frozen reports whether a Secret of that name, and entries that list it, stay as they are, because its ImagePullSecret cannot be read,
// or it is not known whether it selects the namespace. An opt-out takes effect all the same.
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
			Message:        "a Secret of this name is in the way, since its type is not kubernetes.io/dockerconfigjson: delete or rename it",
		}})
	case found && Current(secret, rule):
	case !rule.Known(): // an existing Secret stays as it is
	case found && secret.Immutable && secret.Sum != rule.Sum: // of all that we write, only the data is immutable
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, &secret})
	case found || seen.Issued(rule.Secret):
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, nil})
	}
}

// Current reports whether a Secret is all that the rule wants it to be. While the credential is not known, it may hold any credential.
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
