package healing

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// killed is the exit code that kubelets report for a container of a deleted pod that they did not find.
const killed = 137

// Counts reports whether a Job counts a pod that is evicted before it ever ran as a failure. The eviction sets the pod's condition
// DisruptionTarget, and the first matching rule of the Job's podFailurePolicy decides.
func Counts(job *batchv1.Job) bool {
	if job.Spec.PodFailurePolicy == nil {
		return true
	}
	for _, rule := range job.Spec.PodFailurePolicy.Rules {
		ignores := rule.Action == batchv1.PodFailurePolicyActionIgnore
		switch {
		case slices.ContainsFunc(rule.OnPodConditions, isDisruption):
			return !ignores
		case rule.OnExitCodes != nil && !ignores && fitsKilled(rule.OnExitCodes):
			return true
		}
	}
	return true
}

func isDisruption(pattern batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
	return pattern.Type == corev1.DisruptionTarget && (pattern.Status == "" || pattern.Status == corev1.ConditionTrue)
}

func fitsKilled(codes *batchv1.PodFailurePolicyOnExitCodesRequirement) bool {
	return slices.Contains(codes.Values, killed) == (codes.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn)
}
