package credential

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// ReasonNotCheckedYet is the reason while nobody has logged in with the credential yet: the last result was of another credential, or of
// another kind of check.
const ReasonNotCheckedYet = "NotCheckedYet"

// Validity says whether registries take the credential of an ImagePullSecret, as the last login found. It contains nothing of the
// credential.
type Validity struct {
	// Status is blank as long as nothing is known.
	Status          metav1.ConditionStatus
	Reason, Message string
	// CheckedAt is when somebody last logged in, or is about to; zero if nobody has.
	CheckedAt time.Time
	// Generation is that of the spec that was checked.
	Generation int64
}

// NotCheckedYet returns what is known of a credential that has replaced another one.
func NotCheckedYet(generation int64) Validity {
	return Validity{
		Status: metav1.ConditionUnknown, Reason: ReasonNotCheckedYet, Generation: generation,
		Message: "the credential, or how it is checked, has changed since the last login: the next one follows within a minute or two",
	}
}

// Stands reports whether the validity in a status is that of the credential in the same status and of the spec of that generation: the
// credential was not issued after the last login.
func Stands(status v1.ImagePullSecretStatus, generation int64) bool {
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
	known := status.Credential
	if condition == nil || condition.Reason == ReasonNotCheckedYet || condition.ObservedGeneration != generation ||
		known == nil || known.CheckedAt == nil {
		return false
	}
	if known.IssuedAt == nil {
		return status.SecretsDesired == 0 // else all Secrets hold another credential
	}
	return !known.IssuedAt.After(known.CheckedAt.Time)
}

// Issued returns what the Secrets of a rule hold for a server, as far as that is known.
func Issued(rule *pullsecret.Rule, server string) (Login, bool) {
	if !rule.Known() {
		return Login{}, false
	}
	one, wrong := find(rule.Config, server)
	return one, wrong == nil
}
