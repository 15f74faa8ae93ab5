package credential

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Validity is whether registries take the credential of an ImagePullSecret, as whoever logged in has found. It holds nothing of it.
type Validity struct {
	Status          metav1.ConditionStatus
	Reason, Message string
	// CheckedAt is when somebody last logged in; zero where nobody did.
	CheckedAt time.Time
	// Generation is that of the spec which was checked.
	Generation int64
}

// Issued returns what the Secrets of a rule hold for a server, as far as that is known.
func Issued(rule *pullsecret.Rule, server string) (Login, bool) {
	if !rule.Known() {
		return Login{}, false
	}
	one, wrong := find(rule.Config, server)
	return one, wrong == nil
}
