package validity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name string
		seen history
		want time.Time
	}{
		{"a new one is checked at once", history{}, time.Time{}},
		{"unless another process may have checked it a moment ago", history{earliest: noon}, noon},
		{"what was checked waits for the interval", history{earliest: noon, checked: noon.Add(-10 * time.Minute), current: true}, noon.Add(50 * time.Minute)},
		{"what is overdue waits for others, too", history{earliest: noon, checked: noon.Add(-3 * time.Hour), current: true}, noon},
		{"a change is checked at once", history{checked: noon.Add(-10 * time.Minute)}, noon.Add(-9 * time.Minute)},
		{"two changes within a minute are not", history{checked: noon}, noon.Add(time.Minute)},
		{"what said nothing is tried sooner", history{checked: noon, current: true, unknowns: 1}, noon.Add(5 * time.Minute)},
		{"and then later", history{checked: noon, current: true, unknowns: 3}, noon.Add(20 * time.Minute)},
		{"but not later than the rest", history{checked: noon, current: true, unknowns: 1000}, noon.Add(time.Hour)},
	} {
		assert.Equal(t, c.want, c.seen.next(time.Hour, 0.5), c.name)
	}
	hourly := history{checked: noon, current: true}
	assert.Equal(t, noon.Add(54*time.Minute), hourly.next(time.Hour, 0))
	assert.Equal(t, noon.Add(66*time.Minute), hourly.next(time.Hour, 1))
	assert.Equal(t, noon.Add(time.Minute), hourly.next(time.Minute, 0), "never within a minute")
}

func TestWhatAnotherProcessMayHaveChecked(t *testing.T) {
	const free = pause + lag
	status := func(condition metav1.ConditionStatus, reason string, checked time.Time) v1.ImagePullSecretStatus {
		at, issued := metav1.NewTime(checked), metav1.NewTime(noon.Add(-time.Hour))
		status := v1.ImagePullSecretStatus{SecretsDesired: 1, Credential: &v1.CredentialStatus{CheckedAt: &at, IssuedAt: &issued}}
		if reason != "" {
			status.Conditions = []metav1.Condition{{Type: v1.ConditionCredentialValid, Status: condition, Reason: reason, ObservedGeneration: 3}}
		}
		return status
	}
	ago := noon.Add(-10 * time.Minute)
	rotated := status(metav1.ConditionTrue, "LoggedIn", ago)
	later := metav1.NewTime(ago.Add(time.Second))
	rotated.Credential.IssuedAt = &later
	for _, c := range []struct {
		name           string
		status         v1.ImagePullSecretStatus
		created, began time.Time
		want           history
	}{
		{"it was checked", status(metav1.ConditionTrue, "LoggedIn", ago), time.Time{}, noon, history{earliest: ago.Add(free), checked: ago, current: true}},
		{"nothing came of that", status(metav1.ConditionUnknown, "Timeout", ago), time.Time{}, noon,
			history{earliest: ago.Add(free), checked: ago, current: true, unknowns: 1}},
		{"a login was just being made", status(metav1.ConditionTrue, "LoggedIn", noon.Add(-lag)), time.Time{}, noon,
			history{earliest: noon.Add(pause), checked: noon.Add(-lag)}},
		{"a login was being made for the first time", status("", "", ago), time.Time{}, noon, history{earliest: ago.Add(free), checked: ago}},
		{"another credential was issued since", rotated, time.Time{}, noon, history{earliest: ago.Add(free), checked: ago}},
		{"it is known to be unchecked", status(metav1.ConditionUnknown, "NotCheckedYet", ago), time.Time{}, noon,
			history{earliest: ago.Add(free), checked: ago, unknowns: 1}},
		{"somebody else wrote the future", status(metav1.ConditionTrue, "LoggedIn", noon.Add(time.Hour)), time.Time{}, ago, history{earliest: ago.Add(free)}},
		{"it is new", v1.ImagePullSecretStatus{}, noon.Add(-time.Second), ago, history{earliest: ago.Add(free)}},
		{"it is new, and so is the process", v1.ImagePullSecretStatus{}, ago, noon, history{earliest: ago.Add(free)}},
	} {
		assert.Equal(t, c.want, before(c.status, c.created, c.began, noon, 3), c.name)
	}
}

func TestChancesAreSpreadEvenly(t *testing.T) {
	var chances []float64
	for i := range 1000 {
		chance := chanceOf(fmt.Sprintf("3c1f6e0e-0000-4000-8000-%012d", i), noon)
		assert.Equal(t, chance, chanceOf(fmt.Sprintf("3c1f6e0e-0000-4000-8000-%012d", i), noon))
		chances = append(chances, chance)
	}
	slices.Sort(chances)
	for i, chance := range chances {
		assert.InDelta(t, float64(i)/1000, chance, 0.07)
	}
}

func TestJudge(t *testing.T) {
	at := func(server string, verdict check.Verdict, reason string) attempt {
		return attempt{server, check.Result{Verdict: verdict, Reason: reason, Message: server + " said " + reason}}
	}
	took, refused, silent := at("a", check.Valid, "LoggedIn"), at("b", check.Refused, "Unauthorized"), at("c", check.Unknown, "Timeout")
	for _, c := range []struct {
		attempts []attempt
		status   metav1.ConditionStatus
		reason   string
		message  string
	}{
		{[]attempt{took}, metav1.ConditionTrue, "LoggedIn", "a said LoggedIn"},
		{[]attempt{took, silent}, metav1.ConditionTrue, ReasonPartly, "a said LoggedIn; the manager cannot tell for others: c said Timeout"},
		{[]attempt{took, silent, refused}, metav1.ConditionFalse, "Unauthorized", "b said Unauthorized"},
		{[]attempt{silent, silent}, metav1.ConditionUnknown, "Timeout", "the manager cannot tell whether the credential is valid: c said Timeout"},
		{nil, metav1.ConditionUnknown, "NoServer", "no server is known"},
	} {
		status, reason, message := judge(c.attempts)
		assert.Equal(t, c.status, status)
		assert.Equal(t, c.reason, reason)
		assert.Equal(t, c.message, message)
	}
}
