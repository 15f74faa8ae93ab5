package reconcile

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// refusedEverywhere returns a controller whose writes to twenty accounts were refused, once each.
func refusedEverywhere(t *testing.T, refusal func(*http.Request) any) *rig {
	t.Helper()
	r := newRig(t, refusal)
	for i := range 20 {
		r.namespace(fmt.Sprintf("team-%02d", i), "default")
		r.handle(t.Context(), fmt.Sprintf("team-%02d", i))
	}
	require.Equal(t, 20, len(r.requests()))
	return r
}

func TestAPermissionThatIsGrantedAgainReleasesAllThatWaitedForIt(t *testing.T) {
	r := refusedEverywhere(t, denyAccounts)
	now := time.Now()
	assert.Empty(t, r.refusals.Probes(now.Add(-time.Second)), "it is not tried at once")

	for trial := range 5 {
		now = now.Add(plan.MaxProbeDelay + time.Second)
		due := r.refusals.Probes(now)
		require.Len(t, due, 1, "one namespace tries for all")
		r.handle(t.Context(), due[0])
		assert.Equal(t, 1, len(r.requests()), "trial %d", trial)
	}
	r.answers(attached)
	now = now.Add(plan.MaxProbeDelay + time.Second)
	due := r.refusals.Probes(now)
	require.Len(t, due, 1)
	r.handle(t.Context(), due[0])
	r.drain()
	assert.Equal(t, 20, len(r.requests()), "all are written, each once")
	for i := range 20 {
		assert.Empty(t, r.problems(fmt.Sprintf("team-%02d", i)))
	}
	assert.Empty(t, r.refusals.Probes(now.Add(time.Hour)))
}

func TestTheTrialIsPassedOn(t *testing.T) {
	r := refusedEverywhere(t, denyAccounts)
	now, tried := time.Now(), map[string]bool{}
	for range 200 {
		now = now.Add(plan.MaxProbeDelay + time.Second)
		for _, namespace := range r.refusals.Probes(now) {
			tried[namespace] = true
			r.state.RemoveNamespace(namespace)
			r.forget(namespace)
		}
	}
	assert.Len(t, tried, 20, "those that are gone leave it to the others")
	assert.Empty(t, r.refusals.Probes(now.Add(time.Hour)))
}

func TestARefusedWriteIsTriedAtOnceWhenItsCauseChanges(t *testing.T) {
	invalid := func(*http.Request) any {
		return answerWith(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "no")
	}
	t.Run("the account", func(t *testing.T) {
		r := refusedEverywhere(t, invalid)
		r.state.PutAccount("team-07", plan.Account{Name: "default", Version: 6})
		r.handle(t.Context(), "team-07")
		assert.Equal(t, 1, len(r.requests()))
	})
	t.Run("the spec", func(t *testing.T) {
		r := newRig(t, invalid)
		r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
		r.handle(t.Context(), "team")
		r.handle(t.Context(), "team")
		require.Equal(t, 1, len(r.requests()))
		r.Index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "uid-r", Generation: 2},
			Spec:       v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "robot", Password: "renewed", Server: "registry.example.com"}},
		})
		r.handle(t.Context(), "team")
		assert.Equal(t, 1, len(r.requests()))
	})
	t.Run("the namespace, made anew", func(t *testing.T) {
		r := newRig(t, invalid)
		r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
		r.handle(t.Context(), "team")
		r.forget("team")
		r.handle(t.Context(), "team")
		assert.Equal(t, 2, len(r.requests()))
	})
}

func TestWhatIsNoLongerPlannedWaitsForNothing(t *testing.T) {
	r := refusedEverywhere(t, denyAccounts)
	r.Index.Remove("r")
	for i := range 20 {
		name := fmt.Sprintf("team-%02d", i)
		r.state.RemoveSecret(name, "tcr.ipsr", 100)
		r.handle(t.Context(), name)
	}
	assert.Empty(t, r.refusals.Probes(time.Now().Add(time.Hour)))
}
