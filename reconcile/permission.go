package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Reasons of failures that the API server gives, by its own names.
const (
	ReasonForbidden = string(metav1.StatusReasonForbidden)
	ReasonInvalid   = string(metav1.StatusReasonInvalid)
)

// wording is how the API server words a missing permission. Admission plugins answer 403 too, in words of their own.
var wording = regexp.MustCompile(`cannot (\w+) resource "([^"]+)" in API group "([^"]*)"`)

// remedy says what is wrong in the words of err, or, where a permission is missing, which one to grant.
func remedy(err error) string { return explained(err.Error()) }

// explained is remedy of an error's text.
func explained(text string) string {
	match := wording.FindStringSubmatch(text)
	if match == nil {
		return text
	}
	return fmt.Sprintf("the manager is not allowed to %s %s: grant its role the verb %q on the resource %q in the API group %q", match[1], match[2], match[1], match[2], match[3])
}

// access knows which lists and watches the API server refuses. While one is refused, what cannot be seen cannot be counted.
type access struct {
	mu      sync.Mutex
	refused map[watched]v1.Failure
	now     func() metav1.Time
	changed func(secret string)
}

// watched is a verb on a resource. The Secrets of each name are watched apart; secret is empty for other resources,
// without which no ImagePullSecret gets anywhere.
type watched struct{ verb, resource, secret string }

// answered takes in how the API server answered a list or the start of a watch: err is nil where it allowed it.
func (a *access) answered(asked watched, err error) {
	a.mu.Lock()
	_, known := a.refused[asked]
	before := len(a.refused)
	switch {
	case err == nil:
		delete(a.refused, asked)
		if asked.verb == "watch" { // it can begin with a list of its own, after which no other one is asked for
			delete(a.refused, watched{"list", asked.resource, asked.secret})
		}
	case apierrors.IsForbidden(err) && !known:
		a.refused[asked] = v1.Failure{
			NamespacedName: "*/" + cmp.Or(asked.secret, "*"),
			Reason:         ReasonForbidden,
			Message:        shortened(remedy(err)),
			Since:          a.now(),
		}
	}
	after := len(a.refused)
	a.mu.Unlock()
	if before != after {
		a.changed(asked.secret)
	}
}

// failures returns what keeps the Secrets of that name, and all that they need, from being seen.
func (a *access) failures(secret string) []v1.Failure {
	a.mu.Lock()
	defer a.mu.Unlock()
	var failures []v1.Failure
	for asked, failure := range a.refused {
		if asked.secret == "" || asked.secret == secret {
			failures = append(failures, failure)
		}
	}
	slices.SortFunc(failures, func(a, b v1.Failure) int { return cmp.Compare(a.Message, b.Message) })
	return failures
}

// forget drops what was refused of Secrets that are watched no more.
func (a *access) forget(secret string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.refused, func(asked watched, _ v1.Failure) bool { return asked.secret == secret })
}

// answered returns what takes in how the API server answers lists and watches of a resource. secret names the Secrets that
// are watched, and is empty for other resources.
func (c *Controller) answered(resource, secret string) func(verb string, err error) {
	explain := c.explain[resource]
	return func(verb string, err error) {
		explain(verb, err)
		c.status.access.answered(watched{verb, resource, secret}, err)
	}
}
