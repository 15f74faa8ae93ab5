package plan

import (
	"fmt"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of failures that the API server gives.
const (
	ReasonForbidden = string(metav1.StatusReasonForbidden)
	ReasonInvalid   = string(metav1.StatusReasonInvalid)
)

// unpermitted matches how the API server words a missing permission. Admission plugins answer 403, too, in words of their own.
var unpermitted = regexp.MustCompile(`cannot (\w+) resource "([^"]+)" in API group "([^"]*)"`)

// remedy returns which permission to grant where one is missing, and otherwise the text of err.
func remedy(err error) string { return explained(err.Error()) }

// explained is remedy for the text of an error.
func explained(text string) string {
	match := unpermitted.FindStringSubmatch(text)
	if match == nil {
		return text
	}
	return fmt.Sprintf("the manager is not allowed to %s %s: grant its role the verb %q on the resource %q in the API group %q",
		match[1], match[2], match[1], match[2], match[3])
}

// permission is what a role grants. Secrets can be granted by name; name is empty for other resources.
type permission struct{ verb, resource, name string }

// missingIn returns the permission that err says is missing for a write of an object; zero where err says something else.
func missingIn(err error, written ObjectKey) permission {
	match := unpermitted.FindStringSubmatch(err.Error())
	if match == nil || !apierrors.IsForbidden(err) {
		return permission{}
	}
	if written.Account {
		return permission{verb: match[1], resource: match[2]}
	}
	return permission{verb: match[1], resource: match[2], name: written.Name}
}

// MissingVerb returns the verb that err says is not permitted; blank where err says something else.
func MissingVerb(err error) string { return missingIn(err, ObjectKey{}).verb }
