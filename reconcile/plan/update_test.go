package plan

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// TestLateAnswers puts news in the orders in which they can arrive.
func TestLateAnswers(t *testing.T) {
	secretOf := func(state *State) bool {
		namespace, _ := state.View("a")
		_, found := namespace.Secret("s")
		return found
	}
	begin := func() *State {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		return state
	}
	t.Run("the answer to a creation does not bring back what was deleted meanwhile", func(t *testing.T) {
		state := begin()
		end := state.BeginWrite(ObjectKey{Namespace: "a", Name: "s"})
		state.PutSecret("a", Secret{Name: "s", Version: 100})
		state.RemoveSecret("a", "s", 101)
		assert.True(t, state.PutSecret("a", Secret{Name: "s", Version: 100}).Empty(), "the answer")
		end()
		assert.False(t, secretOf(state))
		assert.False(t, state.PutSecret("a", Secret{Name: "s", Version: 102}).Empty(), "the next one")
	})
	t.Run("nor where the deletion is all that was seen of it", func(t *testing.T) {
		state := begin()
		end := state.BeginWrite(ObjectKey{Namespace: "a", Name: "s"})
		state.RemoveSecret("a", "s", 101)
		assert.True(t, state.PutSecret("a", Secret{Name: "s", Version: 100}).Empty())
		end()
		assert.False(t, secretOf(state))
	})
	t.Run("nor where a relist did not hold it any more", func(t *testing.T) {
		state := begin()
		end := state.BeginWrite(ObjectKey{Namespace: "a", Name: "s"})
		other := state.BeginWrite(ObjectKey{Namespace: "a", Name: "other"})
		state.ReplaceSecrets("s", nil, latest.Relist{Version: 150})
		assert.True(t, state.PutSecret("a", Secret{Name: "s", Version: 100}).Empty())
		assert.False(t, state.PutSecret("a", Secret{Name: "other", Version: 100}).Empty(), "of which the relist says nothing")
		end()
		other()
	})
	t.Run("an account that is made anew while it is written is kept", func(t *testing.T) {
		state := begin()
		end := state.BeginWrite(ObjectKey{Namespace: "a", Account: true, Name: "x"})
		state.RemoveAccount("a", "x", 101)
		assert.False(t, state.PutAccount("a", Account{Name: "x", Version: 100}))
		assert.True(t, state.PutAccount("a", Account{Name: "x", Version: 103}))
		end()
	})
	t.Run("nothing is kept of writes that have ended", func(t *testing.T) {
		state := begin()
		first, second := state.BeginWrite(ObjectKey{Namespace: "a", Name: "s"}), state.BeginWrite(ObjectKey{Namespace: "a", Name: "s"})
		state.RemoveSecret("a", "s", 101)
		first()
		assert.True(t, state.PutSecret("a", Secret{Name: "s", Version: 100}).Empty(), "the other one is still on its way")
		second()
		assert.Empty(t, state.writing)
	})
}

// TestRestored lets the API server go back to an earlier version, as after a backup of its data was restored.
func TestRestored(t *testing.T) {
	state := NewState()
	state.ReplaceNamespaces([]NamespaceMeta{{Name: "a", UID: "1", Live: true}, {Name: "b", UID: "2", Live: true}, {Name: "ghost", UID: "3", Live: true}})
	state.PutSecret("a", Secret{Name: "s", Version: 950, Sum: [32]byte{1}})
	state.PutSecret("ghost", Secret{Name: "s", Version: 990})
	state.PutAccount("a", Account{Name: "x", Version: 980, Secrets: []string{"late"}})

	t.Run("what is there now is taken in, although its version is lower", func(t *testing.T) {
		changed := state.ReplaceSecrets("s", map[string][]Secret{"a": {{Name: "s", Version: 900}}}, latest.Relist{Version: 920, Rewound: true})
		assert.ElementsMatch(t, []string{"a", "ghost"}, changed)
		secret, _ := mustView(t, state, "a").Secret("s")
		assert.EqualValues(t, 900, secret.Version)
		state.ReplaceAccounts(map[string][]Account{"a": {{Name: "x", Version: 800}}}, latest.Relist{Version: 920, Rewound: true})
		assert.Empty(t, mustView(t, state, "a").Accounts[0].Secrets)
	})
	t.Run("also where the API server has come further since than it was", func(t *testing.T) {
		state.PutSecret("a", Secret{Name: "s", Version: 950, Sum: [32]byte{2}})
		state.ReplaceSecrets("s", map[string][]Secret{"a": {{Name: "s", Version: 900}}}, latest.Relist{Version: 1100})
		secret, _ := mustView(t, state, "a").Secret("s")
		assert.EqualValues(t, 900, secret.Version)
	})
	t.Run("a watch that begins only now knows how far the API server had come", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		state.PutSecret("a", Secret{Name: "s", Version: 950})
		later := reflector.Store[*corev1.Secret, Namespaced[Secret]]{
			LastVersion: state.LastVersion(), Strip: StripSecret,
			Replaced: func(all []Namespaced[Secret], at latest.Relist) { state.ReplaceSecrets("s", ByNamespace(all), at) },
		}
		require.NoError(t, later.Replace([]any{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s", ResourceVersion: "900"}}}, "920"))
		secret, _ := mustView(t, state, "a").Secret("s")
		assert.EqualValues(t, 900, secret.Version)
		assert.EqualValues(t, 920, state.LastVersion())
	})
	t.Run("of a namespace that never was nothing is kept", func(t *testing.T) {
		_, gone := state.ReplaceNamespaces([]NamespaceMeta{{Name: "a", UID: "1", Live: true}, {Name: "b", UID: "other", Live: true}})
		assert.ElementsMatch(t, []string{"ghost", "b"}, gone, "of b there is another one")
		assert.NotContains(t, state.namespaces, "ghost")
	})
}

func TestNamespaceMadeAnew(t *testing.T) {
	state := NewState()
	state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
	state.SetProblems("a", Whole(), []Problem{{"r", false, v1.Failure{NamespacedName: "a/s", Reason: "Forbidden"}}})
	changed, another := state.PutNamespace(NamespaceMeta{Name: "a", UID: "2", Live: true})
	assert.True(t, changed)
	assert.True(t, another)
	assert.Empty(t, state.Failures("r"), "what failed in the one before fails no more")
}

// TestTwoWatches has the Secrets of one name watched by themselves, beside the watch of all of ours.
func TestTwoWatches(t *testing.T) {
	begin := func() *State {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		state.ReplaceIssued(map[string][]Secret{"a": {{Name: "s", Version: 5, Managed: true}, {Name: "t", Version: 6, Managed: true}}}, latest.Relist{Version: 10})
		return state
	}
	t.Run("ours are known without it", func(t *testing.T) {
		state := begin()
		assert.True(t, state.Issued("s"))
		assert.True(t, state.Issued("never seen"))
		assert.False(t, state.Watched("s"))
	})
	t.Run("one that lost our label is gone for the watch of ours, and there for its own", func(t *testing.T) {
		state := begin()
		state.ReplaceSecrets("s", map[string][]Secret{"a": {{Name: "s", Version: 12}}}, latest.Relist{Version: 15})
		assert.False(t, state.RemoveIssued("a", "s", 12))
		secret, found := mustView(t, state, "a").Secret("s")
		assert.True(t, found)
		assert.False(t, secret.Managed)
		state.ReplaceIssued(map[string][]Secret{"a": {{Name: "t", Version: 6, Managed: true}}}, latest.Relist{Version: 20})
		_, found = mustView(t, state, "a").Secret("s")
		assert.True(t, found)
	})
	t.Run("a relist of ours says nothing of what others made", func(t *testing.T) {
		state := begin()
		state.ReplaceSecrets("foreign", map[string][]Secret{"a": {{Name: "foreign", Version: 3}}}, latest.Relist{Version: 15})
		assert.Empty(t, state.ReplaceIssued(map[string][]Secret{"a": {{Name: "s", Version: 5, Managed: true}, {Name: "t", Version: 6, Managed: true}}}, latest.Relist{Version: 20}))
		assert.Len(t, mustView(t, state, "a").Secrets, 3)
	})
	t.Run("when its own watch ends, ours stays known and foreign ones are forgotten", func(t *testing.T) {
		state := begin()
		state.ReplaceSecrets("s", map[string][]Secret{"a": {{Name: "s", Version: 5, Managed: true}}, "b": {{Name: "s", Version: 3}}}, latest.Relist{Version: 15})
		state.ForgetSecrets("s")
		_, found := mustView(t, state, "a").Secret("s")
		assert.True(t, found)
		assert.NotContains(t, state.namespaces, "b")
	})
	t.Run("without the watch of ours only names are known", func(t *testing.T) {
		state := begin()
		state.ReplaceSecrets("s", nil, latest.Relist{Version: 15})
		state.UnwatchIssued()
		assert.True(t, state.Issued("s"))
		assert.False(t, state.Issued("t"))
	})
}
