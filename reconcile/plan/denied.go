package plan

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// WatchRequest is a verb on a resource. The Secrets of each name are watched separately; Secret is empty for other resources, which every
// ImagePullSecret needs.
type WatchRequest struct{ Verb, Resource, Secret string }

// DeniedWatches remembers which lists and watches the API server refuses. While one is refused, objects that cannot be seen cannot be
// counted.
type DeniedWatches struct {
	mu     sync.Mutex
	denied map[WatchRequest]v1.Failure
}

// NewDeniedWatches returns a DeniedWatches without any refusal.
func NewDeniedWatches() *DeniedWatches {
	return &DeniedWatches{denied: map[WatchRequest]v1.Failure{}}
}

// Answered notes how the API server answered a list or the start of a watch: err is nil where it allowed it. It reports whether that
// changes what Failures returns.
func (d *DeniedWatches) Answered(request WatchRequest, err error, now time.Time) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.denied[request]
	before := len(d.denied)
	switch {
	case err == nil:
		delete(d.denied, request)
		if request.Verb == "watch" { // a watch can begin with a list of its own, and then no separate list follows
			delete(d.denied, WatchRequest{"list", request.Resource, request.Secret})
		}
	case apierrors.IsForbidden(err) && !known:
		d.denied[request] = v1.Failure{
			NamespacedName: "*/" + cmp.Or(request.Secret, "*"),
			Reason:         ReasonForbidden,
			Message:        shortened(remedy(err)),
			Since:          metav1.NewTime(now.Truncate(time.Second)),
		}
	}
	return len(d.denied) != before
}

// Withheld notes why the Secrets of a name are not even requested; err is nil where they are. It reports whether that changes what
// Failures returns.
func (d *DeniedWatches) Withheld(secret string, err error, now time.Time) (changed bool) {
	request := WatchRequest{Resource: "clusterroles", Secret: secret}
	d.mu.Lock()
	defer d.mu.Unlock()
	known, found := d.denied[request]
	if err == nil {
		delete(d.denied, request)
		return found
	}
	failure := v1.Failure{NamespacedName: "*/" + secret, Reason: ReasonOf(err), Message: messageOf(err), Since: known.Since}
	if !found {
		failure.Since = metav1.NewTime(now.Truncate(time.Second))
	}
	d.denied[request] = failure
	return failure != known
}

// Failures returns what prevents the Secrets of that name, and everything that they depend on, from being seen.
func (d *DeniedWatches) Failures(secret string) []v1.Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failures []v1.Failure
	for request, failure := range d.denied {
		if request.Secret == "" || request.Secret == secret {
			failures = append(failures, failure)
		}
	}
	slices.SortFunc(failures, func(a, b v1.Failure) int { return cmp.Compare(a.Message, b.Message) })
	return failures
}

// Forget drops the refusals for Secrets that are no longer watched.
func (d *DeniedWatches) Forget(secret string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.denied, func(request WatchRequest, _ v1.Failure) bool { return request.Secret == secret })
}
