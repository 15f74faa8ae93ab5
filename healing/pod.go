// Package healing decides which pods that are older than their credential are evicted, so that others take their place: a pod's pull
// secrets are fixed when it is created, and a kubelet waits up to five minutes before it tries a new password. The package is pure:
// observations go in, a verdict comes out.
package healing

import (
	"slices"
	"strings"
	"unique"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/image"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Pod is the part of a pod that is needed. For one that waits for no image, that is only what identifies it, and whether it is evicted.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	Version         string // metadata.resourceVersion
	Account         string
	// Created is when it was created, in Unix seconds.
	Created int64
	// Owner is the controller that creates another pod in its place; the zero Owner where there is none.
	Owner unique.Handle[Owner]
	// Entries are the names in its imagePullSecrets. They never change.
	Entries []string
	// Static is whether it is the mirror pod of a static pod, which its kubelet would create again as it is.
	Static bool
	// OptedOut is whether its label opts out.
	OptedOut bool
	// Evicted is whether the API server has begun to evict it.
	Evicted bool
	// Waits are the images that it waits for.
	Waits []Wait
}

// Owner is the controller of a pod. Whoever creates a pod can claim any owner, so it is trusted only within the pod's namespace.
type Owner struct {
	APIVersion, Kind, Name string
	UID                    types.UID
}

// IsJob reports whether it is a Job of the group batch: other groups have kinds of that name.
func (o Owner) IsJob() bool {
	return o.Kind == "Job" && strings.HasPrefix(o.APIVersion, batchv1.GroupName+"/")
}

// Wait is an image that a pod waits for.
type Wait struct {
	Image string
	// Host is the registry's, with its port; blank where the image reference is invalid.
	Host    string
	Refusal diagnose.Refusal
	// Failed is when the status was written, in Unix seconds, if it says that the pull has just failed at the registry; otherwise 0.
	Failed int64
}

// Limits of what is read of a pod: its author may want the manager to read and keep as much as possible.
const (
	// maxWaits is how many of the images that it waits for are kept.
	maxWaits = 16
	// maxMessage is how many bytes of a pull's message in its status are read from either end: an error begins with the image's name and
	// ends with its cause, and a registry can put a whole page in between.
	maxMessage = 2048
)

// nobody is the owner of a bare pod.
var nobody = unique.Make(Owner{})

// Strip returns the part of a pod that is needed.
func Strip(pod *corev1.Pod) Pod {
	stripped := Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Owner: nobody}
	stripped.Evicted = slices.ContainsFunc(pod.Status.Conditions, isEviction)
	waiting := waitingOf(pod)
	if pod.DeletionTimestamp != nil || len(waiting.Status.InitContainerStatuses)+len(waiting.Status.ContainerStatuses) == 0 {
		return stripped
	}
	read := diagnose.ReadPod(waiting, nil)
	for _, pull := range read.Pulls {
		wait := Wait{Image: intern(pull.Image), Refusal: pull.Refusal()}
		if name, err := image.Parse(pull.Image); err == nil {
			wait.Host = intern(name.Host)
		}
		if pull.Waiting == errImagePull && wait.Refusal != diagnose.RefusalUntold {
			wait.Failed = statusWritten(pod)
		}
		stripped.Waits = append(stripped.Waits, wait)
	}
	stripped.Namespace, stripped.Account = intern(pod.Namespace), intern(read.Account)
	stripped.Version, stripped.Created = pod.ResourceVersion, pod.CreationTimestamp.Unix()
	for _, name := range read.Entries {
		stripped.Entries = append(stripped.Entries, intern(name))
	}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		stripped.Owner = unique.Make(Owner{owner.APIVersion, owner.Kind, owner.Name, owner.UID})
	}
	_, stripped.Static = pod.Annotations[corev1.MirrorPodAnnotationKey]
	stripped.OptedOut = pullsecret.OptOutOf(pod.Labels) == pullsecret.OptedOut
	return stripped
}

// waitingOf returns a pod with only the statuses of containers that wait for an image. Ephemeral containers do not count: another pod
// would not have them.
func waitingOf(pod *corev1.Pod) *corev1.Pod {
	waiting, room := *pod, maxWaits
	those := func(statuses []corev1.ContainerStatus) (waiting []corev1.ContainerStatus) {
		for _, status := range statuses {
			if room > 0 && status.State.Waiting != nil && waitsForImage(status.State.Waiting.Reason) {
				short := *status.State.Waiting
				short.Message = shortened(short.Message)
				status.State.Waiting = &short
				waiting = append(waiting, status)
				room--
			}
		}
		return waiting
	}
	waiting.Status.InitContainerStatuses = those(pod.Status.InitContainerStatuses)
	waiting.Status.ContainerStatuses = those(pod.Status.ContainerStatuses)
	waiting.Status.EphemeralContainerStatuses = nil
	return &waiting
}

// shortened returns both ends of a long message.
func shortened(message string) string {
	if len(message) <= 2*maxMessage {
		return message
	}
	return message[:maxMessage] + " " + message[len(message)-maxMessage:]
}

// isEviction reports whether a condition is the one that the API server sets on a pod that it evicts.
func isEviction(condition corev1.PodCondition) bool {
	return condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue && condition.Reason == evictedByAPI
}

// evictedByAPI is the reason of that condition.
const evictedByAPI = "EvictionByEvictionAPI"

const (
	errImagePull     = "ErrImagePull"
	imagePullBackOff = "ImagePullBackOff"
)

func waitsForImage(reason string) bool { return reason == errImagePull || reason == imagePullBackOff }

// statusWritten returns when the status of a pod was last written, in Unix seconds.
func statusWritten(pod *corev1.Pod) (latest int64) {
	for _, managed := range pod.ManagedFields {
		if managed.Subresource == "status" && managed.Time != nil {
			latest = max(latest, managed.Time.Unix())
		}
	}
	return latest
}

// intern keeps one copy of a text that many pods have in common.
func intern(text string) string { return unique.Make(text).Value() }
