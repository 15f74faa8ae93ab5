package plan

import (
	"fmt"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Change is one write. Its string is short, a gerund that names the object, and never contains a credential.
type Change interface{ fmt.Stringer }

// IssueSecret writes the rule's Secret: a new one, or over one that is outdated, damaged or adopted.
type IssueSecret struct {
	Namespace string
	Rule      *pullsecret.Rule
	Exists    bool
	// Replaces is the existing Secret, where it cannot be overwritten because it is immutable: a new one takes its place, if it is still at
	// that version.
	Replaces *Secret
}

// DeleteSecret deletes a Secret of ours that no rule wants, if it is still at that version.
type DeleteSecret struct {
	Namespace, Name string
	Version         uint64
}

// EditAccount changes the imagePullSecrets of a ServiceAccount, if it is still at that version.
type EditAccount struct {
	Namespace, Name string
	Version         uint64
	// Secrets are the names whose last entry is removed, followed by the names for which an entry is added.
	Secrets []string
	Patch   []jsonpatch.Operation
	// Rest is whether more has to be changed than fits into one write.
	Rest bool
}

// shortPatch is the number of operations, or names, up to which an edit is printed in full.
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

// String prints a short patch in full; for a long one it gives the number of operations and names, and some of the names.
func (c EditAccount) String() string {
	about := fmt.Sprintf("editing service account %s/%s at %d:", c.Namespace, c.Name, c.Version)
	if max(len(c.Patch), len(c.Secrets)) > shortPatch {
		return fmt.Sprintf("%s a patch of %d operations for %d names, %.64q among them",
			about, len(c.Patch), len(c.Secrets), c.Secrets[:min(len(c.Secrets), shortPatch)])
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

// LeavesMore returns the part of a namespace to compare again once a change was made: an account in which more has to be changed, and the
// whole namespace where a Secret changed hands, since accounts may list it.
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

// VersionOf returns the version of the object that a change is made to; 0 where the object does not exist.
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

// TookEffect reports whether a list of entries is as the change intended. In c.Secrets, removed names come first.
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
	if removes { // then there is a list already, and each entry is added by an operation of its own
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
