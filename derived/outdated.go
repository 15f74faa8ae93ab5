package derived

import (
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// failed takes in that a write did not succeed.
func (k *Keeper) failed(err error) {
	k.log.Debug("derived attachments were not stored, trying again", "error", err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failing.IsZero() {
		k.failing = time.Now()
	}
	lasting := apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err)
	if !lasting && time.Since(k.failing) < patience {
		return
	}
	reason := ReasonWriteFailed
	if apierrors.IsForbidden(err) {
		reason = string(metav1.StatusReasonForbidden)
	}
	k.tell(&pullsecret.Outdated{Reason: reason, Message: err.Error()})
}

// stands takes in that everything that can be stored is.
func (k *Keeper) stands(derived pullsecret.Derived) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = time.Time{}
	if len(derived.TooLarge) == 0 {
		k.tell(nil)
		return
	}
	names := slices.Concat(slices.Collect(maps.Values(derived.TooLarge))...)
	slices.Sort(names)
	k.tell(&pullsecret.Outdated{Reason: ReasonTooLarge, ImagePullSecrets: slices.Compact(names), Message: "the lists of all ImagePullSecrets together " +
		"are too long to be the parameter of the admission policy: select by \"*\", or shorten spec.serviceAccounts"})
}

// tell replaces why it is outdated. k.mu is held.
func (k *Keeper) tell(now *pullsecret.Outdated) {
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
