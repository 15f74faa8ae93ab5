package reconcile

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
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
	assert.Empty(t, r.refusals.due(now.Add(-time.Second)), "it is not tried at once")

	for trial := range 5 {
		now = now.Add(maxProbePause + time.Second)
		due := r.refusals.due(now)
		require.Len(t, due, 1, "one namespace tries for all")
		r.handle(t.Context(), due[0])
		assert.Equal(t, 1, len(r.requests()), "trial %d", trial)
	}
	r.answers(attached)
	now = now.Add(maxProbePause + time.Second)
	due := r.refusals.due(now)
	require.Len(t, due, 1)
	r.handle(t.Context(), due[0])
	r.drain()
	assert.Equal(t, 20, len(r.requests()), "all are written, each once")
	for i := range 20 {
		assert.Empty(t, r.problems(fmt.Sprintf("team-%02d", i)))
	}
	assert.Empty(t, r.refusals.due(now.Add(time.Hour)))
}

func TestTheTrialIsPassedOn(t *testing.T) {
	r := refusedEverywhere(t, denyAccounts)
	now, tried := time.Now(), map[string]bool{}
	for range 200 {
		now = now.Add(maxProbePause + time.Second)
		for _, namespace := range r.refusals.due(now) {
			tried[namespace] = true
			r.state.RemoveNamespace(namespace)
			r.forget(namespace)
		}
	}
	assert.Len(t, tried, 20, "those that are gone leave it to the others")
	assert.Empty(t, r.refusals.lacking)
}

func TestARefusedWriteIsTriedAtOnceWhenItsCauseChanges(t *testing.T) {
	invalid := func(*http.Request) any {
		return status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "no")
	}
	t.Run("the account", func(t *testing.T) {
		r := refusedEverywhere(t, invalid)
		r.state.PutAccount("team-07", Account{Name: "default", Version: 6})
		r.handle(t.Context(), "team-07")
		assert.Equal(t, 1, len(r.requests()))
	})
	t.Run("the spec", func(t *testing.T) {
		r := newRig(t, invalid)
		r.state.PutNamespace("team", "uid", true)
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
		r.state.PutNamespace("team", "uid", true)
		r.handle(t.Context(), "team")
		r.forget("team")
		r.handle(t.Context(), "team")
		assert.Equal(t, 2, len(r.requests()))
	})
}

func TestRefusalsAreRepeatedEverLater(t *testing.T) {
	fights := newContention()
	r := newRefusals(fights.subject)
	change, now := issueFoo("old"), noon
	err := fmt.Errorf("x: %w", quota)
	var pauses []time.Duration
	for range 5 {
		_, _, held := r.held(change, 0, now)
		require.False(t, held)
		until := r.refused(change, 0, err, []Problem{{ImagePullSecret: "foo"}}, now)
		problems, _, held := r.held(change, 0, until.Add(-time.Millisecond))
		require.True(t, held)
		assert.Len(t, problems, 1, "it stays a failure meanwhile")
		pauses = append(pauses, until.Sub(now))
		now = until
	}
	for i, least := range []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
		assert.GreaterOrEqual(t, pauses[i], least)
		assert.LessOrEqual(t, pauses[i], 2*least)
	}
	assert.NotEqual(t, pauses[3], pauses[4], "not all at once")
}

func TestWhatIsNoLongerPlannedWaitsForNothing(t *testing.T) {
	r := refusedEverywhere(t, denyAccounts)
	r.Index.Remove("r")
	for i := range 20 {
		name := fmt.Sprintf("team-%02d", i)
		r.state.RemoveSecret(name, "tcr.ipsr", 100)
		r.handle(t.Context(), name)
	}
	assert.Empty(t, r.refusals.due(time.Now().Add(time.Hour)))
	assert.Empty(t, r.refusals.known)
}

var quota = func() error {
	answer := status(http.StatusForbidden, metav1.StatusReasonForbidden, `secrets "tcr.ipsr" is forbidden: exceeded quota: small`)
	return &apiError{answer}
}()

// apiError is an answer of the API server.
type apiError struct{ status metav1.Status }

func (e *apiError) Error() string         { return e.status.Message }
func (e *apiError) Status() metav1.Status { return e.status }

func TestAnImmutableSecretIsReplacedWhereItIsOutdated(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*Secret)
		want []string
	}{
		"one that holds the current credential stays, whatever else it lacks": {
			func(s *Secret) { s.Owners = nil }, []string{"PATCH"},
		},
		"an outdated one": {
			func(s *Secret) { s.Sum[0]++ }, []string{"DELETE", "POST"},
		},
		"one that does not bear our mark is marked first: only what bears it is deleted": {
			func(s *Secret) { s.Sum[0]++; s.Managed = false }, []string{"PATCH", "DELETE", "POST"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			var precondition string
			r = newRig(t, func(request *http.Request) any {
				if request.Method == http.MethodDelete {
					body := make([]byte, 1000)
					n, _ := request.Body.Read(body)
					precondition = string(body[:n])
				}
				return r.issued(request)
			})
			secret := good(t, r.Index.Rules(), "r")
			secret.Immutable = true
			test.edit(&secret)
			r.state.PutNamespace("team", "uid", true)
			r.state.PutSecret("team", secret)
			r.handle(t.Context(), "team")
			var verbs []string
			for _, request := range r.requests() {
				verb, _, _ := strings.Cut(request, " ")
				verbs = append(verbs, verb)
			}
			assert.Equal(t, test.want, verbs)
			if len(verbs) > 1 {
				version := "7"
				if len(verbs) > 2 {
					version = "50" // as it was marked
				}
				assert.Contains(t, precondition, version, "only that version is deleted")
			}
			assert.Empty(t, r.problems("team"))
		})
	}
	t.Run("one that a finalizer holds is told of", func(t *testing.T) {
		var r *rig
		r = newRig(t, func(request *http.Request) any {
			secret := r.issued(request)
			if request.Method == http.MethodPost {
				return status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "it exists")
			}
			secret.DeletionTimestamp, secret.Finalizers = &metav1.Time{Time: noon}, []string{"example.com/hold"}
			return secret
		})
		secret := good(t, r.Index.Rules(), "r")
		secret.Immutable = true
		secret.Sum[0]++
		r.state.PutNamespace("team", "uid", true)
		r.state.PutSecret("team", secret)
		for range 5 {
			r.handle(t.Context(), "team")
		}
		assert.Equal(t, 3, len(r.requests()), "and not deleted again and again")
		require.Len(t, r.problems("team"), 1)
		assert.Equal(t, ReasonHeld, r.problems("team")[0].Reason)
		assert.Contains(t, r.problems("team")[0].Message, "example.com/hold")
	})
	t.Run("whether it is immutable is seen", func(t *testing.T) {
		yes := true
		assert.True(t, stripSecret(&corev1.Secret{Immutable: &yes}).object.Immutable)
		assert.False(t, stripSecret(&corev1.Secret{}).object.Immutable)
	})
}
