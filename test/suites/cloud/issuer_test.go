package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const uid = "22222222-2222-4222-8222-222222222222"

// memory is a store that a process may end before, and after, it has stored.
type memory struct {
	record  rotation.Record
	version int
	failing func() error
}

func (r *memory) Load(context.Context, string) (rotation.Record, string, error) {
	if r.record.UID == "" {
		return rotation.Record{}, "", nil
	}
	return r.record, fmt.Sprint(r.version), nil
}

func (r *memory) Store(_ context.Context, record rotation.Record, version string) error {
	if r.failing != nil {
		if err := r.failing(); err != nil {
			return err
		}
	}
	if _, current, _ := r.Load(context.Background(), ""); version != current {
		return issuer.ErrConflict
	}
	stored, err := rotation.Decode(rotation.Encode(record))
	if err != nil {
		return err
	}
	r.record = stored
	r.version++
	return nil
}

func (r *memory) Forget(_ context.Context, _, version string) error {
	if _, current, _ := r.Load(context.Background(), ""); version != current {
		return issuer.ErrConflict
	}
	r.record = rotation.Record{}
	r.version++
	return nil
}

// object is an ImagePullSecret with a few Secrets, and time that passes as it is told.
type object struct {
	*world
	records *memory
	policy  *rotation.Policy
	now     time.Time
	secrets [3]rotation.Token
	issuer  *issuer.Issuer
}

func newObject(w *world) *object {
	o := &object{world: w, records: &memory{}, now: time.Now(), policy: &rotation.Policy{
		UID: uid, Name: "demo", Instance: rotation.Instance{Region: region, ID: demo}, Kind: rotation.LongTerm, RotateAfter: time.Hour,
	}}
	o.restart()
	return o
}

// restart begins anew, as after the end of a process.
func (o *object) restart() {
	o.issuer = &issuer.Issuer{
		Cluster: rotation.Cluster{ID: "cls-abcdefgh", UID: "11111111-1111-4111-8111-111111111111"}, Records: o.records,
		Registry: func(place rotation.Place) (issuer.Registry, error) {
			caller := o.client.GivenCaller(o.key.SecretID, o.key.SecretKey, "x")
			return o.client.Registry(caller, place.Region, place.ID), nil
		},
		Now: func() time.Time { o.now = o.now.Add(time.Millisecond); return o.now },
	}
}

func (o *object) held(rotation.Record) int {
	for _, secret := range o.secrets {
		if secret.Serial != o.secrets[0].Serial {
			return 0
		}
	}
	return o.secrets[0].Serial
}

// sync brings it to rest as far as that is possible now, and writes the Secrets, as far as so many of 100 are written.
func (o *object) sync(written int) (issuer.Outcome, error) {
	outcome, err := o.issuer.Sync(o.t.Context(), uid, o.policy, o.held)
	if outcome.Issue != nil {
		for i := range o.secrets {
			if rand.IntN(100) < written {
				o.secrets[i] = *outcome.Issue
			}
		}
	}
	return outcome, err
}

// pull logs in with what each Secret holds.
func (o *object) pull() {
	o.t.Helper()
	for _, secret := range o.secrets {
		if secret.Serial != 0 {
			require.True(o.t, o.Check(secret.Username, secret.Password), "refused with token %d", secret.Serial)
		}
	}
}

func (o *object) live() int {
	live := 0
	for _, token := range o.Tokens(demo) {
		if token.Enabled {
			live++
		}
	}
	return live
}

func TestTheFirstTokenTakesFourCalls(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	outcome, err := o.sync(100)
	require.NoError(t, err)
	require.NotNil(t, outcome.Issue)
	o.pull()
	var actions []string
	for _, call := range o.Calls() {
		actions = append(actions, call.Action)
	}
	assert.Equal(t, []string{"DescribeInstances", "DescribeInstanceToken", "CreateInstanceToken", "DescribeInstanceToken"}, actions)
	assert.NotEmpty(t, outcome.Domain)
	assert.Equal(t, o.records.record.Places[0].Domain, outcome.Domain)
	assert.Equal(t, "TKE cluster (cls-abcdefgh) dedicated access credential, ImagePullSecret demo, "+uid, o.Tokens(demo)[0].Description)
	before := len(o.Calls())
	for range 5 {
		_, err = o.sync(100)
		require.NoError(t, err)
	}
	assert.Len(t, o.Calls(), before, "nothing is asked while nothing is due")
}

// TestNobodyIsRefusedWhileTokensAreRotated goes through twenty rotations in a bad network, with processes that end in the middle.
func TestNobodyIsRefusedWhileTokensAreRotated(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, action := range []string{"DescribeInstanceToken", "CreateInstanceToken", "ModifyInstanceToken", "DeleteInstanceToken"} {
		w.SetRate(action, 10000)
	}
	foreign, err := w.registry().CreateLongTermToken(t.Context(), "somebody's")
	require.NoError(t, err)
	o := newObject(w)
	killed := errors.New("the process has ended")
	o.records.failing = func() error {
		if rand.IntN(100) < 15 {
			return killed
		}
		return nil
	}
	failures := []standin.Failure{
		{Lost: true}, {Cut: true}, {Refused: true}, {Status: 502, Echo: true}, {Code: "RequestLimitExceeded"}, {Code: "InternalError.DbError"},
	}
	seen := map[string]bool{}
	for step := 0; len(seen) <= 20; step++ {
		require.Less(t, step, 5000, "it goes on")
		if rand.IntN(100) < 30 {
			w.Fail("*", 1, failures[rand.IntN(len(failures))])
		}
		_, err := o.sync(60)
		if errors.Is(err, killed) {
			o.restart()
		} else if err != nil {
			w.keepsSecrets(err)
		}
		o.pull()
		require.LessOrEqual(t, o.live(), 3, "two of the object and one of somebody")
		if id := o.secrets[0].ID; id != "" {
			seen[id] = true
		}
		o.now = o.now.Add(time.Duration(rand.IntN(8)) * time.Minute)
	}
	w.Recover()
	o.records.failing = nil

	o.policy = nil
	_, err = o.sync(0)
	require.NoError(t, err)
	assert.Empty(t, o.records.record.UID)
	left := w.Tokens(demo)
	require.Len(t, left, 1, "what is somebody's is left")
	assert.Equal(t, foreign.ID, left[0].ID)
	for _, secret := range o.secrets {
		assert.False(t, w.Check(secret.Username, secret.Password), "what the object had is refused")
	}
}

func TestFailuresLeaveWhatIsIssued(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	_, err := o.sync(100)
	require.NoError(t, err)
	o.SetPolicy(o.key.SecretID)
	o.now = o.now.Add(time.Hour)
	outcome, err := o.sync(100)
	assert.Equal(t, tencentcloud.Unauthorized, o.failure(err).Reason)
	assert.NotNil(t, outcome.Issue, "the last good one")
	o.pull()
}

func TestRegistriesThatAreGone(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	_, err := o.sync(100)
	require.NoError(t, err)
	o.RemoveRegistry(demo)
	o.restart()
	o.now = o.now.Add(time.Hour)
	_, err = o.sync(100)
	assert.Equal(t, tencentcloud.InstanceNotFound, o.failure(err).Reason, "it is the one that is asked for")
	o.policy = nil
	_, err = o.sync(0)
	require.NoError(t, err)
	assert.Empty(t, o.records.record.UID, "nothing is left to be revoked")
}

func TestTemporaryTokensNeedOneCall(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	o.policy.Kind = rotation.Temporary
	for _, passes := range []time.Duration{31 * time.Minute, 15 * time.Minute, 0} {
		_, err := o.sync(100)
		require.NoError(t, err)
		o.pull()
		o.now = o.now.Add(passes)
	}
	assert.Equal(t, 3, o.Count("CreateInstanceToken"))
	assert.Len(t, o.Calls(), 4, "and the registry's name is asked for once")
	assert.Len(t, o.records.record.Tokens, 2, "the one before goes when every Secret has the new one")
	_, err := o.sync(100)
	require.NoError(t, err)
	assert.Len(t, o.records.record.Tokens, 1)
	o.policy = nil
	_, err = o.sync(0)
	require.NoError(t, err)
	assert.Empty(t, o.records.record.UID)
}

func TestTokensThatHaveExpiredBeforeTheyCome(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	o.policy.Kind = rotation.Temporary
	o.now = o.now.Add(2 * time.Hour)
	_, err := o.sync(100)
	require.ErrorContains(t, err, "it has expired by this machine's clock")
	assert.Equal(t, 1, o.Count("CreateInstanceToken"))
}

func TestARevocationOfWhichNobodyHeard(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	_, err := o.sync(100)
	require.NoError(t, err)
	o.policy = nil
	for _, action := range []string{"ModifyInstanceToken", "DeleteInstanceToken"} {
		o.Fail(action, 1, standin.Failure{Lost: true})
		_, err = o.sync(0)
		assert.Equal(t, tencentcloud.NoRoute, o.failure(err).Reason)
	}
	outcome, err := o.sync(0)
	require.NoError(t, err)
	assert.NotEmpty(t, o.records.record.UID, "a list may lag behind the creation")
	o.now = outcome.Again
	_, err = o.sync(0)
	require.NoError(t, err)
	assert.Empty(t, o.records.record.UID)
}

// TestARecordThatSomebodyElseHasStored gives up the token that was created on the old one, and revokes it.
func TestARecordThatSomebodyElseHasStored(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	o.records.failing = func() error {
		if o.Count("CreateInstanceToken") == 1 && len(o.records.record.Tokens) == 0 {
			o.records.failing = nil
			o.records.version++
		}
		return nil
	}
	outcome, err := o.sync(100)
	require.NoError(t, err)
	assert.Equal(t, 2, o.Count("CreateInstanceToken"))
	o.pull()
	tokens := o.Tokens(demo)
	require.Len(t, tokens, 1, "the other one is deleted: no Secret has ever had it")
	assert.Equal(t, tokens[0].ID, outcome.Issue.ID)
}
