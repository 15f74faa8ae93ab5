package plan

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRefusalsAreRepeatedEverLater(t *testing.T) {
	r := NewRefusals()
	change, now := issueFoo("old"), noon
	err := fmt.Errorf("x: %w", quota)
	var delays []time.Duration
	for range 5 {
		_, _, held := r.Held(change, 0, now)
		require.False(t, held)
		until := r.Refused(change, 0, err, []Problem{{ImagePullSecret: "foo"}}, now)
		problems, _, held := r.Held(change, 0, until.Add(-time.Millisecond))
		require.True(t, held)
		assert.Len(t, problems, 1, "it stays a failure meanwhile")
		delays = append(delays, until.Sub(now))
		now = until
	}
	for i, least := range []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
		assert.GreaterOrEqual(t, delays[i], least)
		assert.LessOrEqual(t, delays[i], 2*least)
	}
	assert.NotEqual(t, delays[3], delays[4], "not all at once")
}

func TestRefusalsOfWhatIsNoLongerPlannedAreForgotten(t *testing.T) {
	r := NewRefusals()
	change := issueFoo("old")
	r.Refused(change, 0, quota, nil, noon)
	r.Retain("team", Whole(), []Change{change})
	assert.True(t, r.Known(change, 0))
	r.Retain("team", Whole(), nil)
	assert.False(t, r.Known(change, 0))
	assert.Empty(t, r.byNamespace)
}

func TestRefusalsOfOtherPartsAreKept(t *testing.T) {
	r := NewRefusals()
	issue, edit := issueFoo("old"), EditAccount{Namespace: "team", Name: "default", Secrets: []string{"tcr.ipsfoo"}}
	r.Refused(issue, 0, quota, nil, noon)
	r.Refused(edit, 0, quota, nil, noon)
	r.Retain("team", PartOf(KeyOf(edit)), nil)
	assert.True(t, r.Known(issue, 0), "it was not what was planned")
	assert.False(t, r.Known(edit, 0))
	r.Retain("team", PartOf(KeyOf(issue)), nil)
	assert.Empty(t, r.byNamespace)
}

var quota = &apiError{metav1.Status{
	Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: `secrets "tcr.ipsr" is forbidden: exceeded quota: small`,
}}

// apiError is an answer of the API server.
type apiError struct{ status metav1.Status }

func (e *apiError) Error() string         { return e.status.Message }
func (e *apiError) Status() metav1.Status { return e.status }
