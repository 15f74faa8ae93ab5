package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// SetValid sets in a status whether the registry accepts a rule's credential, where that is checked. found is the result; nil where
// nothing was checked since this process started. In that case what old says is kept, as far as it is about the credential that is issued
// now.
func SetValid(
	status *v1.ImagePullSecretStatus, rule *pullsecret.Rule, old v1.ImagePullSecretStatus, found *credential.Validity, now time.Time,
) {
	if status.Credential == nil {
		status.Credential = credentialStatus(rule, 0)
	}
	if old.Credential != nil {
		status.Credential.CheckedAt = old.Credential.CheckedAt
	}
	stands := credential.Stands(*status, rule.Generation)
	if found != nil && !found.CheckedAt.IsZero() {
		at := metav1.NewTime(found.CheckedAt)
		status.Credential.CheckedAt = &at
	}
	if rule.Trial.Disabled { // CheckedAt stays: checks may be enabled again
		meta.RemoveStatusCondition(&status.Conditions, v1.ConditionCredentialValid)
		return
	}
	var said credential.Validity
	switch {
	case rule.Unread != nil:
		said = credential.Validity{
			Status: metav1.ConditionUnknown, Reason: ReasonCredentialUnread, Generation: rule.Generation,
			Message: "what was issued is not checked, since the credential cannot be read from its source: " + rule.Unread.Message,
		}
	case found != nil && found.Status != "":
		said = *found
	case stands || meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid) == nil:
		return
	default:
		said = credential.NotCheckedYet(rule.Generation)
	}
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1.ConditionCredentialValid, Status: said.Status, Reason: said.Reason, Message: shortened(said.Message),
		ObservedGeneration: said.Generation, LastTransitionTime: metav1.NewTime(now),
	})
}

// CredentialProgress is what is known about a credential. Times are zero where they are not known.
type CredentialProgress struct {
	// Valid is whether the registry accepts it; blank where that was not checked.
	Valid metav1.ConditionStatus
	// Issued is when the oldest Secret that holds it was written, Expires when it expires.
	Issued, Expires time.Time
	// Life is its lifetime, as it says itself; 0 where it does not.
	Life time.Duration
	// FromCloud is whether the cloud issues it, and Renewed whether the cloud still does. Due is when the manager should have it renewed.
	FromCloud, Renewed bool
	Due                time.Time
}

// credentialOf returns what a rule and its status say about the credential. The rule is nil where the spec is invalid.
func credentialOf(rule *pullsecret.Rule, status v1.ImagePullSecretStatus) CredentialProgress {
	var known CredentialProgress
	if rule != nil && rule.Registry != nil {
		known.Due = rule.Renewal.Due
	} else if rule != nil {
		known.Life = rule.Expiry.Life
	}
	if valid := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid); valid != nil {
		known.Valid = valid.Status
	}
	if issued := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialIssued); issued != nil {
		known.FromCloud, known.Renewed = true, issued.Status == metav1.ConditionTrue
	}
	if status.Credential == nil {
		return known
	}
	if at := status.Credential.IssuedAt; at != nil {
		known.Issued = at.Time
	}
	if at := status.Credential.ExpiresAt; at != nil {
		known.Expires = at.Time
	}
	return known
}
