package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/metrics"
)

// newRecorder returns a recorder of events, which works until ctx ends. It writes core/v1 events: their correlator keeps the
// text of each and counts equal ones, where that of events.k8s.io/v1 keeps the text of the first and drops the rest.
func newRecorder(ctx context.Context, client kubernetes.Interface) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{SpamKeyFunc: byReason}))
	broadcaster.StartRecordingToSink(&coreclient.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tcr-assistant-controller-manager"})
}

// byReason makes the correlator drop events of a reason only where those of the same reason are too many: news of a busy
// cluster must not crowd out a warning.
func byReason(event *corev1.Event) string {
	return strings.Join([]string{event.Source.Component, event.InvolvedObject.Kind, event.InvolvedObject.Name, string(event.InvolvedObject.UID), event.Reason}, "/")
}

// eventFellBack is the reason of the event that the webhook serves with a self-signed certificate.
const eventFellBack = "CertificateFellBack"

// observeCertificate returns an observer that counts, and records a fallback as an event on the configuration of the mutating
// webhook: there it is seen by whoever looks up what the webhook trusts. That configuration may not exist before the first
// certificate does, so the event waits until the certificate is in use.
func observeCertificate(m *metrics.Metrics, recorder record.EventRecorder, signer string, configuration func() *corev1.ObjectReference) certs.Observer {
	var cause atomic.Value
	count := m.Certificate()
	return certs.Observer{
		FellBack: func(reason error) {
			count.FellBack(reason)
			cause.Store(reason.Error())
		},
		Rotated: func(mode certs.Mode, notAfter time.Time) {
			count.Rotated(mode, notAfter)
			if reason, known := cause.Load().(string); known && mode == certs.ModeSelfSigned {
				recorder.Event(configuration(), corev1.EventTypeWarning, eventFellBack,
					fmt.Sprintf("the webhook serves with a self-signed certificate until the next renewal, as signer %s gave none: %s", signer, reason))
			}
		},
	}
}
