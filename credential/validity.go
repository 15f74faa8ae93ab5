package credential

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// ReasonNotCheckedYet is that of a credential that nobody has logged in with: what was found out before was of another one, or was found
// out in another way.
const ReasonNotCheckedYet = "NotCheckedYet"

// Validity is whether registries take the credential of an ImagePullSecret, as whoever logged in has found. It holds nothing of it.
type Validity struct {
	// Status is blank where nothing was found out yet.
	Status          metav1.ConditionStatus
	Reason, Message string
	// CheckedAt is when somebody last logged in, or is about to; zero where nobody did.
	CheckedAt time.Time
	// Generation is that of the spec which was checked.
	Generation int64
}

// NotCheckedYet is what is known of a credential that has taken the place of another one.
func NotCheckedYet(generation int64) Validity {
	return Validity{
		Status: metav1.ConditionUnknown, Reason: ReasonNotCheckedYet, Generation: generation,
		Message: "the credential, or how it is checked, is another one since somebody last logged in: that follows within a minute or two",
	}
}

// Stands reports whether what a status says of a credential's validity is of the credential that it tells of, and of the spec of that
// generation: no Secret was first brought in line with it after somebody had last logged in.
func Stands(status v1.ImagePullSecretStatus, generation int64) bool {
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
	known := status.Credential
	if condition == nil || condition.Reason == ReasonNotCheckedYet || condition.ObservedGeneration != generation || known == nil || known.CheckedAt == nil {
		return false
	}
	if known.IssuedAt == nil {
		return status.SecretsDesired == 0 // else all Secrets hold another one
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
