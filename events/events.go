// Package events records what happens as Kubernetes events, on the objects concerned, where kubectl describe shows them.
package events

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/healing/eviction"
)

// remembered is how many events are remembered to count equal ones. Each takes kilobytes.
const remembered = 512

// NewRecorder returns a recorder of events, which works until ctx ends. It writes core/v1 events: their correlator keeps the text of
// each event and counts equal ones, while that of events.k8s.io/v1 keeps the text of the first and drops the others.
func NewRecorder(ctx context.Context, client *clientset.Clientset) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		SpamKeyFunc: byReason, LRUCacheSize: remembered,
	}))
	broadcaster.StartRecordingToSink(sink{ctx, client})
	return broadcaster.NewRecorder(client.Scheme(), corev1.EventSource{Component: "tcr-assistant-controller-manager"})
}

// sink writes each event in its own namespace.
type sink struct {
	ctx    context.Context // the broadcaster passes none
	client *clientset.Clientset
}

func (s sink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.client.Events(event.Namespace).Create(s.ctx, event, metav1.CreateOptions{})
}

func (s sink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.client.Events(event.Namespace).Update(s.ctx, event, metav1.UpdateOptions{})
}

// Patch changes an event, such as its count, by a strategic merge patch.
func (s sink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.client.Events(event.Namespace).Patch(s.ctx, event.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

// byReason makes the correlator limit the events of each reason separately: the many events of a busy cluster must not crowd out a
// warning. For evictions, the key includes the message, so that none is dropped: there are few in a second, but an owner may have many
// pods.
func byReason(event *corev1.Event) string {
	key := []string{event.Source.Component, event.InvolvedObject.Kind, event.InvolvedObject.Name, string(event.InvolvedObject.UID),
		event.Reason}
	if event.Reason == eviction.ReasonEvicted {
		key = append(key, event.Message)
	}
	return strings.Join(key, "/")
}

// ReasonFellBack is the reason of the event that says that the webhook serves with a self-signed certificate.
const ReasonFellBack = "CertificateFellBack"

// Certificate returns an observer that records a fallback as an event on a webhook configuration: that is where people look up
// which certificate is trusted. The configuration may not exist before the first certificate does, so the event waits until the
// certificate is in use.
func Certificate(recorder record.EventRecorder, signer string, configuration func() *corev1.ObjectReference) certs.Observer {
	var cause atomic.Value
	return certs.Observer{
		FellBack: func(reason error) { cause.Store(reason.Error()) },
		Rotated: func(mode certs.Mode, _ time.Time) {
			if reason, known := cause.Load().(string); known && mode == certs.ModeSelfSigned {
				recorder.Event(configuration(), corev1.EventTypeWarning, ReasonFellBack, fmt.Sprintf(
					"the webhook serves with a self-signed certificate until the next renewal, because signer %s issued none: %s",
					signer, reason))
			}
		},
	}
}
