package derived

import (
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// problem is why what is stored cannot be kept up to date, or cannot be seen.
type problem struct {
	since time.Time // zero while nothing fails
	told  *pullsecret.Outdated
}

// failed records that a write failed.
func (k *Keeper) failed(err error) {
	k.log.Debug("derived attachments were not stored, trying again", "error", err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unstored.since.IsZero() {
		k.unstored.since = time.Now()
	}
	lasting := apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
	if lasting || time.Since(k.unstored.since) >= patience {
		k.unstored.told = because(err, ReasonWriteFailed)
		k.tell()
	}
}

// answered records the answer to a list or a watch. Only a watch that was established ends the problem: where only lists are allowed,
// each list would.
func (k *Keeper) answered(verb string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var refusal apierrors.APIStatus
	switch {
	case err == nil && verb == "watch":
		k.unseen = problem{}
		k.tell()
	case err == nil:
	case !errors.As(err, &refusal):
		// Nobody answered. That is not a problem of derived attachments in particular, and an API server that comes back may refuse everything
		// for a moment.
		k.unseen.since = time.Time{}
	case k.unseen.since.IsZero():
		k.unseen.since = time.Now()
	case time.Since(k.unseen.since) >= patience:
		k.unseen.told = because(fmt.Errorf("watching derived attachments: %w", err), ReasonReadFailed)
		k.tell()
	}
}

// because returns the Outdated for an error.
func because(err error, reason string) *pullsecret.Outdated {
	if apierrors.IsForbidden(err) {
		reason = string(metav1.StatusReasonForbidden)
	}
	return &pullsecret.Outdated{
		Reason: reason, Message: err.Error(),
		Meanwhile: "the admission policy attaches what it attached before, and the leader attaches the rest",
	}
}

// stands records that everything that can be stored of what is derived is stored.
func (k *Keeper) stands(derived *pullsecret.Derived) {
	for name := range k.last { // so that earlier ones can be garbage-collected
		k.last[name] = derived
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, now := range k.have {
		now.holds = derived
		k.have[name] = now
	}
	k.parts, k.size, k.unstored = derived.Number, derived.Size, problem{}
	if len(derived.TooLarge) > 0 {
		k.unstored.told = &pullsecret.Outdated{
			Reason: ReasonTooLarge, ImagePullSecrets: derived.TooLarge,
			Message: "the lists of all ImagePullSecrets together are too long for the parameter of the admission policy, and this one's " +
				"are among the longest: select by \"*\", or shorten spec.namespaces or spec.serviceAccounts",
			Meanwhile: "the leader attaches what the admission policy does not",
		}
	}
	if len(derived.TooLarge) == 0 && len(derived.WithoutPods) > 0 {
		k.unstored.told = &pullsecret.Outdated{
			Reason: ReasonTooManyBarred, ImagePullSecrets: derived.WithoutPods,
			Message: "spec.pods has no effect: more service accounts opt out, or enforce mountable secrets, than can be listed for the " +
				"admission policy. Label their namespaces instead of each account",
			Meanwhile: "pods that list pull secrets of their own get only those",
		}
	}
	k.tell()
}

// tell updates Outdated from the two problems. One of reading concerns all ImagePullSecrets, and comes first. k.mu is held.
func (k *Keeper) tell() {
	now := k.unseen.told
	if now == nil {
		now = k.unstored.told
	}
	k.observe(k.parts, k.size, now != nil)
	same := k.outdated == now || k.outdated != nil && now != nil &&
		k.outdated.Reason == now.Reason && slices.Equal(k.outdated.ImagePullSecrets, now.ImagePullSecrets)
	if same {
		return
	}
	if now != nil {
		k.log.Warn("derived attachments became outdated", "reason", now.Reason, "message", now.Message)
	} else {
		k.log.Info("derived attachments were brought up to date")
	}
	k.outdated = now
	close(k.changed)
	k.changed = make(chan struct{})
}
