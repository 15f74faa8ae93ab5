package eviction

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// Role is the name of the ClusterRole that permits what an Evictor does.
const Role = "tcr-assistant-healing-role"

// doubtful is how long refusals of a watch do not count: an API server that has just started does not know any roles.
const doubtful = 3 * time.Second

// permissions records which requests of an Evictor the API server does not permit.
type permissions struct {
	log func(verb string, err error) // logs that pods may not be watched

	mu       sync.Mutex
	watching bool      // whether a watch of pods was established
	since    time.Time // when a watch of pods was first refused; zero where it was not
	missing  map[string]bool
}

func newPermissions(log *slog.Logger) *permissions {
	return &permissions{log: reflector.LogForbidden(log, "pods"), missing: map[string]bool{}}
}

const watchPods = "list and watch pods"

// answered records how the API server answers lists and watches of pods.
func (p *permissions) answered(verb string, err error) {
	p.log(verb, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && verb == "watch":
		p.watching, p.since = true, time.Time{}
		delete(p.missing, watchPods)
	case !apierrors.IsForbidden(err):
	case p.since.IsZero():
		p.since = time.Now()
	case time.Since(p.since) > doubtful:
		p.missing[watchPods] = true
	}
}

// used records how the API server answered a request. what is the request, such as "get jobs".
func (p *permissions) used(what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		delete(p.missing, what)
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot "): // refused by authorization, not by admission
		p.missing[what] = true
	}
}

// lacking returns the missing permissions, in a fixed order, and whether pods are watched. Until they are, not all missing permissions
// may be known.
func (p *permissions) lacking() (missing []string, watching bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, what := range []string{watchPods, evictPods, listEvents, getJobs} {
		if p.missing[what] {
			missing = append(missing, what)
		}
	}
	return missing, p.watching
}

func (p *permissions) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.missing)
	p.watching, p.since = false, time.Time{}
}
