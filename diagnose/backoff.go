package diagnose

import "time"

// How kubelets wait between pulls of a pod's image.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 300 * time.Second
)

// Backoff returns how long a kubelet waits before it tries again, after so many failed pulls of an image for a pod. The kubelet
// checks every ten to fifteen seconds whether that time is over.
func Backoff(failures int) time.Duration {
	wait := firstBackoff
	for range failures - 1 {
		if wait *= 2; wait >= maxBackoff {
			return maxBackoff
		}
	}
	return wait
}

// nextTry returns when the kubelet tries the pull again; zero where that is not known.
func (p *Pull) nextTry() time.Time {
	if p.Failures == 0 || p.FailedAt.IsZero() {
		return time.Time{}
	}
	return p.FailedAt.Add(Backoff(p.Failures))
}

// triedAt returns when the kubelet read the Secrets for the pull that failed last, as far as its events tell; zero if they are gone. A
// pull that began later has not failed yet.
func (p *Pull) triedAt() time.Time {
	if p.BeganAt.IsZero() || p.BeganAt.After(p.FailedAt) {
		return p.FailedAt
	}
	return p.BeganAt
}
