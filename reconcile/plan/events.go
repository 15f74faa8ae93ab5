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
	// above maxRepairDelay, after which a contended object fails anew.
	eventMemory = 15 * time.Minute
	// maxNamed bounds how many objects an event names; of more it says how many.
	maxNamed = 3
)

// Event is one that is to be recorded.
type Event struct{ Type, Reason, Message string }

// EventAggregator gathers what becomes of one ImagePullSecret, so that a thousand namespaces are one event with a count. Its zero
// value holds nothing, and it holds little while there is nothing to tell: there are as many as ImagePullSecrets.
type EventAggregator struct {
	// written are the namespaces of the Secrets written since the last event, by its reason.
	written map[string]map[string]bool
	// since is when the oldest of those was written.
	since map[string]time.Time
	// sent are the events that were recorded last.
	sent []sentEvent
	// failing are the failures that events have told of, with when each was last seen.
	failing map[failureKey]time.Time
	// issuance is what was told of whether the cloud issues the credential.
	issuance issuance
}

// sentEvent is when the last event of a reason was recorded.
type sentEvent struct {
	reason string
	at     time.Time
}

// failureKey is what tells one failure from another.
type failureKey struct{ reason, object string }

// EventReason returns the reason of the event that tells of a write, which has put right what had been written before so often.
// Of an object that others change back again and again it is told that they do, and not each time: told is false then, as it
// is of writes that no event tells of.
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

// Wrote takes in that a Secret was written.
func (a *EventAggregator) Wrote(reason, namespace string, now time.Time) {
	if a.written == nil {
		a.written, a.since = map[string]map[string]bool{}, map[string]time.Time{}
	}
	if a.written[reason] == nil {
		a.written[reason], a.since[reason] = map[string]bool{}, now
	}
	a.written[reason][namespace] = true
}

// Due returns the events to record now. Where some have to wait, again is after how long to ask anew, otherwise 0.
func (a *EventAggregator) Due(secret string, status v1.ImagePullSecretStatus, failures []v1.Failure, now time.Time) (events []Event, again time.Duration) {
	attempted := int(status.SecretsDesired-status.SecretsSuccess) <= len(failures)
	// early reports whether an event is better sent later, when it can tell more.
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

// untold returns the failures that need someone and that no event has told of yet, by reason, and notes that the others are
// still there.
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

// lastSent returns when the last event of a reason was recorded, as long as another one has to wait for that.
func (a *EventAggregator) lastSent(reason string) time.Time {
	for _, event := range a.sent {
		if event.reason == reason {
			return event.at
		}
	}
	return time.Time{}
}

// describeWrites says what was written. It names no namespace, so that equal events are counted as one.
func describeWrites(reason, secret string, namespaces map[string]bool) string {
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

// describeFailures says what fails for one reason.
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
