package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// SetReached returns a status that says how far a rule's registry is reached from its private network, where one was asked for. Until
// that is known it says what it said before.
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

// reachedOf returns what a status tells of the private network.
func reachedOf(status v1.ImagePullSecretStatus) *bool {
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionPrivateNetworkReady)
	if condition == nil {
		return nil
	}
	reached := condition.Status == metav1.ConditionTrue
	return &reached
}
