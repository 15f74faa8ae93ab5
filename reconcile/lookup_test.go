package reconcile

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func notFound(*http.Request) any {
	return answerWith(http.StatusNotFound, metav1.StatusReasonNotFound, "not found")
}

// entries returns so many names of Secrets that no ImagePullSecret accounts for.
func entries(number int) []string {
	names := make([]string, number)
	for i := range names {
		names[i] = pullsecret.SecretPrefix + "x" + strconv.Itoa(i)
	}
	return names
}

// lists adds a live namespace with a good Secret and an account that lists names, our own among them.
func (r *rig) lists(namespace string, version uint64, names ...string) {
	r.namespace(namespace)
	r.state.PutAccount(namespace, plan.Account{Name: "default", Version: version, Secrets: append(names, "tcr.ipsr")})
}

// deny refuses whatever is written, and finds no Secret.
func deny(request *http.Request) any {
	if request.Method == http.MethodGet {
		return notFound(request)
	}
	return answerWith(http.StatusForbidden, metav1.StatusReasonForbidden, `admission webhook "x" denied the request`)
}

func count(requests []string, verb string) (number int) {
	for _, request := range requests {
		if strings.HasPrefix(request, verb+" ") {
			number++
		}
	}
	return number
}

func TestANamespaceOfManyEntriesHoldsAWorkerForAFewLookUpsAtATime(t *testing.T) {
	r := newRig(t, func(*http.Request) any {
		return answerWith(http.StatusForbidden, metav1.StatusReasonForbidden, "whose they are stays unknown")
	})
	r.lists("many", 5, entries(20000)...)
	r.handle(t.Context(), "many")
	assert.LessOrEqual(t, len(r.requests()), maxLookups)
	require.Equal(t, 1, r.queue.Len(), "the rest is to come")
	r.state.PutNamespace(plan.NamespaceMeta{Name: "born", UID: "uid", Live: true})
	r.queue.Add("born")
	next, _, _ := r.queue.Get()
	assert.Equal(t, "born", next, "and gives way to a new namespace")
}

func TestAllEntriesOfWhichNothingIsLeftGoAFewAtATime(t *testing.T) {
	var r *rig
	writes, asked := 0, map[string]int{}
	left := append(entries(3*maxLookups), "tcr.ipsr")
	r = newRig(t, func(request *http.Request) any {
		if request.Method == http.MethodGet {
			asked[request.URL.Path]++
			return notFound(request)
		}
		writes++
		view, _ := r.state.View("a")
		planned := plan.For(r.Index.Rules(), view, plan.Visibility{Issued: r.state.Issued, Watched: r.state.Watched, Gone: func(secret string) bool {
			return asked["/api/v1/namespaces/a/secrets/"+secret] > 0
		}})
		edit := planned.Changes[0].(plan.EditAccount)
		var kept []corev1.LocalObjectReference
		gone := pullsecret.Among(edit.Secrets)
		for _, name := range view.Accounts[0].Secrets {
			if !gone(name) {
				kept = append(kept, corev1.LocalObjectReference{Name: name})
			}
		}
		account := attached(request).(*corev1.ServiceAccount)
		account.ImagePullSecrets, account.ResourceVersion = kept, strconv.Itoa(50+writes)
		return account
	})
	r.lists("a", 5, left[:len(left)-1]...)
	r.queue.Add("a")
	r.drain()
	view, _ := r.state.View("a")
	assert.Equal(t, []string{"tcr.ipsr"}, view.Accounts[0].Secrets)
	assert.Equal(t, 3, writes)
	assert.Len(t, asked, 3*maxLookups)
	for path, times := range asked {
		assert.Equal(t, 1, times, path)
	}
}

func TestAResyncAsksNothingWhereAnEditIsRefused(t *testing.T) {
	for name, number := range map[string]int{"few": 20, "more than are looked up at a time": 3 * maxLookups} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, deny)
			r.lists("a", 5, entries(number)...)
			r.queue.Add("a")
			r.drain()
			first := r.requests()
			assert.Equal(t, 1, count(first, "PATCH"), "it is not tried with ever more")
			assert.LessOrEqual(t, count(first, "GET"), maxLookups)
			for range 5 {
				r.queue.Add("a")
				r.drain()
			}
			assert.Empty(t, r.requests(), "the removal waits its time, and so can what is asked for it")
			r.lists("a", 6, entries(number)...)
			r.queue.Add("a")
			r.drain()
			assert.NotZero(t, count(r.requests(), "GET"), "what was gone may stand again, for all that an account that was changed tells")
		})
	}
}

func TestAResyncAsksNothingWhereADeletionIsRefused(t *testing.T) {
	ours := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{
		Name: "tcr.ipsold", Namespace: "a", ResourceVersion: "3", Labels: map[string]string{v1.ManagedByLabel: v1.ManagedByValue},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "tcr.tencentcloudcr.com/v1", Kind: "ImagePullSecret", Name: "old", UID: types.UID("old")}},
	}}
	r := newRig(t, func(request *http.Request) any {
		if request.Method == http.MethodGet {
			return ours
		}
		return deny(request)
	})
	r.lists("a", 5, "tcr.ipsold")
	for range 5 {
		r.queue.Add("a")
		r.drain()
	}
	requests := r.requests()
	assert.Equal(t, 1, count(requests, "GET"))
	assert.Equal(t, 1, count(requests, "DELETE"))
}

func TestASecretWithACopiedLabelIsNeverDeleted(t *testing.T) {
	theirs := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{
		Name: "tcr.ipstheirs", Namespace: "a", ResourceVersion: "3", Labels: map[string]string{v1.ManagedByLabel: v1.ManagedByValue},
	}}
	r := newRig(t, func(*http.Request) any { return theirs })
	r.state.ReplaceIssued(nil, latest.Relist{Version: 1})
	r.lists("a", 5, "tcr.ipstheirs")
	for range 3 {
		r.queue.Add("a")
		r.drain() // the account was told of first; the Secret, made before it, is about to be
	}
	assert.Equal(t, []string{"GET /api/v1/namespaces/a/secrets/tcr.ipstheirs"}, r.requests(), "no ImagePullSecret owns it, and none ever issued one of its name")
}

func TestAnEntryThatCanBeNoSecretsNameGoesUnasked(t *testing.T) {
	r := newRig(t, attached)
	r.lists("a", 5, "tcr.ips/../other", "tcr.ips%", "tcr.ips\x00")
	r.queue.Add("a")
	r.drain()
	assert.Equal(t, []string{"PATCH /api/v1/namespaces/a/serviceaccounts/default"}, r.requests())
	assert.Empty(t, r.lines())
}

func TestAProxyThatKnowsOfNoSecretsTakesNoEntryAway(t *testing.T) {
	r := newRig(t, notFound)
	r.plain = http.StatusNotFound
	r.lists("a", 5, "tcr.ipstheirs")
	r.handle(t.Context(), "a")
	assert.Zero(t, count(r.requests(), "PATCH"))
	assert.Equal(t, 1, r.queue.Retries(plan.NamespaceKey("a")), "it is asked again")
}

func TestALineOfTheLogHasABound(t *testing.T) {
	r := newRig(t, func(request *http.Request) any {
		if request.Method == http.MethodPatch {
			return answerWith(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "too large")
		}
		return notFound(request)
	})
	names := entries(2000)
	for i := range names {
		names[i] += strings.Repeat("\x01", 300) // an entry may be any text
	}
	r.lists("a", 5, names...)
	r.queue.Add("a")
	r.drain()
	require.NotEmpty(t, r.lines())
	for _, line := range r.lines() {
		assert.LessOrEqual(t, len(line), 4096)
	}
}
