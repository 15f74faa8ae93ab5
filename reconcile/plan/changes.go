package plan

import (
	"fmt"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/types"

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

// shortPatch is how many operations, or names, an edit is printed with.
const shortPatch = 5

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

// KeyOf returns the object that a change is made to.
func KeyOf(change Change) ObjectKey {
	switch change := change.(type) {
	case IssueSecret:
		return ObjectKey{Namespace: change.Namespace, Name: change.Rule.Secret}
	case DeleteSecret:
		return ObjectKey{Namespace: change.Namespace, Name: change.Name}
	case EditAccount:
		return ObjectKey{Namespace: change.Namespace, Account: true, Name: change.Name}
	}
	return ObjectKey{}
}

// LeavesMore returns what is to be compared again of a namespace once a change of it was made: an account of which more is to be
// changed, and whatever lists a Secret that was somebody else's until then.
func LeavesMore(change Change, namespace Namespace) Part {
	switch change := change.(type) {
	case EditAccount:
		if change.Rest {
			return PartOf(KeyOf(change))
		}
	case IssueSecret:
		before, found := namespace.Secret(change.Rule.Secret)
		if found && !before.sameHands(Secret{Managed: true, Owners: []types.UID{change.Rule.UID}}) {
			return Whole()
		}
	}
	return Part{}
}

// VersionOf returns the version of the object that a change is made to; 0 where there is none.
func VersionOf(change Change, namespace Namespace) uint64 {
	switch change := change.(type) {
	case IssueSecret:
		secret, _ := namespace.Secret(change.Rule.Secret)
		return secret.Version
	case DeleteSecret:
		return change.Version
	case EditAccount:
		return change.Version
	}
	return 0
}

// TookEffect reports whether a list is as the change was to leave it. Of its Secrets those that are removed come first.
func (c EditAccount) TookEffect(list []string) bool {
	added, removes := 0, false
	for _, operation := range c.Patch {
		switch operation.Operation {
		case "remove":
			removes = true
		case "add":
			added++
		}
	}
	removed := 0
	if removes { // then there is a list, to which each entry is added by an operation of its own
		removed = len(c.Secrets) - added
	}
	listed := pullsecret.Among(list)
	for i, name := range c.Secrets {
		if listed(name) != (i >= removed) {
			return false
		}
	}
	return true
}
