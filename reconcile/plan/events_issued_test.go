package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestEventsOfWhetherTheCloudIssues(t *testing.T) {
	status := func(issued metav1.ConditionStatus) v1.ImagePullSecretStatus {
		return v1.ImagePullSecretStatus{Conditions: []metav1.Condition{
			{Type: v1.ConditionCredentialIssued, Status: issued, Reason: "Unauthorized", Message: "allow the action"},
		}}
	}
	nothing, yes, no := v1.ImagePullSecretStatus{}, status(metav1.ConditionTrue), status(metav1.ConditionFalse)
	const (
		refused = "Warning CredentialNotIssued: Unauthorized: allow the action"
		again   = "Normal CredentialIssued: the cloud issues the credential again"
	)
	type step struct {
		after  time.Duration
		before v1.ImagePullSecretStatus
		now    v1.ImagePullSecretStatus
		told   string
		wait   time.Duration
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"it is told that it ends, once, and that it goes on", []step{
			{0, yes, yes, "", 0}, {time.Second, yes, no, refused, 0}, {time.Minute, no, no, "", 0}, {time.Hour, no, yes, again, 0},
			{2 * time.Hour, yes, yes, "", 0},
		}},
		{"a first one that is issued is no news", []step{{0, nothing, yes, "", 0}}},
		{"a first one that is not is", []step{{0, nothing, no, refused, 0}}},
		{"another leader tells nothing again", []step{{0, no, no, "", 0}, {time.Minute, no, yes, again, 0}}},
		{"nor forgets what came between", []step{{0, yes, no, refused, 0}}},
		{"a cloud that comes and goes is told of every few minutes", []step{
			{0, yes, no, refused, 0}, {time.Minute, no, yes, again, 0}, {2 * time.Minute, yes, no, "", issuedPeriod - 2*time.Minute},
			{3 * time.Minute, no, yes, "", 0}, {4 * time.Minute, yes, no, "", time.Minute}, {issuedPeriod, no, no, refused, 0},
			{issuedPeriod + time.Second, no, yes, "", time.Minute - time.Second},
		}},
		{"a credential that is from elsewhere is none of it", []step{
			{0, yes, no, refused, 0}, {time.Second, no, nothing, "", 0}, {time.Minute, nothing, no, "", issuedPeriod - time.Minute},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &EventAggregator{}
			for i, step := range c.steps {
				event, wait := a.Issuance(step.before, step.now, noon.Add(step.after))
				told := ""
				if event != nil {
					told = messages([]Event{*event})[0]
				}
				assert.Equal(t, step.told, told, i)
				assert.Equal(t, step.wait, wait, i)
			}
		})
	}
}
