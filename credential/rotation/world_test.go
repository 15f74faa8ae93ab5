package rotation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	noon    = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	cluster = Cluster{ID: "cls-abcdefgh", UID: "11111111-1111-4111-8111-111111111111"}
	guangz  = Instance{"ap-guangzhou", "tcr-demo0001"}
	beijing = Instance{"ap-beijing", "tcr-demo0002"}
)

const uid = "22222222-2222-4222-8222-222222222222"

// cloudToken is a long-term token as the cloud has it.
type cloudToken struct {
	Listed
	instance Instance
	foreign  bool
}

// world is all that there is outside of the process that leads: it outlives it.
type world struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Time
	tokens  []*cloudToken
	made    int
	policy  *Policy
	stored  *Record
	version int
	secrets [3]Token
	// faults is how often of 100 times something goes wrong.
	faults int
	// meddled says that somebody has disabled or deleted tokens by hand.
	meddled bool
	leader  leader
	late    late
}

// late is what a process has decided that has lost its lead, and does nonetheless.
type late struct {
	actions []Action
	version int
}

// leader is what a process knows, which ends with it.
type leader struct {
	listings map[Instance]Listing
}

var errFault = errors.New("no answer")

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 17)), now: noon, leader: leader{listings: map[Instance]Listing{}}}
	for i, description := range []string{
		"made by hand", Cluster{ID: "cls-another0"}.Describe("demo", uid), cluster.Describe("other", "33333333-3333-4333-8333-333333333333"),
		"x" + cluster.Describe("demo", uid),
	} {
		w.tokens = append(w.tokens, &cloudToken{
			Listed{fmt.Sprint("foreign", i), description, true, noon, noon.AddDate(10, 0, 0)}, guangz, true,
		})
	}
	return w
}

func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

// crash ends the process that leads, and starts another.
func (w *world) crash() { w.leader = leader{listings: map[Instance]Listing{}} }

// held returns the serial that all Secrets hold. One that is stored no more is not recognized.
func (w *world) held() int {
	for _, secret := range w.secrets {
		stored := w.stored != nil && slices.ContainsFunc(w.stored.Tokens, func(token Token) bool {
			return token.Serial == secret.Serial && token.Password == secret.Password
		})
		if secret.Serial != 0 && !stored {
			return Strange
		}
	}
	for _, secret := range w.secrets {
		if secret.Serial != w.secrets[0].Serial {
			return 0
		}
	}
	return w.secrets[0].Serial
}

// lose has the record be deleted by hand. Nobody would look for tokens elsewhere. Where there are two, either may be the one that Secrets
// hold.
func (w *world) lose() {
	if w.policy.Kind != LongTerm || slices.ContainsFunc(w.tokens, func(token *cloudToken) bool {
		return !token.foreign && token.instance != w.policy.Instance
	}) {
		return
	}
	if _, live := w.ours(); live > 1 {
		w.meddled = true
	}
	w.stored = nil
	w.version++
	w.faults = 0
	w.step() // before it names another registry
}

func (w *world) plan() Decision {
	record := Record{}
	if w.stored != nil {
		record = *w.stored
	}
	listings := map[Instance]Listing{}
	for instance, listing := range w.leader.listings {
		listings[instance] = listing
	}
	return Plan(State{cluster, w.policy, record, listings, nil, w.held(), w.now})
}

// step decides once, and does what was decided, as far as the world lets it.
func (w *world) step() (busy bool) {
	decision := w.plan()
	version := w.version
	if decision.Issue != nil {
		for i := range w.secrets {
			if w.secrets[i].Password != decision.Issue.Password && !w.chance(w.faults) {
				w.issue(i, *decision.Issue)
				busy = true
			}
		}
	}
	for i, action := range decision.Actions {
		if w.chance(w.faults / 4) {
			w.late = late{decision.Actions[i:], version}
			w.crash()
			return true
		}
		if err := w.do(action, version); err != nil {
			if _, isStore := action.(Store); isStore {
				break
			}
		}
		w.check()
	}
	return busy || len(decision.Actions) > 0
}

// finish lets a process that has lost its lead do what it had decided.
func (w *world) finish() {
	for _, action := range w.late.actions {
		switch action.(type) {
		case Store, Disable, Delete, Forget:
			_ = w.do(action, w.late.version)
			w.check()
		}
	}
	w.late.actions = nil
}

// issue writes a Secret. Nothing is issued that is not stored.
func (w *world) issue(i int, token Token) {
	require.NotNil(w.t, w.stored)
	require.True(w.t, slices.ContainsFunc(w.stored.Tokens, func(stored Token) bool {
		return stored.Serial == token.Serial && stored.Password == token.Password
	}), "issued and not stored")
	require.False(w.t, token.Abandoned)
	w.secrets[i] = token
}

func (w *world) do(action Action, version int) error {
	lost := w.chance(w.faults)
	if lost && w.chance(50) {
		return w.failed(action) // it did not arrive
	}
	switch action := action.(type) {
	case List:
		listing := Listing{At: w.now}
		w.now = w.now.Add(time.Millisecond)
		for _, token := range w.tokens {
			if token.instance == action.Place.Instance {
				listing.Tokens = append(listing.Tokens, token.Listed)
			}
		}
		if !lost {
			w.leader.listings[action.Place.Instance] = listing
		}
	case Store:
		if version != w.version {
			return errFault
		}
		w.store(action.Record)
	case Forget:
		if version != w.version {
			return errFault
		}
		w.stored = nil
		w.version++
	case Create:
		return w.create(action, version, lost)
	case Disable:
		token := w.find(action.Place.Instance, action.ID)
		if token != nil {
			w.mayDisable(token)
			token.Enabled = false
		}
		if !lost {
			w.leader.listings[action.Place.Instance] = w.leader.listings[action.Place.Instance].Disabled(action.ID)
		}
	case Delete:
		token := w.find(action.Place.Instance, action.ID)
		if token != nil {
			require.False(w.t, token.foreign)
			require.False(w.t, token.Enabled, "deleted and not disabled")
			w.remove(token)
		}
		if !lost {
			w.leader.listings[action.Place.Instance] = w.leader.listings[action.Place.Instance].Deleted(action.ID)
		}
	}
	if lost {
		return w.failed(action)
	}
	return nil
}

func (w *world) failed(action Action) error {
	if create, is := action.(Create); is {
		delete(w.leader.listings, create.Place.Instance)
	}
	return errFault
}

// store stores a record in a form that passes through a Secret.
func (w *world) store(record Record) {
	decoded, err := Decode(Encode(record))
	require.NoError(w.t, err)
	require.True(w.t, record.equal(decoded), "it is stored as it is")
	w.stored = &decoded
	w.version++
}

// create creates a token, and stores it, unless the answer or the process is lost in between.
func (w *world) create(action Create, version int, lost bool) error {
	w.made++
	token := Token{
		Kind: action.Kind, Instance: action.Place.Instance, Username: "user", Password: fmt.Sprint("secret", w.made),
		Created: w.now, Expires: w.now.AddDate(10, 0, 0),
	}
	if action.Kind == LongTerm {
		require.Contains(w.t, w.stored.Places, action.Place, "made where nobody will look for it")
		token.ID = fmt.Sprint("id", w.made)
		w.tokens = append(w.tokens, &cloudToken{
			Listed{token.ID, action.Description, true, w.now, token.Expires}, token.Instance, false,
		})
	} else {
		token.Expires = w.now.Add(time.Hour)
	}
	delete(w.leader.listings, action.Place.Instance)
	w.now = w.now.Add(time.Millisecond)
	switch {
	case lost:
		return errFault
	case w.chance(w.faults / 2):
		w.crash() // created and not stored
		return errFault
	case version != w.version:
		return errFault
	}
	w.store(w.stored.With(token))
	return nil
}

func (w *world) find(instance Instance, id string) *cloudToken {
	for _, token := range w.tokens {
		if token.instance == instance && token.ID == id {
			return token
		}
	}
	return nil
}

func (w *world) remove(gone *cloudToken) {
	for i, token := range w.tokens {
		if token == gone {
			w.tokens = append(w.tokens[:i:i], w.tokens[i+1:]...)
			return
		}
	}
}

// mayDisable is the law that matters most.
func (w *world) mayDisable(token *cloudToken) {
	require.False(w.t, token.foreign, "another's token")
	if w.policy == nil {
		return
	}
	if _, found := w.stored.Current(w.now); !found && w.meddled {
		return // nothing can be done for whoever restores a Secret that is old
	}
	for _, secret := range w.secrets {
		require.False(w.t, secret.ID == token.ID && secret.Instance == token.instance, "a Secret holds %s, which is disabled", token.ID)
	}
}

// ours returns the object's tokens in the cloud.
func (w *world) ours() (all, live int) {
	for _, token := range w.tokens {
		if !token.foreign {
			all++
			if token.Enabled {
				live++
			}
		}
	}
	return all, live
}

// check holds the laws that are always true.
func (w *world) check() {
	_, live := w.ours()
	require.LessOrEqual(w.t, live, 2, "more live tokens than there may be")
	for i, token := range w.tokens[:4] {
		require.Equal(w.t, fmt.Sprint("foreign", i), token.ID)
		require.True(w.t, token.Enabled)
	}
	if w.policy == nil || w.meddled {
		return
	}
	for _, secret := range w.secrets {
		if secret.ID == "" {
			continue
		}
		token := w.find(secret.Instance, secret.ID)
		require.NotNil(w.t, token, "a Secret holds a token that is deleted")
		require.True(w.t, token.Enabled, "a Secret holds a token that is disabled")
	}
}

// meddle is what a user does in the cloud's console, or by restoring a Secret from a backup.
func (w *world) meddle() {
	if w.chance(50) && w.stored != nil && len(w.stored.Tokens) > 0 {
		w.meddled = true
		if old := w.stored.Tokens[w.random.IntN(len(w.stored.Tokens))]; !old.Abandoned {
			w.secrets[w.random.IntN(len(w.secrets))] = old
		}
		return
	}
	token := w.tokens[w.random.IntN(len(w.tokens))]
	if token.foreign {
		return
	}
	w.meddled = true
	if w.chance(50) {
		token.Enabled = false
	} else {
		w.remove(token)
	}
}

// pass lets time go by.
func (w *world) pass() {
	switch w.random.IntN(6) {
	case 0:
		w.now = w.now.Add(time.Duration(w.random.Int64N(int64(3 * w.policy.RotateAfter / 2))))
	case 1:
		w.now = w.now.Add(time.Hour)
	default:
		w.now = w.now.Add(time.Duration(w.random.IntN(20)) * time.Second)
	}
}

// settle lets the world be at peace until nothing is left to do, or until a condition holds, from one time to the next.
func (w *world) settle(done func() bool) bool {
	w.faults = 0
	for range 5000 {
		busy := w.step()
		if done() {
			return true
		}
		if busy {
			continue
		}
		again := w.plan().Again
		if again.IsZero() {
			return done()
		}
		require.True(w.t, again.After(w.now), "nothing to do, and yet again at once")
		w.now = again
	}
	return false
}
