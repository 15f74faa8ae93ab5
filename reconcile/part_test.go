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

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// comes has the watch tell of an account that lacks its entry.
func (r *rig) comes(namespace, name string, version uint64) {
	one := plan.Namespaced[plan.Account]{Namespace: namespace, Object: plan.Account{Name: name, Version: version}}
	r.state.PutAccount(one.Namespace, one.Object)
	r.accountChanged(one)
}

func TestNewsOfAnAccountAreAboutThatAccount(t *testing.T) {
	r := newRig(t, denyAccounts)
	r.namespace("team", "default", "builder")
	r.handle(t.Context(), "team")
	require.Len(t, r.problems("team"), 2)
	r.requests()

	r.state.PutAccount("team", plan.Account{Name: "unheard", Version: 8}) // its own news are on their way
	r.answers(attached)
	r.comes("team", "young", 9)
	r.drain()
	assert.Equal(t, []string{"PATCH /api/v1/namespaces/team/serviceaccounts/young"}, r.requests())
	assert.Len(t, r.problems("team"), 2, "what is known of the others stays")
}

func TestWhatFailsIsTriedAgainByItself(t *testing.T) {
	r := newRig(t, func(request *http.Request) any {
		if strings.HasSuffix(request.URL.Path, "/default") {
			return answerWith(http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcd is down")
		}
		return attached(request)
	})
	r.namespace("team", "default", "builder")
	r.handle(t.Context(), "team")
	r.requests()
	r.answers(attached)
	namespace, part, _ := r.queue.Get() // when it is time
	r.Controller.handle(t.Context(), namespace, part)
	r.queue.Done(namespace)
	assert.Equal(t, []string{"PATCH /api/v1/namespaces/team/serviceaccounts/default"}, r.requests())
	assert.Empty(t, r.problems("team"))
	assert.Zero(t, r.queue.Retries(account("default")))
}

func TestOfAnAccountThatIsGoneNoFailureIsLeft(t *testing.T) {
	r := newRig(t, denyAccounts)
	r.namespace("team", "default", "builder")
	r.handle(t.Context(), "team")
	require.Len(t, r.problems("team"), 2)
	r.state.RemoveAccount("team", "builder", 9)
	r.accountChanged(plan.Namespaced[plan.Account]{Namespace: "team", Object: plan.Account{Name: "builder"}})
	r.drain()
	require.Len(t, r.problems("team"), 1)
	assert.Equal(t, "team/default", r.problems("team")[0].NamespacedName)
}

func TestManyNewsOfOneNamespaceAreOneComparison(t *testing.T) {
	r := newRig(t, attached)
	compared := 0
	r.Observer.Synced = func(Result, time.Duration) { compared++ }
	r.namespace("team")
	for i := range 100 {
		r.comes("team", fmt.Sprint("account-", i), uint64(10+i))
	}
	r.drain()
	assert.Equal(t, 1, compared)
	assert.Len(t, r.requests(), 100)
}

func TestWhatHasToBeLookedUpIsSoForTheWholeNamespace(t *testing.T) {
	r := newRig(t, func(request *http.Request) any {
		if request.Method == http.MethodGet {
			return notFound(request)
		}
		return attached(request)
	})
	r.namespace("team")
	r.state.PutAccount("team", plan.Account{Name: "builder", Version: 5, Secrets: []string{"tcr.ipsgone", "tcr.ipsr"}})
	r.state.PutAccount("team", plan.Account{Name: "default", Version: 6, Secrets: []string{"tcr.ipsgone", "tcr.ipsr"}})
	r.accountChanged(plan.Namespaced[plan.Account]{Namespace: "team", Object: plan.Account{Name: "default"}})
	r.drain()
	assert.ElementsMatch(t, []string{
		"GET /api/v1/namespaces/team/secrets/tcr.ipsgone",
		"PATCH /api/v1/namespaces/team/serviceaccounts/builder", "PATCH /api/v1/namespaces/team/serviceaccounts/default",
	}, r.requests(), "what is found out of one is of use to the other")
}

func TestAnEditorThatMakesAnObjectInvalidAndValidCausesNoCalls(t *testing.T) {
	flip := func(r *rig) {
		r.requests()
		for generation := range int64(20) {
			r.Index.Put(readable([]string{"team,team", "*"}[generation%2], 2+generation))
			r.drain()
		}
		assert.Empty(t, r.requests())
	}
	t.Run("for what was looked up", func(t *testing.T) {
		foreign := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipstheirs", Namespace: "team", ResourceVersion: "3"}}
		r := newWatchedRig(t, func(*http.Request) any { return foreign })
		r.lists("team", 5, "tcr.ipstheirs")
		r.queue.Add("team")
		r.drain()
		flip(r)
	})
	t.Run("for what was refused", func(t *testing.T) {
		r := newWatchedRig(t, deny)
		r.state.PutNamespace(plan.NamespaceMeta{Name: "team", UID: "uid", Live: true})
		r.queue.Add("team")
		r.drain()
		require.Len(t, r.problems("team"), 1)
		flip(r)
		assert.Len(t, r.problems("team"), 1)
	})
}
