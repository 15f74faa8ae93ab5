package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Healing reports on the pods that one ImagePullSecret heals.
type Healing struct {
	// Watching is whether pods are watched. Until they are, it is not known whether that is permitted.
	Watching bool
	// Missing are the permissions that the manager lacks for healing, such as "list and watch pods".
	Missing []string
	// Unhealed is the number of waiting pods that are not evicted until somebody acts; Listed are some of them.
	Unhealed int
	Listed   []v1.Failure
}

// Equal reports whether both reports are the same.
func (h Healing) Equal(other Healing) bool {
	return h.Watching == other.Watching && h.Unhealed == other.Unhealed && slices.Equal(h.Missing, other.Missing) &&
		slices.Equal(h.Listed, other.Listed)
}

// Reasons of the condition Healing where it is True, and where it is Unknown. Where it is False, the reason is ReasonForbidden.
const (
	ReasonWatching       = "Watching"
	ReasonNotWatchingYet = "NotWatchingYet"
)

// SetHealing sets in the status of a rule the condition Healing and the list of pods that are not healed.
func SetHealing(status *v1.ImagePullSecretStatus, rule *pullsecret.Rule, healing Healing, now time.Time) {
	if !rule.Heals {
		status.Unhealed = nil
		meta.RemoveStatusCondition(&status.Conditions, v1.ConditionHealing)
		return
	}
	status.Unhealed = healing.Listed
	condition := metav1.Condition{
		Type: v1.ConditionHealing, Status: metav1.ConditionTrue, Reason: ReasonWatching,
		Message:            "pods that are older than their credential are evicted",
		ObservedGeneration: rule.Generation, LastTransitionTime: metav1.NewTime(now),
	}
	if healing.Unhealed > 0 {
		condition.Message += fmt.Sprintf("; %s left alone, see status.unhealed", counted(healing.Unhealed, "pod"))
	}
	if !healing.Watching {
		condition.Status, condition.Reason = metav1.ConditionUnknown, ReasonNotWatchingYet
		condition.Message = "the manager does not watch pods yet"
	}
	if len(healing.Missing) > 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonForbidden
		condition.Message = fmt.Sprintf("the manager may not %s in all namespaces: set rbac.healing to true in the values of the install, or "+
			"apply the ClusterRole tcr-assistant-healing-role and its binding; docs/healing.md says how to render them",
			strings.Join(healing.Missing, ", "))
	}
	meta.SetStatusCondition(&status.Conditions, condition)
}
