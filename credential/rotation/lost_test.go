package rotation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestARecordThatIsLost has somebody delete the record, or restore an old one: the token that the Secrets hold is listed, and stored no
// more.
func TestARecordThatIsLost(t *testing.T) {
	t.Parallel()
	in := longTerm(1, noon)
	_, listings := stored(noon.Add(day), in)
	state := State{cluster, demo(90 * day), Record{}, listings, nil, Unseen, noon.Add(day)}
	store := Plan(state).Actions[0].(Store)
	assert.Empty(t, store.Record.Tokens, "it is not known yet whether a Secret holds it")
	state.Held = Strange
	state.Record = Plan(state).Actions[0].(Store).Record
	require.Len(t, state.Record.Tokens, 1)
	decision := Plan(state)
	assert.Equal(t, []Action{Create{home, LongTerm, cluster.Describe("demo", uid)}}, decision.Actions, "what Secrets hold stays")
	assert.Nil(t, decision.Issue, "its password is not known")

	next := longTerm(0, state.Now)
	next.ID = "id2"
	state.Record = state.Record.With(next)
	listing := listings[guangz]
	listing.Tokens = append(listing.Tokens, Listed{"id2", cluster.Describe("demo", uid), true, next.Created, next.Expires})
	listings[guangz] = listing
	for _, held := range []int{Strange, 0, Unseen} {
		state.Held = held
		assert.Empty(t, Plan(state).Actions, held)
		assert.Equal(t, "id2", Plan(state).Issue.ID)
	}
	state.Held = 2
	state.Record = Plan(state).Actions[0].(Store).Record
	assert.Empty(t, Plan(state).Actions, "running pulls have a day")
	state.Now = state.Now.Add(day)
	listing.At = state.Now
	listings[guangz] = listing
	assert.Equal(t, []Action{Disable{home, "id1"}}, Plan(state).Actions)
}

// TestAnOlderRecord does not know the token that came last. Once every Secret has the one that it knows, the other goes.
func TestAnOlderRecord(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon.Add(day), longTerm(1, noon))
	listing := listings[guangz]
	listing.Tokens = append(listing.Tokens, Listed{"id2", cluster.Describe("demo", uid), true, noon, noon.AddDate(10, 0, 0)})
	listings[guangz] = listing
	state := State{cluster, demo(90 * day), record, listings, nil, Strange, noon.Add(day)}
	state.Record = Plan(state).Actions[0].(Store).Record
	assert.Empty(t, Plan(state).Actions)
	state.Held = 1
	store := Plan(state).Actions[0].(Store)
	assert.Equal(t, state.Now, store.Record.Tokens[1].Replaced)
}

// TestTwoThatWereFound leave no room for one that can be issued. The older one goes: it was being replaced.
func TestTwoThatWereFound(t *testing.T) {
	t.Parallel()
	_, listings := stored(noon.Add(day), longTerm(1, noon.Add(-90*day)), longTerm(2, noon))
	state := State{cluster, demo(90 * day), Record{}, listings, nil, Strange, noon.Add(day)}
	state.Record = Plan(state).Actions[0].(Store).Record
	assert.Equal(t, []Action{Disable{home, "id1"}}, Plan(state).Actions)
}

// TestAListThatLags does not have the token that was just created, or was asked for by a process whose clock is ahead of the other's.
func TestAListThatLags(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon.Add(5*time.Minute), longTerm(1, noon))
	listing := Listing{At: noon.Add(5 * time.Minute)}
	listings[guangz] = listing
	state := State{Cluster: cluster, Policy: demo(time.Minute), Record: record, Listings: listings, Held: 1, Now: listing.At}
	decision := Plan(state)
	assert.Equal(t, 1, decision.Issue.Serial, "it is taken for good")
	assert.Equal(t, []Action{Create{home, LongTerm, cluster.Describe("demo", uid)}}, decision.Actions, "there is one")
	state.Record = record.With(longTerm(2, noon.Add(time.Minute)))
	decision = Plan(state)
	assert.Empty(t, decision.Actions, "there are two")
	assert.False(t, decision.Again.After(noon.Add(settling+time.Second)), "it is looked again")

	state.Policy, state.Record = nil, record
	decision = Plan(state)
	assert.Empty(t, decision.Actions, "nothing is forgotten")
	assert.Equal(t, noon.Add(settling+time.Second), decision.Again)
	listings[guangz] = listing.Deleted("id1")
	assert.Equal(t, []Action{Forget{}}, Plan(state).Actions)
}

// TestARegistryThatCannotBeListed any more, and is not the one that is asked for, such as one whose keys are gone, is not waited for.
func TestARegistryThatCannotBeListed(t *testing.T) {
	t.Parallel()
	record, _ := stored(noon, longTerm(1, noon.Add(-time.Hour)))
	policy := demo(90 * day)
	policy.Instance = beijing
	there := Place{Instance: beijing, LongTerm: true}
	record.Places = append(record.Places, there)
	state := State{Cluster: cluster, Policy: policy, Record: record, Listings: map[Instance]Listing{beijing: {At: noon}}, Held: 1, Now: noon}
	assert.Equal(t, []Action{List{home}}, Plan(state).Actions)
	state.Closed = map[Instance]bool{guangz: true}
	assert.Equal(t, []Action{Create{there, LongTerm, cluster.Describe("demo", uid)}}, Plan(state).Actions)
	state.Record = record.With(longTerm(0, noon.Add(-time.Hour)))
	assert.Empty(t, Plan(state).Actions, "there are two that it knows of")
	state.Record, state.Closed, state.Listings = record, map[Instance]bool{beijing: true}, map[Instance]Listing{guangz: {At: noon}}
	assert.NotContains(t, Plan(state).Actions, Create{there, LongTerm, cluster.Describe("demo", uid)}, "it is the one that is asked for")
}
