// Package healing decides which pods are evicted that came before their credential, so that others take their place: a pod's pull secrets
// are fixed when it is created, and a kubelet waits up to five minutes before it tries with a new password. It is pure: what was seen
// goes in, a verdict comes out.
package healing

import (
	"slices"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Pod is what is needed of a pod. Of one that waits for no image it is no more than what identifies it.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	Version         string // metadata.resourceVersion
	Account         string
	// Created is when it was created, and Failed when its status was written that says that a pull has just failed, at the registry,
	// in Unix seconds; 0 where it does not say so.
	Created, Failed int64
	// Owner is the controller that creates another one in its place; the zero Owner where there is none.
	Owner unique.Handle[Owner]
	// Entries are the names in its imagePullSecrets. They never change.
	Entries []string
	// Static is whether a kubelet made it from a file, and would make it again as it is.
	Static bool
	// OptedOut is whether its label keeps everything away.
	OptedOut bool
	// Waits are the images that it waits for.
	Waits []Wait
}

// Owner is the controller of a pod.
type Owner struct {
	APIVersion, Kind, Name string
	UID                    types.UID
}

// Wait is an image that a pod waits for.
type Wait struct {
	Image   string
	Refusal diagnose.Refusal
}

// nobody owns a bare pod.
var nobody = unique.Make(Owner{})

// Strip returns what is needed of a pod.
func Strip(pod *corev1.Pod) Pod {
	stripped := Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Owner: nobody}
	if pod.DeletionTimestamp != nil || !slices.ContainsFunc(statuses(pod), waits) {
		return stripped
	}
	read := diagnose.ReadPod(pod, nil)
	for _, pull := range read.Pulls {
		if waitsForImage(pull.Waiting) {
			stripped.Waits = append(stripped.Waits, Wait{intern(pull.Image), pull.Refusal()})
		}
		if pull.Waiting == errImagePull && pull.Refusal() != diagnose.RefusalUntold {
			stripped.Failed = statusWritten(pod)
		}
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

const (
	errImagePull     = "ErrImagePull"
	imagePullBackOff = "ImagePullBackOff"
)

func waitsForImage(reason string) bool { return reason == errImagePull || reason == imagePullBackOff }

func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses)
}

func waits(status corev1.ContainerStatus) bool {
	return status.State.Waiting != nil && waitsForImage(status.State.Waiting.Reason)
}

// statusWritten returns when the status of a pod was last written, in Unix seconds.
func statusWritten(pod *corev1.Pod) (latest int64) {
	for _, managed := range pod.ManagedFields {
		if managed.Subresource == "status" && managed.Time != nil {
			latest = max(latest, managed.Time.Unix())
		}
	}
	return latest
}

// intern keeps one copy of what many pods have in common.
func intern(text string) string { return unique.Make(text).Value() }

// Seen is what was seen of a pod's waiting besides the pod itself.
type Seen struct {
	// Since is since when it is known to wait.
	Since time.Time
	// FailedAt is when a pull is known to have failed last, and Failures how many did at least; zero where that is not known.
	FailedAt time.Time
	Failures int
	// Asked is when its events were read; zero where they were not.
	Asked time.Time
	// Refusals are those of its waits of which the pod itself does not say why, by image.
	Refusals map[string]diagnose.Refusal
}

// Watched returns what is seen of a pod once it looks like this.
func (s Seen) Watched(pod Pod, now time.Time) Seen {
	if s.Since.IsZero() {
		s.Since = now
	}
	if failed := time.Unix(pod.Failed, 0); pod.Failed > 0 && failed.After(s.FailedAt) {
		s.FailedAt = failed
	}
	return s
}

// Told returns what is seen of a pod once its events have been read.
func (s Seen) Told(pod Pod, events []corev1.Event, now time.Time) Seen {
	s.Asked, s.Refusals = now, map[string]diagnose.Refusal{}
	for _, event := range events {
		if first := event.FirstTimestamp; event.Reason == "Failed" && !first.IsZero() && first.Time.Before(s.Since) {
			s.Since = first.Time
		}
	}
	for _, wait := range pod.Waits {
		pull := diagnose.Pull{Image: wait.Image, Waiting: imagePullBackOff}.Told(events)
		if pull.FailedAt.After(s.FailedAt) {
			s.FailedAt = pull.FailedAt
		}
		s.Failures = max(s.Failures, pull.Failures)
		s.Refusals[wait.Image] = pull.Refusal()
	}
	return s
}

// nextTry returns about when the kubelet tries again; it is not known where FailedAt is not. Its events may tell of too few failures:
// kubelets tell of few that are alike. How long the pod waits tells of them, too.
func (s Seen) nextTry() time.Time {
	failures, waited := 1, time.Duration(0)
	for elapsed := s.FailedAt.Sub(s.Since); waited+diagnose.Backoff(failures) <= elapsed; failures++ {
		waited += diagnose.Backoff(failures)
	}
	return s.FailedAt.Add(diagnose.Backoff(max(failures, s.Failures)))
}
