package keeper

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// reasonNotPublished is the reason if the lines could not be published for hosts-updater, or the Secret of the keys could not be read.
const reasonNotPublished = "NotPublished"

// refusal is a reason and a message that say why something is not as it should be.
type refusal struct{ reason, message string }

// refusalOf returns what to report for an error of the cloud; nil if there is none. It is the same for the same failure.
func refusalOf(err error) *refusal {
	var failure *tencentcloud.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure):
		same := *failure
		same.RequestID = ""
		return &refusal{string(failure.Reason), same.Error()}
	default:
		return &refusal{reasonNotPublished, err.Error()}
	}
}

// tell returns whether a registry is reached, by the cloud's last answer, unless refused says that this is not known, or not in effect.
func tell(answer privatenetwork.Answer, told bool, refused *refusal) *pullsecret.Reach {
	reach := &pullsecret.Reach{Ready: metav1.ConditionFalse}
	if told {
		reach.Reason, reach.Message = string(answer.Reason), answer.Message
		if answer.Ready() {
			reach.Ready = metav1.ConditionTrue
		}
		reach.Link = linkOf(answer)
	}
	switch {
	case refused == nil:
	case told && len(answer.Hosts)+len(answer.Resolved) > 0 && refused.reason != reasonNotPublished:
		reach.Ready, reach.Reason = metav1.ConditionUnknown, refused.reason
		reach.Message = refused.message + "; the last answer stays in effect: " + answer.Message
	default:
		reach.Ready, reach.Reason, reach.Message = metav1.ConditionFalse, refused.reason, refused.message
	}
	return reach
}

// unfollowed adds to a reach that no node has its lines, if hosts-updater is not installed.
func unfollowed(reach *pullsecret.Reach, installed bool, namespace string) {
	if !installed && reach.Ready == metav1.ConditionTrue && reach.Link != nil && len(reach.Link.Domains) > 0 {
		reach.Message += "; but hosts-updater is not installed in namespace " + namespace + ", and no node has the lines: set hostsUpdater.always"
	}
}

// linkOf returns what the status shows of the link; nil if there is none.
func linkOf(answer privatenetwork.Answer) *v1.PrivateNetworkStatus {
	if answer.Link.VPC == "" {
		return nil
	}
	status := &v1.PrivateNetworkStatus{
		VPCID: answer.Link.VPC, State: answer.Link.Status, Address: answer.Link.Address, ResolvedDomains: answer.Resolved,
	}
	for _, host := range answer.Hosts {
		status.Domains = append(status.Domains, host.Domain)
	}
	return status
}

// The reasons of events on an ImagePullSecret.
const (
	eventReady    = "PrivateNetworkReady"
	eventNotReady = "PrivateNetworkNotReady"
)

// told is the part of a private network's state whose changes are recorded as events.
type told struct {
	ready           metav1.ConditionStatus
	reason, address string
}

func toldBy(reach *pullsecret.Reach) told {
	now := told{ready: reach.Ready, reason: reach.Reason}
	if reach.Link != nil {
		now.address = reach.Link.Address
	}
	return now
}

// tell records an event, and logs, if the state of a private network has changed. That the cloud does not answer for a while is no change.
func (k *Keeper) tell(rule *pullsecret.Rule, reach *pullsecret.Reach) {
	now := toldBy(reach)
	if k.told[rule.Name] == now || reach.Ready == metav1.ConditionUnknown {
		return
	}
	k.told[rule.Name] = now
	kind, reason := corev1.EventTypeNormal, eventReady
	if reach.Ready == metav1.ConditionTrue {
		k.Log.Info("private network is ready", "imagePullSecret", rule.Name, "address", now.address)
	} else {
		kind, reason = corev1.EventTypeWarning, eventNotReady
		k.Log.Warn("private network is not ready", "imagePullSecret", rule.Name, "reason", reach.Reason, "message", reach.Message)
	}
	if k.Recorder != nil {
		subject := &corev1.ObjectReference{APIVersion: v1.GroupVersion.String(), Kind: v1.Kind.Kind, Name: rule.Name, UID: rule.UID}
		k.Recorder.Event(subject, kind, reason, reach.Message)
	}
}
