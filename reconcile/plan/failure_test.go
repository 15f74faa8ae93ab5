package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestWorst(t *testing.T) {
	t.Run("what needs someone comes first, then what is oldest", func(t *testing.T) {
		given := []v1.Failure{
			failure("Timeout", "a/x", noon),
			failure(ReasonForeignSecret, "b/x", noon.Add(time.Hour)),
			failure(ReasonForbidden, "c/x", noon),
			failure("InternalError", "d/x", noon.Add(-time.Hour)),
		}
		var order []string
		for _, f := range worst(given) {
			order = append(order, f.NamespacedName)
		}
		assert.Equal(t, []string{"c/x", "b/x", "d/x", "a/x"}, order)
	})
	t.Run("fifty are listed, the worst", func(t *testing.T) {
		var given []v1.Failure
		for i := range 100 {
			given = append(given, failure("Timeout", fmt.Sprint(i), noon.Add(time.Duration(i)*time.Second)))
		}
		given = append(given, failure(ReasonForbidden, "last", noon.Add(time.Hour)))
		listed := worst(given)
		require.Len(t, listed, 50)
		assert.Equal(t, "last", listed[0].NamespacedName)
		assert.Equal(t, "48", listed[49].NamespacedName)
	})
	t.Run("long messages are cut between characters", func(t *testing.T) {
		long := failure("Timeout", "a/x", noon)
		for shift := range 3 {
			long.Message = strings.Repeat("x", shift) + strings.Repeat("é", 1000)
			cut := worst([]v1.Failure{long})[0].Message
			assert.LessOrEqual(t, len(cut), maxMessage)
			assert.True(t, utf8.ValidString(cut))
			assert.True(t, strings.HasSuffix(cut, "…"))
		}
	})
}

func TestStatusStaysSmallWithLongNames(t *testing.T) {
	name := strings.Repeat("i", 246)
	rules := rulesOf(t, map[string]string{name: "*"})
	secret, state := good(t, rules, name), NewState()
	for i := range 2000 {
		namespace := fmt.Sprintf("%s%04d", strings.Repeat("n", 59), i)
		state.PutNamespace(NamespaceMeta{Name: namespace, UID: types.UID(namespace), Live: true})
		state.PutSecret(namespace, secret)
		state.PutAccount(namespace, Account{Name: strings.Repeat("s", 253), Version: 1, Secrets: []string{secret.Name}})
		state.SetProblems(namespace, Whole(), []Problem{{name, false, failure("InternalError", namespace+"/"+secret.Name, noon)}})
		state.namespaces[namespace].problems[localKey{name: secret.Name}][0].Message = strings.Repeat("m", 5000)
	}
	status := Summarize(rules.Get(name), state, v1.ImagePullSecretStatus{}, noon)
	assert.EqualValues(t, 2000, status.SecretsSuccess, "counts are exact")
	assert.Len(t, status.Failures, maxFailures)
	encoded, err := json.Marshal(status)
	require.NoError(t, err)
	assert.Less(t, len(encoded), 100_000)
}

func TestBlind(t *testing.T) {
	t.Run("keeps the counts, says why, and is ready for no generation", func(t *testing.T) {
		old := v1.ImagePullSecretStatus{ObservedGeneration: 1, SecretsDesired: 9, SecretsSuccess: 9, Conditions: []metav1.Condition{
			{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonComplete, ObservedGeneration: 1},
		}}
		status := Blind([]v1.Failure{failure(ReasonForbidden, "*/tcr.ipsfoo", noon)}, 2, old, noon)
		assert.EqualValues(t, 9, status.SecretsSuccess)
		require.Len(t, status.Conditions, 1)
		assert.Equal(t, metav1.ConditionFalse, status.Conditions[0].Status)
		assert.EqualValues(t, 2, status.Conditions[0].ObservedGeneration)
		assert.Len(t, status.Failures, 1)
		assert.Equal(t, metav1.ConditionTrue, old.Conditions[0].Status, "the old one is as it was")
	})
}

func TestRemedy(t *testing.T) {
	accounts := schema.GroupResource{Resource: "serviceaccounts"}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{
			"a missing permission is named",
			apierrors.NewForbidden(accounts, "robot", errors.New(`User "system:serviceaccount:x:y" cannot patch resource "serviceaccounts" in API group "" in the namespace "team"`)),
			`the manager is not allowed to patch serviceaccounts: grant its role the verb "patch" on the resource "serviceaccounts" in the API group ""`,
		},
		{
			"a refusal by an admission plugin is told as it is",
			apierrors.NewForbidden(accounts, "robot", errors.New("exceeded quota: small")),
			`serviceaccounts "robot" is forbidden: exceeded quota: small`,
		},
		{"another error is told as it is", errors.New("connection refused"), "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) { assert.Equal(t, tc.want, remedy(tc.err)) })
	}
}

func TestDeniedWatches(t *testing.T) {
	denied := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", errors.New(`User "u" cannot list resource "secrets" in API group "" at the cluster scope`))
	d := NewDeniedWatches()
	answered := func(request WatchRequest, err error) bool { return d.Answered(request, err, noon) }
	list := WatchRequest{"list", "secrets", "tcr.ipsfoo"}

	assert.False(t, answered(list, nil), "what is allowed changes nothing")
	assert.False(t, answered(list, errors.New("connection refused")), "nor does what is not answered")
	assert.True(t, answered(list, denied))
	assert.False(t, answered(list, denied), "a refusal changes something once")
	assert.Equal(t, "*/tcr.ipsfoo", d.Failures("tcr.ipsfoo")[0].NamespacedName)
	assert.Empty(t, d.Failures("tcr.ipsbar"), "it concerns its ImagePullSecret alone")
	answered(list, errors.New("connection refused"))
	assert.Len(t, d.Failures("tcr.ipsfoo"), 1, "no answer is no permission")
	answered(WatchRequest{"watch", "namespaces", ""}, denied)
	assert.Len(t, d.Failures("tcr.ipsbar"), 1, "namespaces concern all")
	assert.True(t, answered(list, nil))
	assert.Empty(t, d.Failures("tcr.ipsfoo")[1:], "what is granted is a failure no more")

	answered(list, denied)
	answered(WatchRequest{"watch", "secrets", "tcr.ipsfoo"}, nil)
	assert.Empty(t, d.Failures("tcr.ipsfoo")[1:], "a watch that is allowed needs no list")
}

func TestLogKey(t *testing.T) {
	denied := func(text string) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "tcr.ipsfoo", errors.New(text))
	}
	quota := LogKey(denied("exceeded quota: small, requested: secrets=1"))
	assert.Equal(t, quota, LogKey(denied("exceeded quota: large, requested: secrets=1")))
	webhook := LogKey(errors.New(`admission webhook "a.example.com" denied the request: not in team-1`))
	assert.Equal(t, webhook, LogKey(errors.New(`admission webhook "a.example.com" denied the request: not in team-2`)))
	assert.NotEqual(t, webhook, LogKey(errors.New(`admission webhook "b.example.com" denied the request: not in team-1`)))
	assert.NotEqual(t, webhook, quota)
	missing := LogKey(denied(`User "u" cannot patch resource "secrets" in API group "" in the namespace "a"`))
	assert.Equal(t, missing, LogKey(denied(`User "u" cannot patch resource "secrets" in API group "" in the namespace "b"`)))
}
