package status

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// eventRecorder gathers what happens to each ImagePullSecret and records it as events.
type eventRecorder struct {
	recorder record.EventRecorder // nil records nothing

	mu     sync.Mutex
	byName map[string]*plan.EventAggregator // by ImagePullSecret
}

func newEventRecorder(recorder record.EventRecorder) *eventRecorder {
	return &eventRecorder{recorder: recorder, byName: map[string]*plan.EventAggregator{}}
}

// wrote notes a write that succeeded; repairs is how often the same write has been repeated because someone undid it.
func (e *eventRecorder) wrote(change plan.Change, repairs int, now time.Time) {
	reason, told := plan.EventReason(change, repairs)
	if !told || e.recorder == nil {
		return
	}
	key := plan.KeyOf(change)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of(pullsecret.ImagePullSecretName(key.Name)).Wrote(reason, key.Namespace, now)
}

// record records the events that are due on an ImagePullSecret. before is its previous status. It returns after how long to look again; 0
// for never.
func (e *eventRecorder) record(
	name string, uid types.UID, before, status v1.ImagePullSecretStatus, failures []v1.Failure, now time.Time,
) (again time.Duration) {
	if e.recorder == nil {
		return 0
	}
	e.mu.Lock()
	events, again := e.of(name).Due(pullsecret.SecretName(name), status, failures, now)
	issuance, later := e.of(name).Issuance(before, status, now)
	e.mu.Unlock()
	if issuance != nil {
		events = append(events, *issuance)
	}
	if again == 0 || later > 0 && later < again {
		again = later
	}
	subject := &corev1.ObjectReference{APIVersion: v1.GroupVersion.String(), Kind: v1.Kind.Kind, Name: name, UID: uid}
	for _, event := range events {
		e.recorder.Event(subject, event.Type, event.Reason, event.Message)
	}
	return again
}

func (e *eventRecorder) of(name string) *plan.EventAggregator {
	if e.byName[name] == nil {
		e.byName[name] = &plan.EventAggregator{}
	}
	return e.byName[name]
}

func (e *eventRecorder) forget(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.byName, name)
}
