package plan

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gomodules.xyz/jsonpatch/v2"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func issueFoo(password string) IssueSecret {
	rule := &pullsecret.Rule{Name: "foo", Secret: "tcr.ipsfoo", UID: "u"}
	copy(rule.Sum[:], password)
	return IssueSecret{Namespace: "team", Rule: rule}
}

// undone returns a RepairBackoff in which the change was undone and repaired so often, a second apart, and when that ended.
func undone(change Change, repairs int) (*RepairBackoff, time.Time) {
	b, now := NewRepairBackoff(), noon
	b.Wrote(change, now, false)
	for range repairs {
		now = now.Add(time.Second)
		b.Wrote(change, now, false)
	}
	return b, now
}

func TestRepairBackoff(t *testing.T) {
	change := issueFoo("old")

	t.Run("the first write is no repair and the second is", func(t *testing.T) {
		b := NewRepairBackoff()
		assert.Zero(t, b.Wrote(change, noon, false))
		assert.Equal(t, 1, b.Wrote(change, noon.Add(time.Second), false))
	})
	t.Run("the first repairs are made at once", func(t *testing.T) {
		b, now := undone(change, PromptRepairs-1)
		_, _, held := b.Held(change, now)
		assert.False(t, held)
	})
	t.Run("later repairs wait twice as long each time, five minutes at most", func(t *testing.T) {
		b, now := undone(change, PromptRepairs)
		repairs, _, _ := b.Held(change, now)
		assert.Equal(t, noon.Add(time.Second), repairs.since, "since the first repair")
		var delays []time.Duration
		for range 9 {
			_, until, held := b.Held(change, now)
			require.True(t, held)
			delays = append(delays, until.Sub(now))
			now = until
			_, _, held = b.Held(change, now)
			require.False(t, held, "the delay ends when it says")
			b.Wrote(change, now, false)
		}
		s := time.Second
		assert.Equal(t, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s, 300 * s}, delays)
	})
	t.Run("a new password is written at once and repeats nothing", func(t *testing.T) {
		b, now := undone(change, PromptRepairs)
		renewed := issueFoo("new")
		_, _, held := b.Held(renewed, now)
		assert.False(t, held)
		assert.Zero(t, b.Wrote(renewed, now, false))
	})
	t.Run("to add what was removed repeats nothing", func(t *testing.T) {
		edit := func(operation string) EditAccount {
			return EditAccount{Namespace: "team", Name: "robot", Secrets: []string{"tcr.ipsfoo"}, Patch: []jsonpatch.Operation{{Operation: operation}}}
		}
		b := NewRepairBackoff()
		for round := range 4 {
			assert.Zero(t, b.Wrote(edit("add"), noon, false), "round %d", round)
			assert.Zero(t, b.Wrote(edit("remove"), noon, false), "round %d", round)
		}
	})
	t.Run("the delay is over after a quarter of an hour without a repair", func(t *testing.T) {
		b, now := undone(change, 3*PromptRepairs)
		now = now.Add(backoffReset + time.Second)
		_, _, held := b.Held(change, now)
		assert.False(t, held)
		assert.Zero(t, b.Wrote(change, now, false))
	})
	t.Run("objects are told apart", func(t *testing.T) {
		b, now := undone(change, PromptRepairs)
		elsewhere := change
		elsewhere.Namespace = "other"
		account := EditAccount{Namespace: "team", Name: "tcr.ipsfoo", Secrets: []string{"tcr.ipsfoo"}}
		for _, other := range []Change{elsewhere, account, DeleteSecret{Namespace: "team", Name: "tcr.ipsfoo"}} {
			_, _, held := b.Held(other, now)
			assert.False(t, held, other.String())
		}
	})
	t.Run("a namespace that is made anew begins anew", func(t *testing.T) {
		b, now := undone(change, PromptRepairs)
		b.ForgetNamespace("team")
		assert.Zero(t, b.Wrote(change, now, false))
	})
	t.Run("a service account that is made anew begins anew", func(t *testing.T) {
		edit := EditAccount{Namespace: "team", Name: "robot", Secrets: []string{"tcr.ipsfoo"}}
		b, now := undone(edit, PromptRepairs)
		b.ForgetAccount("team", "robot")
		assert.Zero(t, b.Wrote(edit, now, false))
	})
	t.Run("what lasts is forgotten", func(t *testing.T) {
		b, now := undone(change, 1)
		other := change
		other.Namespace = "other"
		b.Wrote(other, now.Add(backoffReset+2*time.Minute), false)
		assert.NotContains(t, b.byNamespace, "team")
		assert.Contains(t, b.byNamespace, "other")
	})
}

func TestRememberedWritesTakeLittleMemory(t *testing.T) {
	const namespaces = 10_000
	var names []string
	for i := range namespaces {
		names = append(names, fmt.Sprint("team-", i))
	}
	b := NewRepairBackoff()
	used := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := used()
	for _, namespace := range names {
		issue := issueFoo("old")
		issue.Namespace = namespace
		b.Wrote(issue, noon, false)
		for _, account := range []string{"default", "builder"} {
			b.Wrote(EditAccount{Namespace: namespace, Name: account, Secrets: []string{"tcr.ipsfoo"}}, noon, false)
		}
	}
	assert.Less(t, int(used()-before)/namespaces, 400, "bytes for a namespace with a Secret and two accounts")
	runtime.KeepAlive(b)
}

func TestContended(t *testing.T) {
	change := issueFoo("old")
	repairs := Repairs{count: 7, since: noon, last: noon.Add(time.Minute)}
	say := func(writer string) Problem {
		problems := Contended(change, repairs, noon.Add(2*time.Minute), Namespace{Name: "team", Secrets: []Secret{{Name: "tcr.ipsfoo", Writer: writer}}})
		require.Len(t, problems, 1)
		return problems[0]
	}
	t.Run("names who writes last", func(t *testing.T) {
		problem := say("argocd-controller")
		assert.Equal(t, "foo", problem.ImagePullSecret)
		assert.Equal(t, "team/tcr.ipsfoo", problem.NamespacedName)
		assert.Equal(t, ReasonContended, problem.Reason)
		assert.True(t, problem.Since.Time.Equal(noon), "since the first repair")
		assert.Equal(t, `"argocd-controller" undoes what is written here: repaired 7 times since 2026-03-01T12:00:00Z, next at 2026-03-01T12:02:00Z. Make it leave this object alone`, problem.Message)
	})
	t.Run("says someone where no field manager is known", func(t *testing.T) {
		assert.Contains(t, say("").Message, "someone undoes what is written here")
	})
}
