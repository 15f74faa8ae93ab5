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

// problem is what stands in the way of what is stored.
type problem struct {
	since time.Time // zero while nothing fails
	told  *pullsecret.Outdated
}

// failed takes in that a write did not succeed.
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

// answered takes in an answer to a list or a watch. Only a watch that stands ends what they failed of: where lists alone are
// allowed, each would.
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
		// Nobody answered. That is everybody's trouble, and an API server that comes back may refuse everything for a moment.
		k.unseen.since = time.Time{}
	case k.unseen.since.IsZero():
		k.unseen.since = time.Now()
	case time.Since(k.unseen.since) >= patience:
		k.unseen.told = because(fmt.Errorf("watching derived attachments: %w", err), ReasonReadFailed)
		k.tell()
	}
}

// because returns that something is outdated because of an error.
func because(err error, reason string) *pullsecret.Outdated {
	if apierrors.IsForbidden(err) {
		reason = string(metav1.StatusReasonForbidden)
	}
	return &pullsecret.Outdated{
		Reason: reason, Message: err.Error(),
		Meanwhile: "the admission policy attaches what it attached before, the leader the rest",
	}
}

// stands takes in that everything that can be stored of what is derived is.
func (k *Keeper) stands(derived *pullsecret.Derived) {
	for name := range k.last { // so that what was derived before need not be kept
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
			Message: "the lists of all ImagePullSecrets together are too long to be the parameter of the admission policy, and this one's " +
				"are among the longest: select by \"*\", or shorten spec.namespaces or spec.serviceAccounts",
			Meanwhile: "the leader attaches what the admission policy does not",
		}
	}
	if len(derived.TooLarge) == 0 && len(derived.WithoutPods) > 0 {
		k.unstored.told = &pullsecret.Outdated{
			Reason: ReasonTooManyBarred, ImagePullSecrets: derived.WithoutPods,
			Message: "spec.pods serves no pod: more service accounts opt out, or enforce mountable secrets, than can be listed for the " +
				"admission policy: label their namespaces instead of each account",
			Meanwhile: "pods that list pull secrets of their own get only those",
		}
	}
	k.tell()
}

// tell has what is outdated follow what stands in the way. What cannot be seen concerns all, and comes first. k.mu is held.
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
