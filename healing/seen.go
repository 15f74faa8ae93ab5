package healing

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

// Seen is what was seen of a pod's waiting, beyond the pod as it is now.
type Seen struct {
	// First is when it was first seen to wait, by the clock of this process.
	First time.Time
	// Since is since when it is known to wait, which its events may show to be before First.
	Since time.Time
	// Pulls are the pulls about which something is known that the pod itself does not say.
	Pulls []Pull
	// Asked and Known are the Giver.Written of the Secret for which its events were last requested, and last read; 0 where they never were.
	Asked, Known int64
	// Next is when to read its events again where they did not say enough. Times is how often they were requested.
	Next  time.Time
	Times int
}

// Pull is what is known of a pod's pull of an image.
type Pull struct {
	Image string
	// FailedAt is when it is known to have failed last, and Failures how often at least; zero where that is not known.
	FailedAt time.Time
	Failures int
	// BegunAt is when its kubelet is known to have last begun to pull; zero where that is not known.
	BegunAt time.Time
	// Refusal is what its events say. It is used where the pod itself does not say why it waits.
	Refusal diagnose.Refusal
}

// pull returns what is known about the pull of an image.
func (s Seen) pull(image string) Pull {
	if i := slices.IndexFunc(s.Pulls, func(p Pull) bool { return p.Image == image }); i >= 0 {
		return s.Pulls[i]
	}
	return Pull{Image: image, Refusal: diagnose.RefusalUntold}
}

// with returns s with this pull. Other pulls stay, except those that the pod no longer waits for.
func (s Seen) with(pod Pod, pull Pull) Seen {
	pulls := make([]Pull, 0, len(s.Pulls)+1)
	for _, other := range s.Pulls {
		if other.Image != pull.Image && slices.ContainsFunc(pod.Waits, func(w Wait) bool { return w.Image == other.Image }) {
			pulls = append(pulls, other)
		}
	}
	s.Pulls = append(pulls, pull)
	return s
}

// Watched returns s updated with the pod as it is now.
func (s Seen) Watched(pod Pod, now time.Time) Seen {
	if s.First.IsZero() {
		s.First, s.Since = now, now
	}
	for _, wait := range pod.Waits {
		known := s.pull(wait.Image)
		if failed := time.Unix(wait.Failed, 0); wait.Failed > 0 && failed.After(known.FailedAt) {
			known.FailedAt = failed
			s = s.with(pod, known)
		}
	}
	return s
}

// Told returns s updated with the pod's events, which were read for a Secret that was written at that time.
func (s Seen) Told(pod Pod, events []corev1.Event, written int64, now time.Time) Seen {
	s = s.asked(written, now)
	s.Known = max(s.Known, written)
	for _, event := range events {
		if first := event.FirstTimestamp; event.Reason == "Failed" && !first.IsZero() && first.Time.Before(s.Since) {
			s.Since = first.Time
		}
	}
	for _, wait := range pod.Waits {
		told, known := diagnose.Pull{Image: wait.Image, Waiting: imagePullBackOff}.Told(events), s.pull(wait.Image)
		if told.FailedAt.After(known.FailedAt) {
			known.FailedAt = told.FailedAt
		}
		if begun := diagnose.BegunAt(wait.Image, events); begun.After(known.BegunAt) {
			known.BegunAt = begun
		}
		known.Failures, known.Refusal = max(known.Failures, told.Failures), told.Refusal()
		s = s.with(pod, known)
	}
	return s
}

// Untold returns s after its events could not be read: nothing new is known.
func (s Seen) Untold(written int64, now time.Time) Seen { return s.asked(written, now) }

func (s Seen) asked(written int64, now time.Time) Seen {
	s.Asked = max(s.Asked, written)
	s.Next = now.Add(min(firstAsk<<min(s.Times, 10), lastAsk))
	s.Times++
	return s
}

// nextTry returns about when the kubelet tries a pull again whose last failure is known. Its events may show too few failures, since
// kubelets report only some of many similar events, so failures are also estimated from how long the pod has waited.
func (s Seen) nextTry(pull Pull) time.Time {
	failures, waited := 1, time.Duration(0)
	for elapsed := pull.FailedAt.Sub(s.Since); waited+diagnose.Backoff(failures) <= elapsed; failures++ {
		waited += diagnose.Backoff(failures)
	}
	return pull.FailedAt.Add(diagnose.Backoff(max(failures, pull.Failures)))
}
