package reconcile

import (
	"fmt"
	"slices"

	"gomodules.xyz/jsonpatch/v2"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Change is one write. Printed, it is a gerund that names its object, is short, and never holds a credential.
type Change interface{ fmt.Stringer }

// IssueSecret writes the rule's Secret: anew, or over one that is outdated, damaged or to be adopted.
type IssueSecret struct {
	Namespace string
	Rule      *pullsecret.Rule
	Exists    bool
	// Replaces is the Secret that stands there, where it cannot be written over because it is immutable: a new one takes
	// its place, if it still is at that version.
	Replaces *Secret
}

// DeleteSecret deletes a Secret of ours that no rule wants, if it still is at that version.
type DeleteSecret struct {
	Namespace, Name string
	Version         uint64
}

// EditAccount changes the imagePullSecrets of a ServiceAccount, if it still is at that version.
type EditAccount struct {
	Namespace, Name string
	Version         uint64
	// Secrets are the names of which no entry is left, and then those of which one is added.
	Secrets []string
	Patch   []jsonpatch.Operation
	// Rest is whether more is to be changed than one write may.
	Rest bool
}

const (
	// maxAdded and maxRemoved bound what one write changes of an account: the API server refuses a JSON patch of more than
	// 10,000 operations, or of 3 MB.
	maxAdded   = 5000
	maxRemoved = 1000
	// shortPatch is how many operations, or names, an edit is printed with.
	shortPatch = 5
)

func (c IssueSecret) String() string {
	if c.Replaces != nil {
		return fmt.Sprintf("replacing immutable secret %s/%s at %d", c.Namespace, c.Rule.Secret, c.Replaces.Version)
	}
	if c.Exists {
		return fmt.Sprintf("re-issuing secret %s/%s", c.Namespace, c.Rule.Secret)
	}
	return fmt.Sprintf("issuing secret %s/%s", c.Namespace, c.Rule.Secret)
}

func (c DeleteSecret) String() string {
	return fmt.Sprintf("deleting secret %s/%s at %d", c.Namespace, c.Name, c.Version)
}

// String tells a short patch whole, and of a long one how many entries of which names it concerns.
func (c EditAccount) String() string {
	about := fmt.Sprintf("editing service account %s/%s at %d:", c.Namespace, c.Name, c.Version)
	if max(len(c.Patch), len(c.Secrets)) > shortPatch {
		return fmt.Sprintf("%s a patch of %d operations for %d names, %.64q among them", about, len(c.Patch), len(c.Secrets), c.Secrets[:min(len(c.Secrets), shortPatch)])
	}
	for _, operation := range c.Patch {
		about += " " + operation.Json()
	}
	return about
}

// placeOf returns where a change is made.
func placeOf(change Change) place {
	switch change := change.(type) {
	case IssueSecret:
		return place{namespace: change.Namespace, name: change.Rule.Secret}
	case DeleteSecret:
		return place{namespace: change.Namespace, name: change.Name}
	case EditAccount:
		return place{namespace: change.Namespace, account: true, name: change.Name}
	}
	return place{}
}

// ReasonForeignSecret is the failure of a Secret whose name we need and whose type is not ours to change.
const ReasonForeignSecret = "ForeignSecret"

// Planned is what brings a namespace in line.
type Planned struct {
	Changes  []Change
	Problems []Problem
	// Unknown are Secrets whose presence decides about an entry and is not known: look them up and plan again.
	Unknown []string
}

// Sight says of the Secrets of which name it is known where they are and where not.
type Sight struct {
	// Issued is asked about those of ours, Watched about all. Those of an ImagePullSecret that there is, or just was, are watched.
	Issued, Watched func(secret string) bool
	// Gone is whether a Secret was looked up in the namespace and is not there. That says nothing of whose it was.
	Gone func(secret string) bool
}

// Plan compares a namespace with the rules.
func Plan(rules *pullsecret.Rules, namespace Namespace, sight Sight) Planned {
	var planned Planned
	if !namespace.Live {
		return planned // what is being deleted takes nothing new, and needs nothing removed
	}
	wanted := map[string]bool{}
	for _, rule := range rules.In(namespace.Name) {
		wanted[rule.Secret] = true
		planned.secret(rule, namespace, sight)
	}
	for _, secret := range namespace.Secrets {
		if !wanted[secret.Name] && !rules.Frozen(secret.Name) && ours(secret, rules, sight) {
			planned.Changes = append(planned.Changes, DeleteSecret{namespace.Name, secret.Name, secret.Version})
		}
	}
	for _, account := range namespace.Accounts {
		planned.account(rules, namespace, account, sight)
	}
	slices.Sort(planned.Unknown)
	planned.Unknown = slices.Compact(planned.Unknown)
	return planned
}

// ours reports whether a Secret is ours to delete.
func ours(secret Secret, rules *pullsecret.Rules, sight Sight) bool {
	return pullsecret.Ours(secret.Managed, len(secret.Owners) > 0, rules.Get(imagePullSecretOf(secret.Name)) != nil || sight.Watched(secret.Name))
}

func (p *Planned) secret(rule *pullsecret.Rule, namespace Namespace, sight Sight) {
	secret, found := namespace.Secret(rule.Secret)
	switch {
	case found && !secret.Docker:
		p.Problems = append(p.Problems, Problem{rule.Name, v1.Failure{
			NamespacedName: namespace.Name + "/" + rule.Secret,
			Reason:         ReasonForeignSecret,
			Message:        "a Secret of this name and another type than kubernetes.io/dockerconfigjson is in the way: delete or rename it",
		}})
	case found && current(secret, rule):
	case found && secret.Immutable && secret.Sum != rule.Sum: // only the data is, of all that we write
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, &secret})
	case found || sight.Issued(rule.Secret):
		p.Changes = append(p.Changes, IssueSecret{namespace.Name, rule, found, nil})
	}
}

// current reports whether a Secret is all that the rule wants it to be.
func current(secret Secret, rule *pullsecret.Rule) bool {
	return secret.Docker && secret.Managed && secret.Sum == rule.Sum && slices.Contains(secret.Owners, rule.UID)
}

func (p *Planned) account(rules *pullsecret.Rules, namespace Namespace, account Account, sight Sight) {
	wanted := rules.Secrets(namespace.Name, account.Name)
	isWanted := pullsecret.Among(wanted)
	var removed []string
	rest := false
	patch, left := pullsecret.Detach(account.Secrets, func(name string) bool {
		if isWanted(name) || rules.Frozen(name) || !pullsecret.Removable(name, false, false) {
			return false
		}
		secret, found := namespace.Secret(name)
		if !found && !sight.Watched(name) && !sight.Gone(name) {
			p.Unknown = append(p.Unknown, name)
			return false
		}
		if !pullsecret.Removable(name, found, found && ours(secret, rules, sight)) {
			return false
		}
		if len(removed) == maxRemoved {
			rest = true
			return false
		}
		removed = append(removed, name)
		return true
	})
	if rest {
		isLeft := pullsecret.Among(left)
		removed = slices.DeleteFunc(removed, isLeft)
	}
	attach, added := pullsecret.Attach(left, len(account.Secrets) > 0, wanted)
	if len(attach) > maxAdded {
		attach, added, rest = attach[:maxAdded], added[:maxAdded], true
	}
	if patch = append(patch, attach...); len(patch) > 0 {
		p.Changes = append(p.Changes, EditAccount{namespace.Name, account.Name, account.Version, append(removed, added...), patch, rest})
	}
}
