package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func progress(success, desired int32) v1.ImagePullSecretStatus {
	return v1.ImagePullSecretStatus{SecretsSuccess: success, SecretsDesired: desired}
}

func failure(reason, object string, since time.Time) v1.Failure {
	return v1.Failure{NamespacedName: object, Reason: reason, Message: "what would mend it", Since: metav1.NewTime(since)}
}

func messages(events []Event) []string {
	var texts []string
	for _, e := range events {
		texts = append(texts, e.Type+" "+e.Reason+": "+e.Message)
	}
	return texts
}

const secret = "tcr.ipsfoo"

func TestEventsOfWrites(t *testing.T) {
	done := progress(1000, 1000)
	t.Run("nothing new is no event", func(t *testing.T) {
		events, again := (&EventAggregator{}).Due(secret, done, nil, noon)
		assert.Empty(t, events)
		assert.Zero(t, again)
	})
	t.Run("a thousand namespaces are one event", func(t *testing.T) {
		a := &EventAggregator{}
		for i := range 400 {
			a.Wrote(EventIssued, fmt.Sprintf("ns-%d", i), noon)
		}
		events, again := a.Due(secret, progress(400, 1000), nil, noon.Add(time.Second))
		assert.Empty(t, events, "more are on their way")
		assert.Equal(t, eventDelay-time.Second, again)
		for i := range 1000 {
			a.Wrote(EventIssued, fmt.Sprintf("ns-%d", i), noon.Add(2*time.Second))
		}
		events, again = a.Due(secret, done, nil, noon.Add(3*time.Second))
		assert.Equal(t, []string{"Normal Issued: secret tcr.ipsfoo was issued in 1000 namespaces"}, messages(events))
		assert.Zero(t, again)
		events, _ = a.Due(secret, done, nil, noon.Add(time.Hour))
		assert.Empty(t, events)
	})
	t.Run("what takes long is told of meanwhile", func(t *testing.T) {
		a := &EventAggregator{}
		a.Wrote(EventIssued, "a", noon)
		events, _ := a.Due(secret, progress(1, 9), nil, noon.Add(eventDelay))
		assert.Equal(t, []string{"Normal Issued: secret tcr.ipsfoo was issued in 1 namespace"}, messages(events))
	})
	t.Run("a trickle is one event in five seconds", func(t *testing.T) {
		a := &EventAggregator{}
		a.Wrote(EventIssued, "a", noon)
		events, _ := a.Due(secret, done, nil, noon)
		assert.Len(t, events, 1)
		a.Wrote(EventIssued, "b", noon.Add(time.Second))
		a.Wrote(EventIssued, "c", noon.Add(2*time.Second))
		events, again := a.Due(secret, done, nil, noon.Add(2*time.Second))
		assert.Empty(t, events)
		assert.Equal(t, 3*time.Second, again)
		events, _ = a.Due(secret, done, nil, noon.Add(5*time.Second))
		assert.Equal(t, []string{"Normal Issued: secret tcr.ipsfoo was issued in 2 namespaces"}, messages(events))
	})
	t.Run("issuing, re-issuing and restoring are told apart", func(t *testing.T) {
		a := &EventAggregator{}
		a.Wrote(EventIssued, "a", noon)
		a.Wrote(EventReissued, "b", noon)
		a.Wrote(EventRestored, "c", noon)
		events, _ := a.Due(secret, done, nil, noon)
		assert.Equal(t, []string{
			"Normal Issued: secret tcr.ipsfoo was issued in 1 namespace",
			"Normal Reissued: secret tcr.ipsfoo was issued again, with the current credential, in 1 namespace",
			"Normal Restored: secret tcr.ipsfoo was restored in 1 namespace, where it had been changed or deleted",
		}, messages(events))
	})
	t.Run("what is repaired again and again is told of a few times only", func(t *testing.T) {
		for repairs := range PromptRepairs + 2 {
			reason, told := EventReason(issueFoo("old"), repairs)
			switch {
			case repairs == 0:
				assert.Equal(t, EventIssued, reason)
			case repairs <= PromptRepairs:
				assert.Equal(t, EventRestored, reason)
			default:
				assert.False(t, told)
			}
		}
	})
}

func TestEventsOfFailures(t *testing.T) {
	done := progress(1000, 1000)
	t.Run("a thousand failures of one reason are one event", func(t *testing.T) {
		a := &EventAggregator{}
		var failures []v1.Failure
		for i := range 1000 {
			failures = append(failures, failure(ReasonForbidden, fmt.Sprintf("ns-%03d/tcr.ipsfoo", i), noon))
		}
		events, _ := a.Due(secret, progress(0, 1000), failures[:100], noon.Add(time.Second))
		assert.Empty(t, events, "more are being found")
		events, _ = a.Due(secret, progress(0, 1000), failures, noon.Add(2*time.Second))
		assert.Equal(t, []string{"Warning Forbidden: 1000 objects, such as ns-000/tcr.ipsfoo: what would mend it"}, messages(events))
		events, again := a.Due(secret, progress(0, 1000), failures, noon.Add(time.Hour))
		assert.Empty(t, events)
		assert.Zero(t, again)
	})
	t.Run("a failure that comes and goes is told of once", func(t *testing.T) {
		a := &EventAggregator{}
		contended := []v1.Failure{failure(ReasonContended, "a/tcr.ipsfoo", noon)}
		events, _ := a.Due(secret, done, contended, noon)
		assert.Equal(t, []string{"Warning Contended: a/tcr.ipsfoo: what would mend it"}, messages(events))
		for round := range 5 {
			now := noon.Add(time.Duration(round+1) * maxRepairDelay)
			events, _ = a.Due(secret, done, nil, now)
			assert.Empty(t, events)
			events, _ = a.Due(secret, done, contended, now.Add(time.Second))
			assert.Empty(t, events)
		}
	})
	t.Run("a failure that returns much later is told of again", func(t *testing.T) {
		a := &EventAggregator{}
		foreign := []v1.Failure{failure(ReasonForeignSecret, "a/tcr.ipsfoo", noon)}
		events, _ := a.Due(secret, done, foreign, noon)
		assert.Len(t, events, 1)
		_, _ = a.Due(secret, done, nil, noon.Add(eventMemory+time.Minute))
		events, _ = a.Due(secret, done, foreign, noon.Add(eventMemory+2*time.Minute))
		assert.Len(t, events, 1)
	})
	t.Run("what may pass by itself is no event", func(t *testing.T) {
		events, again := (&EventAggregator{}).Due(secret, progress(0, 1), []v1.Failure{failure("Timeout", "a/tcr.ipsfoo", noon)}, noon.Add(time.Hour))
		assert.Empty(t, events)
		assert.Zero(t, again)
	})
}
