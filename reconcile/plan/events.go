package plan

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

// Reasons of the events on an ImagePullSecret. A failure that lasts until someone acts is an event with the failure's own reason.
const (
	EventIssued   = "Issued"   // namespaces got the Secret
	EventReissued = "Reissued" // Secrets got another credential, or were adopted
	EventRestored = "Restored" // Secrets that someone else had changed or deleted were repaired
	EventReplaced = "Replaced" // Secrets that someone else had made immutable were deleted and recreated
)

const (
	// eventPeriod is the minimum time between two events of one reason on one object.
	eventPeriod = 5 * time.Second
	// eventDelay limits how long an event waits for outstanding writes, in order to count them.
	eventDelay = 30 * time.Second
	// eventMemory is how long a failure is remembered after it has passed, so that one that comes and goes is one event. It is longer than
	// maxRepairDelay, after which a contended object fails again.
	eventMemory = 15 * time.Minute
	// maxNamed is how many objects an event names; where there are more, it gives their number.
	maxNamed = 3
)

// Event is an event to record.
type Event struct{ Type, Reason, Message string }

// EventAggregator gathers what happens to one ImagePullSecret, so that a thousand namespaces are one event with a count. Its zero value
// is ready to use. It holds little while there is nothing to report, since there is one for each ImagePullSecret.
type EventAggregator struct {
	// written are the namespaces of the Secrets written since the last event, by its reason.
	written map[string]map[string]bool
	// since is when the oldest of those was written.
	since map[string]time.Time
	// sent are the events that were recorded last.
	sent []sentEvent
	// failing are the failures that events have reported, with the time when each was last seen.
	failing map[failureKey]time.Time
	// issuance is what was last reported about whether the cloud issues the credential.
	issuance issuance
}

// sentEvent is when the last event of a reason was recorded.
type sentEvent struct {
	reason string
	at     time.Time
}

// failureKey distinguishes one failure from another.
type failureKey struct{ reason, object string }

// EventReason returns the reason of the event about a write. repairs is how often the write has been repeated because someone undid it.
// told is false for writes without an event, and for an object that others keep changing back: one event reports that, not one for each
// repair.
func EventReason(change Change, repairs int) (reason string, told bool) {
	issue, is := change.(IssueSecret)
	switch {
	case !is || repairs > PromptRepairs:
		return "", false
	case issue.Replaces != nil:
		return EventReplaced, true
	case repairs > 0:
		return EventRestored, true
	case issue.Exists:
		return EventReissued, true
	default:
		return EventIssued, true
	}
}

// Wrote notes that a Secret was written.
func (a *EventAggregator) Wrote(reason, namespace string, now time.Time) {
	if a.written == nil {
		a.written, a.since = map[string]map[string]bool{}, map[string]time.Time{}
	}
	if a.written[reason] == nil {
		a.written[reason], a.since[reason] = map[string]bool{}, now
	}
	a.written[reason][namespace] = true
}

// Due returns the events to record now. Where some have to wait, again is after how long to call Due again, otherwise 0.
func (a *EventAggregator) Due(
	secret string, status v1.ImagePullSecretStatus, failures []v1.Failure, now time.Time,
) (events []Event, again time.Duration) {
	attempted := int(status.SecretsDesired-status.SecretsSuccess) <= len(failures)
	// early reports whether an event is better recorded later, when it can say more.
	early := func(reason string, since time.Time) bool {
		open := a.lastSent(reason).Add(eventPeriod)
		if limit := since.Add(eventDelay); !attempted && open.Before(limit) {
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
	for _, reason := range slices.Sorted(maps.Keys(a.written)) {
		if early(reason, a.since[reason]) {
			continue
		}
		events = append(events, Event{corev1.EventTypeNormal, reason, describeWrites(reason, secret, a.written[reason])})
		a.record(reason, now)
		delete(a.written, reason)
	}
	if len(a.written) == 0 {
		a.written, a.since = nil, nil
	}

	fresh := a.untold(failures, now)
	for _, reason := range slices.Sorted(maps.Keys(fresh)) {
		if early(reason, slices.MinFunc(fresh[reason], func(a, b v1.Failure) int { return a.Since.Compare(b.Since.Time) }).Since.Time) {
			continue
		}
		events = append(events, Event{corev1.EventTypeWarning, reason, describeFailures(fresh[reason])})
		a.record(reason, now)
		if a.failing == nil {
			a.failing = map[failureKey]time.Time{}
		}
		for _, failure := range fresh[reason] {
			a.failing[failureKey{reason, failure.NamespacedName}] = now
		}
	}
	return events, again
}

// untold returns, by reason, the lasting failures that no event has reported yet, and notes that the reported ones still exist.
func (a *EventAggregator) untold(failures []v1.Failure, now time.Time) map[string][]v1.Failure {
	fresh := map[string][]v1.Failure{}
	for _, failure := range failures {
		if !Lasting(failure.Reason) {
			continue
		}
		key := failureKey{failure.Reason, failure.NamespacedName}
		if _, told := a.failing[key]; told {
			a.failing[key] = now
		} else {
			fresh[failure.Reason] = append(fresh[failure.Reason], failure)
		}
	}
	maps.DeleteFunc(a.failing, func(_ failureKey, seen time.Time) bool { return now.Sub(seen) > eventMemory })
	return fresh
}

// record notes that an event was recorded.
func (a *EventAggregator) record(reason string, now time.Time) {
	a.sent = slices.DeleteFunc(a.sent, func(event sentEvent) bool {
		return event.reason == reason || now.Sub(event.at) >= eventPeriod
	})
	a.sent = append(a.sent, sentEvent{reason, now})
}

// lastSent returns when the last event of a reason was recorded. It is known only as long as it delays another one.
func (a *EventAggregator) lastSent(reason string) time.Time {
	for _, event := range a.sent {
		if event.reason == reason {
			return event.at
		}
	}
	return time.Time{}
}

// describeWrites returns the message of an event about writes. It names no namespace, so that equal events are counted as one.
func describeWrites(reason, secret string, namespaces map[string]bool) string {
	where := "1 namespace"
	if len(namespaces) > 1 {
		where = fmt.Sprintf("%d namespaces", len(namespaces))
	}
	switch reason {
	case EventReissued:
		return fmt.Sprintf("secret %s was issued again, with the current credential, in %s", secret, where)
	case EventReplaced:
		return fmt.Sprintf("secret %s was deleted and recreated with the current credential in %s, where someone had made it immutable",
			secret, where)
	case EventRestored:
		return fmt.Sprintf("secret %s was restored in %s, where it had been changed or deleted", secret, where)
	default:
		return fmt.Sprintf("secret %s was issued in %s", secret, where)
	}
}

// describeFailures returns the message of an event about failures of one reason.
func describeFailures(failures []v1.Failure) string {
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
