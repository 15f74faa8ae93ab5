package reconcile

import (
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// probePause is how long after a permission was found missing it is tried whether it has been granted meanwhile, in one
	// namespace. Each further trial waits twice as long, up to maxProbePause.
	probePause    = time.Second
	maxProbePause = 10 * time.Second
	// unprobed is how long a write that lacks a permission waits at most. Where it is granted, the probe tells sooner; this is
	// for those to which it is granted namespace by namespace.
	unprobed = 20 * time.Minute
)

// refusalPauses are how long a write waits that an admission plugin refused, or that is not valid, after each refusal; up to
// twice as long, so that what was refused at once is not tried at once. The first ones are short: a quota that was just made
// and a policy that is not yet known refuse too. Nothing tells when a plugin changes its mind.
var refusalPauses = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}

// refusals knows the writes that the API server refused and will refuse again until something changes: what is to be
// written, its object, or the role. They are not repeated until then, nor as fast as others: a cluster of thousands of
// namespaces would be kept busy by them.
type refusals struct {
	mu      sync.Mutex
	subject func(Change) (namespace string, written object, content uint64)
	known   map[string]map[object]refusal // by namespace
	lacking map[permission]*lack
}

// refusal is one write that was refused.
type refusal struct {
	content, version uint64 // of what was to be written, and of the object that it was to replace
	times            int
	until            time.Time
	permission       permission // zero where it lacked none
	problems         []Problem
}

// permission is what a role grants. Secrets are granted by name where it is narrowed; name is empty for other resources.
type permission struct{ verb, resource, name string }

// lack is a permission that is missing.
type lack struct {
	waiting map[string]bool // namespaces
	trying  string          // the namespace that is to try next, if any
	trials  int
	next    time.Time
}

func newRefusals(subject func(Change) (string, object, uint64)) *refusals {
	return &refusals{subject: subject, known: map[string]map[object]refusal{}, lacking: map[permission]*lack{}}
}

// final reports whether the API server would answer the same request by the same error again.
func final(err error) bool {
	if kept := (*held)(nil); errors.As(err, &kept) {
		return true
	}
	switch codeOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return !apierrors.IsConflict(err)
	}
	return false
}

// versionOf returns the version of the object that a change is made to; 0 where there is none.
func versionOf(change Change, namespace Namespace) uint64 {
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

// held returns what keeps a change from being written yet, and until when; false where it may be written.
func (r *refusals) held(change Change, version uint64, now time.Time) (problems []Problem, until time.Time, held bool) {
	namespace, written, content := r.subject(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.known[namespace][written]
	if !found || known.content != content || known.version != version || !now.Before(known.until) {
		return nil, time.Time{}, false
	}
	if lacking := r.lacking[known.permission]; lacking != nil && lacking.trying == namespace {
		lacking.trying = ""
		return nil, time.Time{}, false
	}
	return append([]Problem(nil), known.problems...), known.until, true
}

// knows reports whether a change was refused as it is, whether or not it is time to try it again.
func (r *refusals) knows(change Change, version uint64) bool {
	namespace, written, content := r.subject(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.known[namespace][written]
	return found && known.content == content && known.version == version
}

// refused takes in that a change was refused, and returns when to try it again.
func (r *refusals) refused(change Change, version uint64, err error, problems []Problem, now time.Time) (until time.Time) {
	namespace, written, content := r.subject(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[namespace] == nil {
		r.known[namespace] = map[object]refusal{}
	}
	known := r.known[namespace][written]
	if known.content != content || known.version != version {
		known = refusal{content: content, version: version}
	}
	known.permission, known.problems = missing(err, written), append([]Problem(nil), problems...)
	pause := refusalPauses[min(known.times, len(refusalPauses)-1)]
	if known.permission != (permission{}) {
		pause = unprobed
		r.lack(known.permission, namespace, now)
	}
	known.times++
	known.until = now.Add(wait.Jitter(pause, 1))
	r.known[namespace][written] = known
	return known.until
}

// lack notes that a namespace waits for a permission.
func (r *refusals) lack(missing permission, namespace string, now time.Time) {
	lacking := r.lacking[missing]
	if lacking == nil {
		lacking = &lack{waiting: map[string]bool{}, next: now.Add(probePause)}
		r.lacking[missing] = lacking
	}
	lacking.waiting[namespace] = true
}

// missing returns the permission that an error says is missing; zero where it says something else.
func missing(err error, written object) permission {
	match := wording.FindStringSubmatch(err.Error())
	if match == nil || !apierrors.IsForbidden(err) {
		return permission{}
	}
	if written.account {
		return permission{verb: match[1], resource: match[2]}
	}
	return permission{verb: match[1], resource: match[2], name: written.name}
}

// allowed takes in that a change was written. Where it had lacked a permission, that has been granted: it returns the
// namespaces that waited for it, and lets them write.
func (r *refusals) allowed(change Change) (released []string) {
	namespace, written, _ := r.subject(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.known[namespace][written]
	if !found {
		return nil
	}
	r.drop(namespace, func(at object, _ refusal) bool { return at == written })
	lacking := r.lacking[known.permission]
	if lacking == nil {
		return nil
	}
	delete(r.lacking, known.permission)
	for namespace := range lacking.waiting {
		r.drop(namespace, func(_ object, other refusal) bool { return other.permission == known.permission })
		released = append(released, namespace)
	}
	return released
}

// drop forgets the refusals of a namespace that gone reports.
func (r *refusals) drop(namespace string, gone func(object, refusal) bool) {
	maps.DeleteFunc(r.known[namespace], gone)
	if len(r.known[namespace]) == 0 {
		delete(r.known, namespace)
	}
}

// due returns, for each permission that is to be tried now, a namespace that tries it when it is next brought in line.
func (r *refusals) due(now time.Time) (namespaces []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for missing, lacking := range r.lacking {
		if now.Before(lacking.next) {
			continue
		}
		lacking.next = now.Add(min(probePause<<min(lacking.trials, 10), maxProbePause))
		lacking.trials++
		lacking.trying = ""
		for namespace := range lacking.waiting { // in no order: each gets its turn
			if r.waits(namespace, missing) {
				lacking.trying = namespace
				namespaces = append(namespaces, namespace)
				break
			}
			delete(lacking.waiting, namespace)
		}
		if len(lacking.waiting) == 0 {
			delete(r.lacking, missing)
		}
	}
	return namespaces
}

// keep forgets the refusals in a namespace of what is no longer planned for it.
func (r *refusals) keep(namespace string, changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known[namespace]) == 0 {
		return
	}
	planned := map[object]bool{}
	for _, change := range changes {
		_, written, _ := r.subject(change)
		planned[written] = true
	}
	r.drop(namespace, func(at object, _ refusal) bool { return !planned[at] })
}

func (r *refusals) waits(namespace string, missing permission) bool {
	for _, known := range r.known[namespace] {
		if known.permission == missing {
			return true
		}
	}
	return false
}

// forget takes in that a namespace is gone.
func (r *refusals) forget(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, namespace)
}
