package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Reasons of the events on an ImagePullSecret. A failure that needs someone is an event with the failure's own reason.
const (
	EventIssued   = "Issued"   // namespaces got the Secret
	EventReissued = "Reissued" // Secrets got another credential, or were adopted
	EventRestored = "Restored" // Secrets that someone else had changed or deleted were put right
	EventReplaced = "Replaced" // Secrets that someone else had made immutable were deleted and made anew
)

const (
	// eventPeriod is the least time between two events of one reason on one object.
	eventPeriod = 5 * time.Second
	// eventDelay bounds how long an event waits for writes that are still on their way, to be counted in it.
	eventDelay = 30 * time.Second
	// eventMemory is how long a failure that has gone is still known, so that one which comes and goes is one event. It is
	// above maxPause, after which a contended object fails anew.
	eventMemory = 15 * time.Minute
	// maxNamed bounds how many objects an event names; of more it says how many.
	maxNamed = 3
)

// event is one that is to be recorded.
type event struct{ kind, reason, message string }

// bulletin gathers what becomes of one ImagePullSecret, so that a thousand namespaces are one event with a count. Its zero value
// holds nothing, and it holds little while there is nothing to tell: there are as many as ImagePullSecrets.
type bulletin struct {
	// news are the namespaces of the Secrets written since the last event, by its reason.
	news map[string]map[string]bool
	// since is when the oldest news came, sent when the last event of each reason was recorded.
	since, sent map[string]time.Time
	// failing are the failures that events have told of, with when each was last seen.
	failing map[failing]time.Time
}

// failing is what tells one failure from another.
type failing struct{ reason, object string }

// wrote takes in that a Secret was written.
func (b *bulletin) wrote(reason, namespace string, now time.Time) {
	if b.news == nil {
		b.news, b.since = map[string]map[string]bool{}, map[string]time.Time{}
	}
	if b.news[reason] == nil {
		b.news[reason], b.since[reason] = map[string]bool{}, now
	}
	b.news[reason][namespace] = true
}

// due returns the events to record now. Where some have to wait, again is after how long to ask anew, otherwise 0.
func (b *bulletin) due(secret string, status v1.ImagePullSecretStatus, failures []v1.Failure, now time.Time) (events []event, again time.Duration) {
	settled := int(status.SecretsDesired-status.SecretsSuccess) <= len(failures)
	// early reports whether an event is better sent later, when it can tell more.
	early := func(reason string, since time.Time) bool {
		open := b.sent[reason].Add(eventPeriod)
		if limit := since.Add(eventDelay); !settled && open.Before(limit) {
			open = limit
		}
		if !now.Before(open) {
			return false
		}
		if left := open.Sub(now); again == 0 || left < again {
			again = left
		}
		return true
	}
	for _, reason := range slices.Sorted(maps.Keys(b.news)) {
		if early(reason, b.since[reason]) {
			continue
		}
		events = append(events, event{corev1.EventTypeNormal, reason, tell(reason, secret, b.news[reason])})
		b.record(reason, now)
		delete(b.news, reason)
	}
	if len(b.news) == 0 {
		b.news, b.since = nil, nil
	}

	fresh := map[string][]v1.Failure{} // by reason
	for _, failure := range failures {
		if severity(failure.Reason) > 0 {
			continue
		}
		this := failing{failure.Reason, failure.NamespacedName}
		if _, told := b.failing[this]; told {
			b.failing[this] = now
		} else {
			fresh[failure.Reason] = append(fresh[failure.Reason], failure)
		}
	}
	maps.DeleteFunc(b.failing, func(_ failing, seen time.Time) bool { return now.Sub(seen) > eventMemory })
	for _, reason := range slices.Sorted(maps.Keys(fresh)) {
		if early(reason, slices.MinFunc(fresh[reason], func(a, b v1.Failure) int { return a.Since.Compare(b.Since.Time) }).Since.Time) {
			continue
		}
		events = append(events, event{corev1.EventTypeWarning, reason, warn(fresh[reason])})
		b.record(reason, now)
		if b.failing == nil {
			b.failing = map[failing]time.Time{}
		}
		for _, failure := range fresh[reason] {
			b.failing[failing{reason, failure.NamespacedName}] = now
		}
	}
	return events, again
}

// record notes that an event was recorded.
func (b *bulletin) record(reason string, now time.Time) {
	if b.sent == nil {
		b.sent = map[string]time.Time{}
	}
	b.sent[reason] = now
}

// tell says what was written. It names no namespace, so that equal events are counted as one.
func tell(reason, secret string, namespaces map[string]bool) string {
	where := "1 namespace"
	if len(namespaces) > 1 {
		where = fmt.Sprintf("%d namespaces", len(namespaces))
	}
	switch reason {
	case EventReissued:
		return fmt.Sprintf("secret %s was issued again, with the current credential, in %s", secret, where)
	case EventReplaced:
		return fmt.Sprintf("secret %s was deleted and made anew, with the current credential, in %s, where someone had made it immutable", secret, where)
	case EventRestored:
		return fmt.Sprintf("secret %s was restored in %s, where it had been changed or deleted", secret, where)
	default:
		return fmt.Sprintf("secret %s was issued in %s", secret, where)
	}
}

// warn says what fails for one reason.
func warn(failures []v1.Failure) string {
	slices.SortFunc(failures, func(a, b v1.Failure) int { return cmp.Compare(a.NamespacedName, b.NamespacedName) })
	names := make([]string, len(failures))
	for i, failure := range failures {
		names[i] = failure.NamespacedName
	}
	message := failures[0].Message
	if len(names) > maxNamed {
		return fmt.Sprintf("%d objects, such as %s: %s", len(names), names[0], message)
	}
	return strings.Join(names, ", ") + ": " + message
}
