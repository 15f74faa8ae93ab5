package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Reasons of the events about whether the cloud issues and renews the credential of an ImagePullSecret.
const (
	EventCredentialIssued    = "CredentialIssued"    // it does so again
	EventCredentialNotIssued = "CredentialNotIssued" // it no longer does so, or never did
)

// issuedPeriod is the minimum time between two of these events of one reason on one object, however often the cloud comes and goes.
const issuedPeriod = 5 * time.Minute

// issuance is what was last reported about whether the cloud issues a credential.
type issuance struct {
	known, refused bool
	// sent is when the last event of each reason was recorded.
	sent map[string]time.Time
}

// Issuance returns the event to record where the condition CredentialIssued differs from what was last reported; where nothing was
// reported yet, the previous status counts as reported. Where the event has to wait, again is after how long to call Issuance again.
func (a *EventAggregator) Issuance(before, status v1.ImagePullSecretStatus, now time.Time) (event *Event, again time.Duration) {
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialIssued)
	if condition == nil {
		a.issuance.known = false
		return nil, 0
	}
	if !a.issuance.known {
		a.issuance.known, a.issuance.refused = true, meta.IsStatusConditionFalse(before.Conditions, v1.ConditionCredentialIssued)
	}
	refused := condition.Status == metav1.ConditionFalse
	if refused == a.issuance.refused {
		return nil, 0
	}
	told := Event{corev1.EventTypeNormal, EventCredentialIssued, "the cloud issues the credential again"}
	if refused {
		told = Event{corev1.EventTypeWarning, EventCredentialNotIssued, condition.Reason + ": " + condition.Message}
	}
	if wait := a.issuance.sent[told.Reason].Add(issuedPeriod).Sub(now); wait > 0 {
		return nil, wait
	}
	a.issuance.refused = refused
	if a.issuance.sent == nil {
		a.issuance.sent = map[string]time.Time{}
	}
	a.issuance.sent[told.Reason] = now
	return &told, 0
}
