package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

func TestState(t *testing.T) {
	t.Run("the echo of our own write is no news", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		assert.False(t, state.PutSecret("a", Secret{Name: "s", Version: 5}).Empty())
		assert.True(t, state.PutSecret("a", Secret{Name: "s", Version: 5}).Empty())
	})
	t.Run("a late event does not undo what is newer", func(t *testing.T) {
		state := NewState()
		state.PutAccount("a", Account{Name: "x", Version: 9, Secrets: []string{"new"}})
		assert.False(t, state.PutAccount("a", Account{Name: "x", Version: 8}))
		assert.False(t, state.RemoveAccount("a", "x", 8))
		view, _ := state.View("a")
		assert.Equal(t, []string{"new"}, view.Accounts[0].Secrets)
		assert.True(t, state.RemoveAccount("a", "x", 10))
	})
	t.Run("what a new namespace of the same name holds survives the end of the old one", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		state.PutAccount("a", Account{Name: "x", Version: 20}) // of the new one, whose own event is still on its way
		state.RemoveNamespace("a")
		changed, another := state.PutNamespace(NamespaceMeta{Name: "a", UID: "3", Live: true})
		assert.True(t, changed)
		assert.False(t, another, "the end of the one before was seen")
		view, _ := state.View("a")
		assert.Len(t, view.Accounts, 1)
	})
	t.Run("of a namespace that is gone nothing is kept", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		state.PutAccount("a", Account{Name: "x", Version: 1})
		state.PutSecret("a", Secret{Name: "s", Version: 1})
		state.RemoveAccount("a", "x", 2)
		state.RemoveNamespace("a")
		state.RemoveSecret("a", "s", 3)
		assert.Empty(t, state.namespaces)
	})
	t.Run("a relist brings what was missed and removes what is gone, but nothing that was written since", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		state.PutNamespace(NamespaceMeta{Name: "b", UID: "2", Live: true})
		state.PutSecret("a", Secret{Name: "s", Version: 5})
		state.PutSecret("b", Secret{Name: "s", Version: 30})
		assert.ElementsMatch(t, []string{"a", "c"}, state.ReplaceSecrets("s", map[string][]Secret{"c": {{Name: "s", Version: 7}}}, latest.Relist{Version: 20}))
		assert.True(t, state.Watched("s"))
		_, found := mustView(t, state, "a").Secret("s")
		assert.False(t, found)
		_, found = mustView(t, state, "b").Secret("s")
		assert.True(t, found)
		state.PutAccount("a", Account{Name: "old", Version: 5})
		state.PutAccount("a", Account{Name: "young", Version: 30})
		assert.ElementsMatch(t, []string{"a", "b"}, state.ReplaceAccounts(map[string][]Account{"b": {{Name: "x", Version: 9}}}, latest.Relist{Version: 20}))
		assert.Equal(t, "young", mustView(t, state, "a").Accounts[0].Name)
		changed, gone := state.ReplaceNamespaces([]NamespaceMeta{{Name: "a", UID: "1", Live: true}, {Name: "b", UID: "2", Live: false}})
		assert.Equal(t, []string{"b"}, changed)
		assert.Empty(t, gone)
	})
	t.Run("a problem keeps its beginning for as long as it lasts", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		problem := Problem{ImagePullSecret: "r", Failure: v1.Failure{NamespacedName: "a/s", Reason: "Forbidden"}}
		assert.True(t, changes(state, []Problem{problem}))
		later := problem
		later.Since.Time = later.Since.AddDate(1, 0, 0)
		assert.False(t, changes(state, []Problem{later}))
		assert.True(t, state.Problems("a")[0].Since.IsZero())
		assert.True(t, changes(state, nil))
	})
	t.Run("a name is mentioned as long as a secret of ours or an entry is left", func(t *testing.T) {
		state := NewState()
		state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
		assert.Empty(t, state.Mentioning("s"))
		state.PutSecret("a", Secret{Name: "s", Version: 1})
		assert.Empty(t, state.Mentioning("s"), "someone else's is none of our business")
		state.PutSecret("a", Secret{Name: "s", Version: 2, Managed: true})
		assert.Equal(t, []string{"a"}, state.Mentioning("s"))
		state.ForgetSecrets("s")
		assert.Empty(t, state.Mentioning("s"))
		state.PutAccount("a", Account{Name: "x", Version: 1, Secrets: []string{"s"}})
		assert.Equal(t, []string{"a"}, state.Mentioning("s"))
	})
}

func mustView(t *testing.T, state *State, name string) *Namespace {
	t.Helper()
	view, found := state.View(name)
	require.True(t, found)
	return &view
}

// changes has a namespace a left with these problems, and reports whether that is a change.
func changes(state *State, problems []Problem) bool {
	_, changed := state.SetProblems("a", Whole(), problems)
	return changed
}

func TestManyProblemsKeepNobodyWaiting(t *testing.T) {
	many := func(since int64) []Problem {
		problems := make([]Problem, 100000)
		for i := range problems {
			problems[i] = Problem{fmt.Sprint(i), true, v1.Failure{NamespacedName: "a/default", Reason: "Forbidden", Since: metav1.Unix(since, 0)}}
		}
		return problems
	}
	s := NewState()
	s.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
	began := time.Now()
	assert.True(t, changes(s, many(1)))
	assert.False(t, changes(s, many(2)), "each keeps its time")
	assert.Less(t, time.Since(began), 10*time.Second, "the state is locked meanwhile: a comparison of each with each takes longer")
}
