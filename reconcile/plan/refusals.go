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
	// probeDelay is how long after a permission was found missing one namespace tries whether it has been granted meanwhile. Each further
	// trial waits twice as long.
	probeDelay = time.Second
	// MaxProbeDelay is the maximum time between such trials.
	MaxProbeDelay = 10 * time.Second
	// unprobedDelay is how long a write that lacks a permission waits at least, and at most twice as long, where no probe finds out sooner
	// that the permission was granted: it may be granted namespace by namespace.
	unprobedDelay = 20 * time.Minute
)

// refusalDelays are how long a write that an admission plugin refused, or that is not valid, waits after each refusal. Up to as much is
// added at random, so that writes refused together are not retried together. The first delays are short: a quota that was just created,
// and a policy that is not yet known, refuse writes for a moment. There is no event when a plugin changes its mind.
var refusalDelays = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}

// Refusals holds back the writes that the API server refused and will refuse again until something changes: what is to be written, the
// object, or the role. Until then they are retried much less often than other writes: in thousands of namespaces, they would keep the
// cluster busy.
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
	permission       permission // the one it lacked; zero where it lacked none
	problems         []Problem
}

// missingPermission is what waits for a permission, and when to try whether it has been granted.
type missingPermission struct {
	waiting map[string]bool // namespaces
	probe   string          // the namespace that is to try next, if any
	probes  int
	next    time.Time
}

// NewRefusals returns Refusals without any refusal.
func NewRefusals() *Refusals {
	return &Refusals{byNamespace: map[string]map[localKey]refusal{}, missing: map[permission]*missingPermission{}}
}

// Permanent reports whether the API server would answer the same request with the same error again.
func Permanent(err error) bool {
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return true
	}
	switch codeOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity:
		return !apierrors.IsConflict(err)
	}
	return false
}

// Held returns the problems because of which a change is held back, and until when; false where it may be written.
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

// Known reports whether exactly this change was refused, whether or not it is time to try it again.
func (r *Refusals) Known(change Change, version uint64) bool {
	key, content := KeyOf(change), contentOf(change)
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, found := r.byNamespace[key.Namespace][key.local()]
	return found && refused.content == content && refused.version == version
}

// Refused records that a change was refused, and returns when to try it again.
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

// Wrote records that a change was written. Where it had lacked a permission, that has been granted by now: Wrote returns the namespaces
// that waited for it, and no longer holds their writes back.
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

// drop forgets the refusals of a namespace for which gone returns true.
func (r *Refusals) drop(namespace string, gone func(localKey, refusal) bool) {
	maps.DeleteFunc(r.byNamespace[namespace], gone)
	if len(r.byNamespace[namespace]) == 0 {
		delete(r.byNamespace, namespace)
	}
}

// Probes returns, for each permission to try now, a namespace that tries it the next time it is reconciled.
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

// Retain forgets the refusals of writes that are no longer planned for a part of a namespace.
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

// ForgetNamespace notes that a namespace is gone.
func (r *Refusals) ForgetNamespace(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byNamespace, namespace)
}
