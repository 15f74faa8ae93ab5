package reconcile

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func TestAnImmutableSecretIsReplacedWhereItIsOutdated(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*plan.Secret)
		want []string
	}{
		"one that holds the current credential stays, whatever else it lacks": {
			func(s *plan.Secret) { s.Owners = nil }, []string{"PATCH"},
		},
		"an outdated one": {
			func(s *plan.Secret) { s.Sum[0]++ }, []string{"DELETE", "POST"},
		},
		"one that does not bear our mark is marked first: only what bears it is deleted": {
			func(s *plan.Secret) { s.Sum[0]++; s.Managed = false }, []string{"PATCH", "DELETE", "POST"},
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
			secret := r.secret()
			secret.Immutable = true
			test.edit(&secret)
			r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
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
				return answerWith(http.StatusConflict, metav1.StatusReasonAlreadyExists, "it exists")
			}
			secret.DeletionTimestamp, secret.Finalizers = &metav1.Time{Time: time.Now()}, []string{"example.com/hold"}
			return secret
		})
		secret := r.secret()
		secret.Immutable = true
		secret.Sum[0]++
		r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
		r.state.PutSecret("team", secret)
		for range 5 {
			r.handle(t.Context(), "team")
		}
		assert.Equal(t, 3, len(r.requests()), "and not deleted again and again")
		require.Len(t, r.problems("team"), 1)
		assert.Equal(t, plan.ReasonHeld, r.problems("team")[0].Reason)
		assert.Contains(t, r.problems("team")[0].Message, "example.com/hold")
	})
	t.Run("whether it is immutable is seen", func(t *testing.T) {
		yes := true
		assert.True(t, plan.StripSecret(&corev1.Secret{Immutable: &yes}).Object.Immutable)
		assert.False(t, plan.StripSecret(&corev1.Secret{}).Object.Immutable)
	})
}
