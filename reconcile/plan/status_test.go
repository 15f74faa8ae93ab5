package plan

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestSummarize(t *testing.T) {
	rules := rulesOf(t, map[string]string{"r": "a,b,ending"})
	rule := rules.Get("r")
	now := time.Unix(1_800_000_000, 0)
	state := NewState()
	for _, name := range []string{"a", "b", "c"} {
		state.PutNamespace(NamespaceMeta{Name: name, UID: types.UID(name), Live: true})
		state.PutAccount(name, Account{Name: "default", Version: 1})
	}
	state.PutNamespace(NamespaceMeta{Name: "ending", UID: "ending", Live: false})

	t.Run("what is missing is counted", func(t *testing.T) {
		status := Summarize(rule, state, v1.ImagePullSecretStatus{}, now)
		assert.Equal(t, [4]int32{2, 0, 2, 0}, [4]int32{status.SecretsDesired, status.SecretsSuccess, status.SAsDesired, status.SAsSuccess})
		assert.Equal(t, ReasonProgressing, status.Conditions[0].Reason)
	})
	secret := good(t, rules, "r")
	secret.Updated = 100
	state.PutSecret("a", secret)
	secret.Updated = 200
	state.PutSecret("b", secret)
	state.PutAccount("a", Account{Name: "default", Version: 2, Secrets: []string{"tcr.ipsr"}, Updated: 150})
	state.PutAccount("b", Account{Name: "default", Version: 2, Secrets: []string{"tcr.ipsr"}, Updated: 150})
	complete := Summarize(rule, state, v1.ImagePullSecretStatus{}, now)
	t.Run("what is complete is ready, the newest first", func(t *testing.T) {
		assert.Equal(t, [4]int32{2, 2, 2, 2}, [4]int32{complete.SecretsDesired, complete.SecretsSuccess, complete.SAsDesired, complete.SAsSuccess})
		assert.Equal(t, ReasonComplete, complete.Conditions[0].Reason)
		assert.Equal(t, "b/tcr.ipsr", complete.SecretUpdateSuccessful[0].NamespacedName)
		assert.EqualValues(t, 200, complete.SecretUpdateSuccessful[0].UpdatedAt.Unix())
		assert.Equal(t, "a/default", complete.ServiceAccountsModifySuccessful[0].NamespacedName, "those of one second stand by name")
	})
	t.Run("nothing changes when nothing changed, however late it is", func(t *testing.T) {
		again := Summarize(rule, state, complete, now.Add(time.Hour))
		assert.True(t, equality.Semantic.DeepEqual(complete, again))
	})
	t.Run("a restart forgets no time of an earlier write", func(t *testing.T) {
		old := *complete.DeepCopy()
		old.ServiceAccountsModifySuccessful[0].UpdatedAt.Time = time.Unix(999, 0)
		again := Summarize(rule, state, old, now)
		assert.EqualValues(t, 999, again.ServiceAccountsModifySuccessful[0].UpdatedAt.Unix())
	})
	t.Run("a problem makes it fail until it is mended", func(t *testing.T) {
		state.SetProblems("a", Whole(), []Problem{
			{"r", false, v1.Failure{NamespacedName: "a/tcr.ipsr", Reason: "Forbidden", Message: "m"}},
			{"other", false, v1.Failure{NamespacedName: "a/tcr.ipsother", Reason: "Forbidden"}},
		})
		failing := Summarize(rule, state, complete, now)
		require.Len(t, failing.Failures, 1)
		assert.Equal(t, ReasonFailing, failing.Conditions[0].Reason)
		assert.Contains(t, failing.Conditions[0].Message, "; 1 failure, see status.failures")
		state.SetProblems("a", Whole(), nil)
		assert.Equal(t, ReasonComplete, Summarize(rule, state, failing, now).Conditions[0].Reason)
	})
	t.Run("a spec that cannot be read keeps what was, and is not ready", func(t *testing.T) {
		rejected := Reject(assert.AnError, 2, complete, now)
		assert.Equal(t, ReasonInvalidSpec, rejected.Conditions[0].Reason)
		assert.Equal(t, complete.SecretsSuccess, rejected.SecretsSuccess)
		assert.EqualValues(t, 2, rejected.ObservedGeneration)
	})
}

func TestStatusStaysSmall(t *testing.T) {
	rules := rulesOf(t, map[string]string{"r": "*"})
	secret := good(t, rules, "r")
	state := NewState()
	for i := range 2000 {
		name := fmt.Sprintf("namespace-of-a-long-name-as-they-are-in-large-clusters-%05d", i)
		state.PutNamespace(NamespaceMeta{Name: name, UID: types.UID(name), Live: true})
		secret.Updated = int64(i)
		state.PutSecret(name, secret)
		for a := range 2 {
			state.PutAccount(name, Account{Name: fmt.Sprintf("account-%d", a), Version: 1, Secrets: []string{"tcr.ipsr"}, Updated: int64(i)})
		}
		state.SetProblems(name, Whole(), []Problem{{"r", false, v1.Failure{NamespacedName: name + "/x", Reason: "Forbidden", Message: "a message of some length that says what is wrong and how to mend it"}}})
	}
	status := Summarize(rules.Get("r"), state, v1.ImagePullSecretStatus{}, time.Unix(1_800_000_000, 0))
	assert.EqualValues(t, 2000, status.SecretsSuccess, "counts are exact")
	assert.EqualValues(t, 4000, status.SAsSuccess)
	assert.Len(t, status.SecretUpdateSuccessful, maxUpdates)
	assert.Len(t, status.ServiceAccountsModifySuccessful, maxUpdates)
	assert.Len(t, status.Failures, maxFailures)
	assert.Contains(t, status.SecretUpdateSuccessful[0].NamespacedName, "01999", "the newest stand first")
	encoded, err := json.Marshal(status)
	require.NoError(t, err)
	assert.Less(t, len(encoded), 100_000)
}
