package rotation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const day = 24 * time.Hour

// home is where the demo's tokens are.
var home = Place{Instance: guangz, LongTerm: true}

// stored returns the demo's record with some tokens, and a listing that knows them.
func stored(at time.Time, tokens ...Token) (Record, map[Instance]Listing) {
	record := Record{UID: uid, Name: "demo", Places: []Place{home}, Tokens: tokens}
	listing := Listing{At: at}
	for _, token := range tokens {
		record.Last = max(record.Last, token.Serial)
		if token.ID != "" {
			listing.Tokens = append(listing.Tokens, Listed{
				token.ID, cluster.Describe("demo", uid), token.Disabled.IsZero(), token.Created, token.Expires,
			})
		}
	}
	return record, map[Instance]Listing{guangz: listing}
}

func longTerm(serial int, created time.Time) Token {
	return Token{
		Serial: serial, Kind: LongTerm, Instance: guangz, ID: fmt.Sprint("id", serial), Username: "user", Password: fmt.Sprint("secret", serial),
		Created: created, Expires: created.AddDate(10, 0, 0),
	}
}

func (t Token) replaced(at time.Time) Token { t.Replaced = at; return t }
func (t Token) disabled(at time.Time) Token { t.Disabled = at; return t }

// TestRotation goes through the life of a token that is issued for 90 days.
func TestRotation(t *testing.T) {
	t.Parallel()
	policy := demo(90 * day)
	create := Create{home, LongTerm, "TKE cluster (cls-abcdefgh) dedicated access credential, ImagePullSecret demo, " + uid}
	first, second := longTerm(1, noon), longTerm(2, noon.Add(90*day))
	old := first.replaced(noon.Add(91 * day))
	for _, test := range []struct {
		name   string
		tokens []Token
		held   int
		now    time.Duration // since noon
		listed time.Duration // how long ago
		want   []Action
		issue  int
		again  time.Duration
	}{
		{"without a token, one is created", nil, 0, 0, 0, []Action{create}, 0, day},
		{"but not by an old listing", nil, 0, 0, time.Minute, []Action{List{home}}, 0, day - time.Minute},
		{"what is stored is issued", []Token{first}, 0, time.Second, 0, nil, 1, day + time.Second},
		{"it stays until it is due", []Token{first}, 1, 90*day - time.Hour, 0, nil, 1, 90 * day},
		{"then another is created", []Token{first}, 1, 90 * day, 0, []Action{create}, 1, 91 * day},
		{"even where not every Secret has the first", []Token{first}, 0, 90 * day, 0, []Action{create}, 1, 91 * day},
		{"the new one is issued, the old one stays", []Token{first, second}, 0, 90*day + time.Second, 0, nil, 2, 91*day + time.Second},
		{"and stays as long as one Secret has it", []Token{first, second}, 0, 179 * day, 0, nil, 2, 180 * day},
		{"a third is not created", []Token{first, second}, 0, 180 * day, 0, nil, 2, 181 * day},
		{"when every Secret has the new one is stored", []Token{first, second}, 2, 91 * day, 0, nil, 2, 0},
		{"running pulls have a day", []Token{old, second}, 2, 92*day - time.Second, 0, nil, 2, 92 * day},
		{"then the old one is disabled", []Token{old, second}, 2, 92 * day, 0, []Action{Disable{home, "id1"}}, 2, 93 * day},
		{"but not where a Secret was restored", []Token{old, second}, 0, 92 * day, 0, nil, 2, 93 * day},
		{"a disabled one stays for a week", []Token{old.disabled(noon.Add(92 * day)), second}, 2, 98 * day, 0, nil, 2, 99 * day},
		{"then it is deleted", []Token{old.disabled(noon.Add(92 * day)), second}, 2, 99 * day, 0, []Action{Delete{home, "id1"}}, 2, 100 * day},
		{"once a day is looked whether all is well", []Token{first}, 1, 10 * day, day, []Action{List{home}}, 1, 90 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			now := noon.Add(test.now)
			record, listings := stored(now.Add(-test.listed), test.tokens...)
			decision := Plan(State{cluster, policy, record, listings, nil, test.held, now})
			if test.again == 0 {
				want := record.clone()
				want.Tokens[0].Replaced = now
				assert.Equal(t, []Action{Store{want}}, decision.Actions)
				return
			}
			assert.Equal(t, test.want, decision.Actions)
			issue := 0
			if decision.Issue != nil {
				issue = decision.Issue.Serial
			}
			assert.Equal(t, test.issue, issue)
			assert.Equal(t, noon.Add(test.again), decision.Again)
		})
	}
}

func TestBeforeAnythingIsCreatedItIsStoredWhereItWillBe(t *testing.T) {
	t.Parallel()
	decision := Plan(State{Cluster: cluster, Policy: demo(time.Hour), Now: noon})
	assert.Equal(t, Decision{Actions: []Action{Store{Record{UID: uid, Name: "demo", Places: []Place{home}}}}}, decision)
}

func TestHowLongOldTokensStay(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration][2]time.Duration{
		90 * day:    {day, 7 * day},
		2 * day:     {day / 2, day},
		time.Minute: {15 * time.Second, 30 * time.Second},
		0:           {15 * time.Second, 30 * time.Second},
	} {
		policy := Policy{RotateAfter: after}
		assert.Equal(t, want, [2]time.Duration{policy.retirement(), policy.burial()}, after)
	}
	brief := longTerm(1, noon)
	brief.Expires = noon.Add(30 * day)
	assert.Equal(t, noon.Add(15*day), demo(90*day).Due(brief), "one that the cloud lets live for less is replaced at half of its life")
}

func TestTemporaryTokensAreReplacedAtHalfOfTheirLife(t *testing.T) {
	t.Parallel()
	policy := demo(90 * day)
	policy.Kind = Temporary
	place := Place{Instance: guangz}
	token := Token{Serial: 1, Kind: Temporary, Instance: guangz, Created: noon, Expires: noon.Add(time.Hour)}
	record := Record{UID: uid, Name: "demo", Places: []Place{place}, Tokens: []Token{token}, Last: 1}
	state := State{cluster, policy, record, nil, nil, 1, noon.Add(29 * time.Minute)}
	assert.Equal(t, Decision{Issue: &token, Again: noon.Add(30 * time.Minute)}, Plan(state), "and nobody asks for a list of them")
	endless := token
	endless.Expires = noon.AddDate(1000, 0, 0)
	assert.Equal(t, noon.Add(30*time.Minute), policy.Due(endless))
	state.Now = noon.Add(30 * time.Minute)
	assert.Equal(t, []Action{Create{place, Temporary, cluster.Describe("demo", uid)}}, Plan(state).Actions)
	next := record.With(Token{Kind: Temporary, Instance: guangz, Created: state.Now, Expires: state.Now.Add(time.Hour)})
	state.Record = next
	assert.Empty(t, Plan(state).Actions, "the old one stays while a Secret has it")
	state.Held = 2
	next.Tokens = next.Tokens[1:]
	assert.Equal(t, []Action{Store{next}}, Plan(state).Actions)
}

func TestWhatWasCreatedAndNotStored(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon, longTerm(1, noon.Add(-time.Hour)))
	listing := listings[guangz]
	listing.Tokens = append(listing.Tokens, Listed{"lost", cluster.Describe("demo", uid), true, noon, noon.Add(day)})
	listings[guangz] = listing
	state := State{cluster, demo(90 * day), record, listings, nil, 1, noon}
	abandoned := record.With(Token{Kind: LongTerm, Instance: guangz, ID: "lost", Created: noon, Expires: noon.Add(day), Abandoned: true})
	require.Equal(t, []Action{Store{abandoned}}, Plan(state).Actions, "it is stored as abandoned, so that nobody else stores it as their own")
	state.Record = abandoned
	require.Equal(t, []Action{Disable{home, "lost"}}, Plan(state).Actions)
	assert.Equal(t, 1, Plan(state).Issue.Serial)
	listings[guangz] = listings[guangz].Disabled("lost")
	store := Plan(state).Actions[0].(Store)
	assert.Equal(t, noon, store.Record.Tokens[1].Disabled)
	state.Record = store.Record
	require.Equal(t, []Action{Delete{home, "lost"}}, Plan(state).Actions, "no Secret has ever had it: there is nothing to wait for")
	listings[guangz] = listings[guangz].Deleted("lost")
	store = Plan(state).Actions[0].(Store)
	assert.Len(t, store.Record.Tokens, 1)
	assert.Equal(t, 2, store.Record.Last, "serials are not used twice")
}

func TestWhatSomebodyHasDoneByHand(t *testing.T) {
	t.Parallel()
	first := longTerm(1, noon)
	for _, test := range []struct {
		name   string
		change func(Listing) Listing
		at     time.Time
		dead   bool
	}{
		{"a disabled one is replaced", func(l Listing) Listing { return l.Disabled("id1") }, noon.Add(time.Hour), true},
		{"a deleted one is replaced", func(l Listing) Listing { return Listing{At: l.At} }, noon.Add(time.Hour), true},
		{"a list that is older than a token does not know it", func(l Listing) Listing { return Listing{At: l.At} }, noon, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			record, listings := stored(test.at, first)
			listings[guangz] = test.change(listings[guangz])
			state := State{cluster, demo(90 * day), record, listings, nil, 1, test.at}
			decision := Plan(state)
			if !test.dead {
				assert.Empty(t, decision.Actions)
				assert.NotNil(t, decision.Issue)
				return
			}
			require.Len(t, decision.Actions, 1)
			assert.Nil(t, decision.Issue, "the Secrets are left as they are")
			state.Record = decision.Actions[0].(Store).Record
			assert.Contains(t, Plan(state).Actions, Create{home, LongTerm, cluster.Describe("demo", uid)})
		})
	}
}

// TestTokensOfWhichNoExpiryIsTold count as live.
func TestTokensOfWhichNoExpiryIsTold(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon.Add(90*day), longTerm(1, noon), longTerm(2, noon))
	for i := range listings[guangz].Tokens {
		listings[guangz].Tokens[i].Expires = time.Time{}
	}
	assert.Empty(t, Plan(State{cluster, demo(90 * day), record, listings, nil, 0, noon.Add(90 * day)}).Actions)
}

// TestARegistryThatIsCorrectedTwice does not have anybody wait for a day.
func TestARegistryThatIsCorrectedTwice(t *testing.T) {
	t.Parallel()
	other := Place{Instance: beijing, LongTerm: true}
	first, second := longTerm(1, noon).replaced(noon.Add(2*time.Second)), longTerm(2, noon.Add(time.Second))
	second.Instance = beijing
	record, listings := stored(noon.Add(time.Minute), first)
	record.Places, record.Tokens, record.Last = append(record.Places, other), append(record.Tokens, second), 2
	listings[beijing] = Listing{At: noon.Add(time.Minute), Tokens: []Listed{{second.ID, "", true, second.Created, second.Expires}}}
	state := State{cluster, demo(90 * day), record, listings, nil, 2, noon.Add(time.Minute)}
	decision := Plan(state)
	assert.Equal(t, []Action{Disable{home, "id1"}}, decision.Actions, "no Secret holds it")
	assert.Equal(t, 2, decision.Issue.Serial, "the last good one is issued meanwhile")
	state.Held = 0
	assert.Empty(t, Plan(state).Actions, "one may hold it")
	state.Held = 2
	listings[guangz] = listings[guangz].Disabled("id1")
	state.Record = Plan(state).Actions[0].(Store).Record
	assert.Equal(t, []Action{Create{home, LongTerm, cluster.Describe("demo", uid)}}, Plan(state).Actions)
}

func TestObjectsThatAreGone(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon, longTerm(1, noon.Add(-time.Hour)), longTerm(2, noon).disabled(noon))
	state := State{Cluster: cluster, Record: record, Listings: listings, Now: noon}
	assert.Equal(t, []Action{Disable{home, "id1"}, Delete{home, "id2"}}, Plan(state).Actions)
	listings[guangz] = listings[guangz].Disabled("id1").Deleted("id2")
	assert.Equal(t, []Action{Delete{home, "id1"}}, Plan(state).Actions)
	listings[guangz] = listings[guangz].Deleted("id1")
	assert.Equal(t, []Action{Forget{}}, Plan(state).Actions)
	listings[guangz] = Listing{At: noon, Gone: true}
	assert.Equal(t, []Action{Forget{}}, Plan(state).Actions, "the registry is gone, too")
	state.Listings = nil
	assert.Equal(t, []Action{List{home}}, Plan(state).Actions)
	state.Record.Keep = true
	assert.Equal(t, []Action{Forget{}}, Plan(state).Actions)
	assert.Equal(t, Decision{}, Plan(State{Now: noon}))
}

func TestRecordsAreStored(t *testing.T) {
	t.Parallel()
	record, _ := stored(noon, longTerm(1, noon).replaced(noon), longTerm(3, noon))
	record.Places[0].Key = "cam"
	data := Encode(record)
	decoded, err := Decode(data)
	require.NoError(t, err)
	assert.True(t, record.equal(decoded))
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "secret1", "half of it": string(data[:len(data)/2]),
		"a later format":       strings.Replace(string(data), `"format":1`, `"format":2`, 1),
		"serials in disorder":  strings.Replace(string(data), `"serial":1`, `"serial":3`, 1),
		"serials from nowhere": strings.Replace(string(data), `"last":3`, `"last":2`, 1),
		"nobody's":             strings.Replace(string(data), uid, "", 1),
	} {
		_, err := Decode([]byte(text))
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestNothingPrintsAPassword(t *testing.T) {
	t.Parallel()
	record, listings := stored(noon, longTerm(1, noon))
	decision := Plan(State{cluster, demo(day), record, listings, nil, 0, noon})
	var printed bytes.Buffer
	for _, value := range []any{record, decision, *decision.Issue, Store{record}} {
		fmt.Fprintf(&printed, "%v %+v %#v\n", value, value, value)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("x", "value", value)
		slog.New(slog.NewTextHandler(&printed, nil)).Info("x", "value", value)
		text, err := json.Marshal(value)
		require.NoError(t, err)
		printed.Write(text)
	}
	assert.NotContains(t, printed.String(), "secret1")
}

func TestDescriptions(t *testing.T) {
	t.Parallel()
	unnamed := Cluster{UID: cluster.UID}
	assert.Equal(t, "TKE cluster ("+cluster.UID+") dedicated access credential, ImagePullSecret demo, "+uid, unnamed.Describe("demo", uid))
	long := cluster.Describe(strings.Repeat("n", 246), uid)
	assert.LessOrEqual(t, len(long), 255)
	assert.True(t, cluster.owns(long, uid))
	assert.True(t, cluster.owns(unnamed.Describe("demo", uid), uid), "it was made before the cluster's id was known")
	assert.False(t, unnamed.owns(cluster.Describe("demo", uid), uid), "it may be another's")
	assert.False(t, cluster.owns(cluster.Describe("demo", ""), ""))
}

func TestASpareToken(t *testing.T) {
	t.Parallel()
	other := cluster.Describe("other", "33333333-3333-4333-8333-333333333333")
	tokens := []Listed{
		{ID: "in use", Description: other, Enabled: true, Created: noon}, {ID: "by hand", Description: "x", Created: noon},
		{ID: "another's", Description: Cluster{ID: "cls-another0"}.Describe("other", uid), Created: noon},
		{ID: "new", Description: other, Created: noon.Add(2 * day)},
		{ID: "old", Description: cluster.Describe("demo", uid), Created: noon.Add(day)},
	}
	spare, found := cluster.Spare(tokens)
	assert.True(t, found)
	assert.Equal(t, "old", spare.ID)
	_, found = cluster.Spare(tokens[:3])
	assert.False(t, found, "what lets somebody in stays, and what is another's")
	_, found = Cluster{}.Spare([]Listed{{Description: Cluster{}.Describe("demo", uid)}})
	assert.False(t, found)
}
