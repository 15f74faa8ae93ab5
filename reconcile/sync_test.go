package reconcile

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func TestARefusalIsNeitherRepeatedNorLoggedInEachNamespace(t *testing.T) {
	const namespaces, rounds = 40, 5
	for name, refusal := range map[string]func(*http.Request) any{
		"a missing permission": denyAccounts,
		"an admission webhook": func(r *http.Request) any {
			return answerWith(http.StatusBadRequest, metav1.StatusReasonBadRequest, `admission webhook "guard.example.com" denied the request: not in `+strings.Split(r.URL.Path, "/")[4])
		},
		"an object that is not valid": func(*http.Request) any {
			return answerWith(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "imagePullSecrets: Too many")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, refusal)
			for i := range namespaces {
				r.namespace(fmt.Sprintf("team-%02d", i), "default", "builder", "robot")
			}
			for range rounds {
				for i := range namespaces {
					r.handle(t.Context(), fmt.Sprintf("team-%02d", i))
				}
			}
			assert.Equal(t, 3*namespaces, len(r.requests()), "each is written once")
			assert.Equal(t, 1, len(r.lines()), "one line says it")
			require.Len(t, r.problems("team-07"), 3, "it stays a failure of each")
			assert.Contains(t, []string{"Forbidden", "Invalid", "BadRequest"}, r.problems("team-07")[0].Reason)
		})
	}
}

func TestAQuotaOfOneNamespaceLeavesTheOthersTheirCheapWrite(t *testing.T) {
	var r *rig
	r = newRig(t, func(request *http.Request) any {
		if strings.Contains(request.URL.Path, "/full/") {
			return answerWith(http.StatusForbidden, metav1.StatusReasonForbidden, `secrets "tcr.ipsr" is forbidden: exceeded quota: small, requested: secrets=1, used: secrets=1, limited: secrets=1`)
		}
		return r.issued(request)
	})
	r.state.PutNamespace(plan.NamespaceMeta{Name: "full", UID: "uid", Live: true})
	r.state.PutNamespace(plan.NamespaceMeta{Name: "other", UID: "uid", Live: true})
	r.handle(t.Context(), "full")
	assert.Equal(t, []string{"POST /api/v1/namespaces/full/secrets"}, r.requests(), "an apply would be refused alike")
	r.handle(t.Context(), "other")
	assert.Equal(t, []string{"POST /api/v1/namespaces/other/secrets"}, r.requests())
}

func TestAConflictHidesNoRefusal(t *testing.T) {
	r := newRig(t, func(request *http.Request) any {
		if strings.HasSuffix(request.URL.Path, "/busy") {
			return answerWith(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
		}
		return denyAccounts(request)
	})
	var results []Result
	r.Observer.Synced = func(result Result, _ time.Duration) { results = append(results, result) }
	r.namespace("team", "busy", "refused")
	r.handle(t.Context(), "team")
	assert.Equal(t, []Result{ResultError}, results)
	require.Len(t, r.lines(), 1)
	assert.Contains(t, r.lines()[0], "cannot patch")
	assert.Equal(t, 1, r.queue.Retries(account("busy")), "the conflict is planned anew at once")
}

func TestAnAccountThatIsNotFoundIsForgotten(t *testing.T) {
	t.Run("as the API server says so", func(t *testing.T) {
		r := newRig(t, func(*http.Request) any {
			return answerWith(http.StatusNotFound, metav1.StatusReasonNotFound, `serviceaccounts "gone" not found`)
		})
		r.namespace("team", "gone")
		edit := plan.EditAccount{Namespace: "team", Name: "gone", Secrets: []string{"tcr.ipsr"}}
		r.repairs.Wrote(edit, time.Now(), false)
		r.handle(t.Context(), "team")
		view, _ := r.state.View("team")
		assert.Empty(t, view.Accounts)
		assert.Zero(t, r.repairs.Wrote(edit, time.Now(), false), "what is written to the next one of its name repeats nothing")
	})
	t.Run("not by a proxy that knows of no accounts", func(t *testing.T) {
		r := newRig(t, func(*http.Request) any { return nil })
		r.plain = http.StatusNotFound
		r.namespace("team", "there")
		r.handle(t.Context(), "team")
		view, _ := r.state.View("team")
		assert.Len(t, view.Accounts, 1)
		assert.Equal(t, 1, r.queue.Retries(account("there")), "it is tried again")
	})
	t.Run("one that was made anew meanwhile stays", func(t *testing.T) {
		var r *rig
		r = newRig(t, func(*http.Request) any {
			r.state.PutAccount("team", plan.Account{Name: "again", Version: 60, Secrets: []string{"tcr.ipsr"}})
			return answerWith(http.StatusNotFound, metav1.StatusReasonNotFound, `serviceaccounts "again" not found`)
		})
		r.namespace("team", "again")
		r.handle(t.Context(), "team")
		view, _ := r.state.View("team")
		assert.Len(t, view.Accounts, 1)
	})
}

func TestAWriteThatIsNeverAnsweredEnds(t *testing.T) {
	r := newRig(t, nil)
	r.answers(func(request *http.Request) any {
		_, _ = io.Copy(io.Discard, request.Body) // only then is the end of the connection noticed
		<-request.Context().Done()
		return nil
	})
	r.namespace("team", "default")
	r.writer.timeout = 100 * time.Millisecond
	handled := make(chan struct{})
	go func() { r.handle(t.Context(), "team"); close(handled) }()
	select {
	case <-handled:
	case <-time.After(20 * time.Second):
		t.Fatal("the worker is still waiting")
	}
	require.Len(t, r.problems("team"), 1)
	assert.Equal(t, "Timeout", r.problems("team")[0].Reason)
	assert.Equal(t, 1, r.queue.Retries(account("default")), "it is tried again")
}

// TestATermThatEndsBeforeItIsSyncedLeavesNothing looks for the goroutines of the queues.
func TestATermThatEndsBeforeItIsSyncedLeavesNothing(t *testing.T) {
	left := func() int {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return strings.Count(string(stacks), "util/workqueue.(*")
	}
	before := left()
	for range 3 {
		r := newRig(t, func(*http.Request) any {
			return answerWith(http.StatusInternalServerError, metav1.StatusReasonInternalError, "down")
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		NewController(r.Config).Run(ctx)
		r.queue.ShutDown()
		r.status.Stop()
	}
	assert.Eventually(t, func() bool { return left() <= before }, 20*time.Second, 50*time.Millisecond)
}

func TestAWriteThatIsUndoneInTheSameRequestIsToldAndPutOff(t *testing.T) {
	for name, strip := range map[string]func(*rig, *http.Request) any{
		"an account's entry": func(_ *rig, request *http.Request) any {
			account := attached(request).(*corev1.ServiceAccount)
			account.ImagePullSecrets = nil
			return account
		},
		"a secret's credential": func(r *rig, request *http.Request) any {
			secret := r.issued(request)
			secret.Data = map[string][]byte{corev1.DockerConfigJsonKey: []byte("{}")}
			return secret
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			r = newRig(t, func(request *http.Request) any { return strip(r, request) })
			written := account("default")
			if strings.Contains(name, "account") {
				r.namespace("team", "default")
			} else {
				written = plan.ObjectKey{Namespace: "team", Name: "tcr.ipsr"}
				r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
			}
			r.handle(t.Context(), "team")
			assert.Equal(t, 1, r.queue.Retries(written), "it is planned again from the answer")
			for range 3 * plan.PromptRepairs {
				r.handle(t.Context(), "team")
			}
			assert.Equal(t, plan.PromptRepairs+1, len(r.requests()), "then it is put off")
			require.Len(t, r.problems("team"), 1)
			assert.Equal(t, plan.ReasonUndone, r.problems("team")[0].Reason)
			assert.Contains(t, r.problems("team")[0].Message, "admission")
			assert.LessOrEqual(t, len(r.lines()), 1)
		})
	}
}

func TestOnlyOfImagePullSecretsThatThereAreAProblemIsKept(t *testing.T) {
	r := newRig(t, deny)
	r.state.PutNamespace(plan.NamespaceMeta{Name: "a", UID: "uid", Live: true})
	r.state.PutSecret("a", r.secret())
	r.state.PutSecret("a", plan.Secret{Name: "tcr.ipsdeleted", Version: 4, Managed: true, Owners: []types.UID{"earlier"}})
	r.state.ReplaceSecrets("tcr.ipsretiring", nil, latest.Relist{Version: 2})
	r.state.PutAccount("a", plan.Account{Name: "default", Version: 5, Secrets: append(entries(40), "tcr.ipsretiring", "tcr.ipsretiring", "tcr.ipsdeleted")})
	r.handle(t.Context(), "a")
	var kept []string
	for _, problem := range r.problems("a") {
		kept = append(kept, problem.ImagePullSecret+" "+problem.NamespacedName)
	}
	assert.ElementsMatch(t, []string{"deleted a/tcr.ipsdeleted", "deleted a/default", "retiring a/default", "r a/default"}, kept)
}

func TestReasonsAreWordsOfTheAPI(t *testing.T) {
	essay := strings.Repeat("because I say so ", 100)
	for name, test := range map[string]struct {
		answer metav1.Status
		want   string
	}{
		"a sentence with 403":   {answerWith(http.StatusForbidden, metav1.StatusReason(essay), "denied"), "Forbidden"},
		"a sentence with 422":   {answerWith(http.StatusUnprocessableEntity, metav1.StatusReason(essay), "denied"), "Invalid"},
		"a sentence with 400":   {answerWith(http.StatusBadRequest, metav1.StatusReason(essay), "denied"), "BadRequest"},
		"a sentence with 418":   {answerWith(http.StatusTeapot, metav1.StatusReason(essay), "denied"), plan.ReasonWriteFailed},
		"a word of the API's":   {answerWith(http.StatusInternalServerError, metav1.StatusReasonInternalError, "down"), "InternalError"},
		"no reason, but a code": {answerWith(http.StatusTeapot, "", "denied"), plan.ReasonWriteFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(*http.Request) any { return test.answer })
			r.namespace("team", "default")
			r.handle(t.Context(), "team")
			problems := r.problems("team")
			require.Len(t, problems, 1)
			assert.Equal(t, test.want, problems[0].Reason)
			assert.LessOrEqual(t, len(problems[0].Message), 400)
			if len(test.answer.Reason) > 100 {
				assert.Contains(t, problems[0].Message, "because I say so")
			}
		})
	}
}
