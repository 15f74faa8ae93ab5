package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// SetValid says in a status whether the registry takes a rule's credential, where that is checked. found is what came of it; nil where
// nobody has looked since this process began. Then what old says stays, as far as it is of the credential that is issued now.
func SetValid(status *v1.ImagePullSecretStatus, rule *pullsecret.Rule, old v1.ImagePullSecretStatus, found *credential.Validity, now time.Time) {
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
	if rule.Trial.Disabled { // when somebody last logged in still counts: it may be switched on again
		meta.RemoveStatusCondition(&status.Conditions, v1.ConditionCredentialValid)
		return
	}
	var said credential.Validity
	switch {
	case rule.Unread != nil:
		said = credential.Validity{
			Status: metav1.ConditionUnknown, Reason: ReasonCredentialUnread, Generation: rule.Generation,
			Message: "nobody logs in with what was issued, since the credential cannot be read where it stands: " + rule.Unread.Message,
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

// CredentialProgress is what is known of a credential itself. Times are zero where they are not known.
type CredentialProgress struct {
	// Valid is whether the registry takes it; blank where nobody has checked.
	Valid metav1.ConditionStatus
	// Issued is since when the oldest Secret holds it, Expires when it ends.
	Issued, Expires time.Time
	// Life is for how long it was issued, as it says itself; 0 where it does not.
	Life time.Duration
	// FromCloud is whether the cloud issues it, and Renewed whether it does so still. Due is when the manager is to have it renewed.
	FromCloud, Renewed bool
	Due                time.Time
}

// credentialOf returns what is known of a rule's credential, and what a status tells of it. The rule is nil where the spec cannot be read.
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
