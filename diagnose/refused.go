package diagnose

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Refusal is whether a registry refused a pull for want of a credential, as far as that is told.
type Refusal uint8

// What may be told.
const (
	// NotRefused is a pull that does not wait, or failed for another reason.
	NotRefused Refusal = iota
	// RefusalUntold is one of which nothing seen so far says why it failed.
	RefusalUntold
	// RefusedUser is one that was refused because the registry was shown no credential, or one that it does not take.
	RefusedUser
	// RefusedScope is one that was refused because whoever asked may not pull the image.
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

// Told returns the pull with what events about its pod tell of it, too: of tries at which the registry was asked.
func (p Pull) Told(events []corev1.Event) Pull {
	asked := slices.DeleteFunc(slices.Clone(events), func(event corev1.Event) bool {
		return classify(Pull{Image: p.Image, Error: event.Message}) == throttled
	})
	p.take(asked)
	return p
}

// BegunAt returns when a kubelet last began to pull an image, as events about a pod tell; zero where they do not. While it pulls, the
// pod's status tells of the try before.
func BegunAt(image string, events []corev1.Event) (latest time.Time) {
	for _, event := range events {
		if at := lastSeen(event); event.Reason == "Pulling" && strings.Contains(event.Message, "Pulling image "+quote(image)) && at.After(latest) {
			latest = at
		}
	}
	return latest
}
