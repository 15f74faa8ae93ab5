package plan

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// probeDelay is how long after a permission was found missing it is tried whether it has been granted meanwhile, in one
	// namespace. Each further trial waits twice as long.
	probeDelay = time.Second
	// MaxProbeDelay is the longest that such a trial waits.
	MaxProbeDelay = 10 * time.Second
	// unprobedDelay is how long a write that lacks a permission waits at most. Where it is granted, the probe tells sooner;
	// this is for those to which it is granted namespace by namespace.
	unprobedDelay = 20 * time.Minute
)

// refusalDelays are how long a write waits that an admission plugin refused, or that is not valid, after each refusal; up to
// twice as long, so that what was refused at once is not tried at once. The first ones are short: a quota that was just made
// and a policy that is not yet known refuse too. Nothing tells when a plugin changes its mind.
var refusalDelays = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}

// Refusals holds back the writes that the API server refused and will refuse again until something changes: what is to be
// written, its object, or the role. They are not repeated until then, nor as fast as others: a cluster of thousands of
// namespaces would be kept busy by them.
type Refusals struct {
	mu          sync.Mutex
	byNamespace map[string]map[localKey]refusal
	missing     map[permission]*missingPermission
}

// refusal is one write that was refused.
type refusal struct {
	content, version uint64 // of what was to be written, and of the object that it was to replace
	times            int
	until            time.Time
	permission       permission // zero where it lacked none
	problems         []Problem
}

// missingPermission is what waits for a permission, and when it is tried whether it has been granted.
type missingPermission struct {
	waiting map[string]bool // namespaces
	probe   string          // the namespace that is to try next, if any
	probes  int
	next    time.Time
}

// NewRefusals returns one that knows of no refusal.
func NewRefusals() *Refusals {
	return &Refusals{byNamespace: map[string]map[localKey]refusal{}, missing: map[permission]*missingPermission{}}
}

// Permanent reports whether the API server would answer the same request by the same error again.
func Permanent(err error) bool {
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return true
	}
	switch codeOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return !apierrors.IsConflict(err)
	}
	return false
}

// Held returns what keeps a change from being written yet, and until when; false where it may be written.
func (r *Refusals) Held(change Change, version uint64, now time.Time) (problems []Problem, until time.Time, held bool) {
	key, content := KeyOf(change), contentOf(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, found := r.byNamespace[key.Namespace][key.local()]
	if !found || refused.content != content || refused.version != version || !now.Before(refused.until) {
		return nil, time.Time{}, false
	}
	if missing := r.missing[refused.permission]; missing != nil && missing.probe == key.Namespace {
		missing.probe = ""
		return nil, time.Time{}, false
	}
	return slices.Clone(refused.problems), refused.until, true
}

// Known reports whether a change was refused as it is, whether or not it is time to try it again.
func (r *Refusals) Known(change Change, version uint64) bool {
	key, content := KeyOf(change), contentOf(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, found := r.byNamespace[key.Namespace][key.local()]
	return found && refused.content == content && refused.version == version
}

// Refused takes in that a change was refused, and returns when to try it again.
func (r *Refusals) Refused(change Change, version uint64, err error, problems []Problem, now time.Time) (until time.Time) {
	key, content := KeyOf(change), contentOf(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byNamespace[key.Namespace] == nil {
		r.byNamespace[key.Namespace] = map[localKey]refusal{}
	}
	refused := r.byNamespace[key.Namespace][key.local()]
	if refused.content != content || refused.version != version {
		refused = refusal{content: content, version: version}
	}
	refused.permission, refused.problems = missingIn(err, key), slices.Clone(problems)
	delay := refusalDelays[min(refused.times, len(refusalDelays)-1)]
	if refused.permission != (permission{}) {
		delay = unprobedDelay
		r.await(refused.permission, key.Namespace, now)
	}
	refused.times++
	refused.until = now.Add(wait.Jitter(delay, 1))
	r.byNamespace[key.Namespace][key.local()] = refused
	return refused.until
}

// await notes that a namespace waits for a permission.
func (r *Refusals) await(wanted permission, namespace string, now time.Time) {
	missing := r.missing[wanted]
	if missing == nil {
		missing = &missingPermission{waiting: map[string]bool{}, next: now.Add(probeDelay)}
		r.missing[wanted] = missing
	}
	missing.waiting[namespace] = true
}

// Wrote takes in that a change was written. Where it had lacked a permission, that has been granted: it returns the
// namespaces that waited for it, and lets them write.
func (r *Refusals) Wrote(change Change) (released []string) {
	key := KeyOf(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, found := r.byNamespace[key.Namespace][key.local()]
	if !found {
		return nil
	}
	r.drop(key.Namespace, func(at localKey, _ refusal) bool { return at == key.local() })
	missing := r.missing[refused.permission]
	if missing == nil {
		return nil
	}
	delete(r.missing, refused.permission)
	for namespace := range missing.waiting {
		r.drop(namespace, func(_ localKey, other refusal) bool { return other.permission == refused.permission })
		released = append(released, namespace)
	}
	return released
}

// drop forgets the refusals of a namespace that gone reports.
func (r *Refusals) drop(namespace string, gone func(localKey, refusal) bool) {
	maps.DeleteFunc(r.byNamespace[namespace], gone)
	if len(r.byNamespace[namespace]) == 0 {
		delete(r.byNamespace, namespace)
	}
}

// Probes returns, for each permission that is to be tried now, a namespace that tries it when it is next brought in line.
func (r *Refusals) Probes(now time.Time) (namespaces []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for wanted, missing := range r.missing {
		if now.Before(missing.next) {
			continue
		}
		missing.next = now.Add(min(probeDelay<<min(missing.probes, 10), MaxProbeDelay))
		missing.probes++
		missing.probe = ""
		for namespace := range missing.waiting { // in no order: each gets its turn
			if r.waits(namespace, wanted) {
				missing.probe = namespace
				namespaces = append(namespaces, namespace)
				break
			}
			delete(missing.waiting, namespace)
		}
		if len(missing.waiting) == 0 {
			delete(r.missing, wanted)
		}
	}
	return namespaces
}

// Retain forgets the refusals in a part of a namespace of what is no longer planned for it.
func (r *Refusals) Retain(namespace string, part Part, changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := r.byNamespace[namespace]
	if len(refused) == 0 {
		return
	}
	planned := map[localKey]bool{}
	for _, change := range changes {
		planned[KeyOf(change).local()] = true
	}
	if part.IsWhole() {
		r.drop(namespace, func(at localKey, _ refusal) bool { return !planned[at] })
		return
	}
	for at := range part.objects {
		if !planned[at] {
			delete(refused, at)
		}
	}
	if len(refused) == 0 {
		delete(r.byNamespace, namespace)
	}
}

func (r *Refusals) waits(namespace string, wanted permission) bool {
	for _, refused := range r.byNamespace[namespace] {
		if refused.permission == wanted {
			return true
		}
	}
	return false
}

// ForgetNamespace takes in that a namespace is gone.
func (r *Refusals) ForgetNamespace(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byNamespace, namespace)
}
