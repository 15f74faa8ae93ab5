package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// SetReached returns the status with how far a rule's registry is reachable from its private network, where the rule asks for one. Until
// that is known, it keeps what the status said before.
func SetReached(
	status v1.ImagePullSecretStatus, rule *pullsecret.Rule, reach *pullsecret.Reach, before v1.ImagePullSecretStatus, now time.Time,
) v1.ImagePullSecretStatus {
	switch {
	case rule.Registry == nil || rule.Registry.Network == nil:
		status.PrivateNetwork = nil
		meta.RemoveStatusCondition(&status.Conditions, v1.ConditionPrivateNetworkReady)
	case reach == nil:
		status.PrivateNetwork = before.PrivateNetwork
	default:
		status.PrivateNetwork = reach.Link
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: v1.ConditionPrivateNetworkReady, Status: reach.Ready, Reason: reach.Reason, Message: shortened(reach.Message),
			ObservedGeneration: rule.Generation, LastTransitionTime: metav1.NewTime(now),
		})
	}
	return status
}

// reachedOf returns whether a status says that the private network is ready; nil where it does not say.
func reachedOf(status v1.ImagePullSecretStatus) *bool {
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionPrivateNetworkReady)
	if condition == nil {
		return nil
	}
	reached := condition.Status == metav1.ConditionTrue
	return &reached
}
