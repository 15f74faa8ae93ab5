package diagnose

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Refusal is whether a registry refused a pull for lack of a valid credential, as far as that is known.
type Refusal uint8

// The values of Refusal.
const (
	// NotRefused is a pull that is not waiting, or that failed for another reason.
	NotRefused Refusal = iota
	// RefusalUntold is a pull that failed for a reason that is not known yet.
	RefusalUntold
	// RefusedUser is a pull that was refused because the registry got no credential, or one that it does not accept.
	RefusedUser
	// RefusedScope is a pull that was refused because the user may not pull the image.
	RefusedScope
)

// Refusal returns whether a registry refused the pull.
func (p Pull) Refusal() Refusal {
	if p.Waiting != "ErrImagePull" && p.Waiting != "ImagePullBackOff" {
		return NotRefused
	}
	switch class := classify(p); {
	case class == unauthorized:
		return RefusedUser
	case class == scope:
		return RefusedScope
	case class == throttled: // by the kubelet, which has not asked the registry
		return RefusalUntold
	case class == unknown && (p.Error == "" || silent.MatchString(p.Error)):
		return RefusalUntold
	}
	return NotRefused
}

// Told returns the pull, supplemented by events about its pod. Attempts at which the registry was not asked are left out.
func (p Pull) Told(events []corev1.Event) Pull {
	asked := slices.DeleteFunc(slices.Clone(events), func(event corev1.Event) bool {
		return classify(Pull{Image: p.Image, Error: event.Message}) == throttled
	})
	p.take(asked)
	return p
}

// BegunAt returns when a kubelet last began to pull an image, according to events about a pod; zero if they do not tell. While the
// kubelet pulls, the pod's status is about the attempt before.
func BegunAt(image string, events []corev1.Event) (latest time.Time) {
	for _, event := range events {
		begins := event.Reason == "Pulling" && strings.Contains(event.Message, "Pulling image "+quote(image))
		if at := lastSeen(event); begins && at.After(latest) {
			latest = at
		}
	}
	return latest
}
