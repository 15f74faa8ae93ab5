package validity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name string
		seen history
		want time.Time
	}{
		{"a new one is checked at once", history{began: noon.Add(-time.Hour)}, noon.Add(-59 * time.Minute)},
		{"soon after a start, another process may have checked it a moment ago", history{began: noon}, noon.Add(time.Minute)},
		{"what was checked waits for the interval", history{began: noon, checked: noon.Add(-10 * time.Minute), current: true}, noon.Add(50 * time.Minute)},
		{"what is overdue waits for a minute after a start", history{began: noon, checked: noon.Add(-3 * time.Hour), current: true}, noon.Add(time.Minute)},
		{"a change is checked at once", history{began: noon.Add(-time.Hour), checked: noon.Add(-10 * time.Minute)}, noon.Add(-9 * time.Minute)},
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
		{[]attempt{took, silent}, metav1.ConditionTrue, ReasonPartly, "a said LoggedIn; of others nothing is known from the manager: c said Timeout"},
		{[]attempt{took, silent, refused}, metav1.ConditionFalse, "Unauthorized", "b said Unauthorized"},
		{[]attempt{silent, silent}, metav1.ConditionUnknown, "Timeout", "from the manager, nothing can be said of the credential: c said Timeout"},
		{nil, metav1.ConditionUnknown, "NoServer", "no server is known"},
	} {
		status, reason, message := judge(c.attempts)
		assert.Equal(t, c.status, status)
		assert.Equal(t, c.reason, reason)
		assert.Equal(t, c.message, message)
	}
}
