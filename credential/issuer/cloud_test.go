package issuer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
)

var (
	noon    = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	guangz  = rotation.Instance{Region: "ap-guangzhou", ID: "tcr-demo0001"}
	beijing = rotation.Instance{Region: "ap-beijing", ID: "tcr-demo0002"}
)

// world is a cloud, a store and a clock. It calls as the Issuer does.
type world struct {
	*Issuer
	now     time.Time
	tokens  map[rotation.Instance][]tencentcloud.Listed
	refused map[rotation.Place]error // by registry and key
	expires time.Time
	made    int
	quota   int // of a registry; 0 for none
	records map[string]rotation.Record
	version int
	storing func(rotation.Record) error // comes before a record is stored
}

func newWorld() *world {
	w := &world{
		now: noon, expires: noon.AddDate(10, 0, 0), records: map[string]rotation.Record{},
		tokens: map[rotation.Instance][]tencentcloud.Listed{}, refused: map[rotation.Place]error{},
	}
	w.Issuer = &Issuer{
		Cluster: rotation.Cluster{ID: "cls-abcdefgh"}, Records: w, Now: func() time.Time { w.now = w.now.Add(time.Millisecond); return w.now },
		Registry: func(place rotation.Place) (Registry, error) {
			return seen{w, place.Instance, w.refused[rotation.Place{Instance: place.Instance, Key: place.Key}]}, nil
		},
	}
	return w
}

func (w *world) Load(_ context.Context, uid string) (rotation.Record, string, error) {
	return w.records[uid], fmt.Sprint(w.version), nil
}

func (w *world) Store(_ context.Context, record rotation.Record, version string) error {
	if w.storing != nil {
		if err := w.storing(record); err != nil {
			return err
		}
	}
	if version != fmt.Sprint(w.version) {
		return ErrConflict
	}
	w.version++
	w.records[record.UID] = record
	return nil
}

func (w *world) Forget(_ context.Context, uid, _ string) error {
	delete(w.records, uid)
	w.version++
	return nil
}

// seen is a registry.
type seen struct {
	*world
	at  rotation.Instance
	err error
}

func (s seen) Domain(context.Context) (string, error) { return "demo.tencentcloudcr.com", nil }

func (s seen) Tokens(context.Context) ([]tencentcloud.Listed, error) {
	if s.err != nil {
		return nil, s.err
	}
	return slices.Clone(s.tokens[s.at]), nil
}

func (s seen) CreateLongTermToken(_ context.Context, description string) (tencentcloud.Token, error) {
	if s.quota > 0 && len(s.tokens[s.at]) >= s.quota {
		return tencentcloud.Token{}, &tencentcloud.Error{Reason: tencentcloud.QuotaExceeded}
	}
	s.made++
	made := tencentcloud.Token{ID: fmt.Sprint("id", s.made), Username: "user", Password: fmt.Sprint("secret", s.made), Expires: s.expires}
	s.tokens[s.at] = append(s.tokens[s.at], tencentcloud.Listed{
		ID: made.ID, Description: description, Enabled: true, Created: s.now, Expires: made.Expires,
	})
	return made, nil
}

func (s seen) CreateTemporaryToken(context.Context) (tencentcloud.Token, error) {
	return tencentcloud.Token{Username: "user", Password: "secret", Expires: s.expires}, nil
}

func (s seen) DisableToken(_ context.Context, id string) error {
	for i := range s.tokens[s.at] {
		if s.tokens[s.at][i].ID == id {
			s.tokens[s.at][i].Enabled = false
		}
	}
	return nil
}

func (s seen) DeleteToken(_ context.Context, id string) error {
	s.tokens[s.at] = slices.DeleteFunc(s.tokens[s.at], func(listed tencentcloud.Listed) bool { return listed.ID == id })
	return nil
}

// sync syncs an object, each of whose Secrets holds a token.
func (w *world) sync(t *testing.T, uid, key string, instance rotation.Instance, held int) (Outcome, error) {
	return w.Sync(t.Context(), uid, &rotation.Policy{
		UID: uid, Name: uid, Instance: instance, Kind: rotation.LongTerm, Key: key, RotateAfter: 90 * 24 * time.Hour,
	}, func(rotation.Record) int { return held })
}

// TestKeysThatSeeNoRegistry are those of another account, which an object names that is deleted. What they were told is not held against
// an object with other keys.
func TestKeysThatSeeNoRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld()
	before, err := w.sync(t, "a", "cam", guangz, 0)
	require.NoError(t, err)
	w.now = w.now.Add(time.Hour)
	for _, key := range []string{"foreign", "cam"} {
		w.records["b"] = rotation.Record{UID: "b", Name: "b", Places: []rotation.Place{{Instance: guangz, Key: key, LongTerm: true}}}
		w.refused[rotation.Place{Instance: guangz, Key: key}] = &tencentcloud.Error{Reason: tencentcloud.InstanceNotFound}
		_, err = w.Sync(t.Context(), "b", nil, func(rotation.Record) int { return 0 })
		require.NoError(t, err)
		require.NotContains(t, w.records, "b")
		delete(w.refused, rotation.Place{Instance: guangz, Key: key})
		after, err := w.sync(t, "a", "cam", guangz, 1)
		require.NoError(t, err)
		assert.Equal(t, before.Issue, after.Issue, key)
		w.now = w.now.Add(time.Hour)
	}
	assert.Equal(t, 1, w.made)
}

// TestKeysOfARegistryOfBeforeThatAreGone leave its token where it is, and the object gets one of the registry that it names now.
func TestKeysOfARegistryOfBeforeThatAreGone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	_, err := w.sync(t, "a", "old", guangz, 0)
	require.NoError(t, err)
	w.now = w.now.Add(time.Hour)
	w.refused[rotation.Place{Instance: guangz, Key: "old"}] = &tencentcloud.Error{Reason: tencentcloud.CredentialMissing}
	outcome, err := w.sync(t, "a", "new", beijing, 1)
	require.Error(t, err, "it is told")
	require.NotNil(t, outcome.Issue)
	assert.Equal(t, beijing, outcome.Issue.Instance)
	w.now = w.now.Add(25 * time.Hour)
	delete(w.refused, rotation.Place{Instance: guangz, Key: "old"})
	for range 2 {
		_, err = w.sync(t, "a", "new", beijing, 2)
		require.NoError(t, err)
		w.now = w.now.Add(25 * time.Hour)
	}
	assert.False(t, w.tokens[guangz][0].Enabled, "once they are there it is revoked")
}

// TestATokenThatIsCreatedWhenTheObjectIsGone has another process revoke and forget what there was while the call is on its way.
func TestATokenThatIsCreatedWhenTheObjectIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.storing = func(record rotation.Record) error {
		if len(record.Tokens) == 0 {
			return nil
		}
		w.storing = func(rotation.Record) error { return context.Canceled } // it leads no more
		w.version++
		clear(w.records)
		return ErrConflict
	}
	_, err := w.sync(t, "a", "", guangz, 0)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, w.tokens[guangz], "nobody would look for it")
}

// TestAConflictThatIsNone has the token be stored, and the answer be lost.
func TestAConflictThatIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.storing = func(record rotation.Record) error {
		if len(record.Tokens) == 0 {
			return nil
		}
		w.storing = nil
		require.NoError(t, w.Store(t.Context(), record, fmt.Sprint(w.version)))
		return ErrConflict
	}
	outcome, err := w.sync(t, "a", "", guangz, 0)
	require.NoError(t, err)
	assert.Equal(t, "id1", outcome.Issue.ID)
	assert.True(t, w.tokens[guangz][0].Enabled)
}

func TestATokenThatHasExpiredIsNotLeft(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.expires = noon.Add(-time.Hour)
	_, err := w.sync(t, "a", "", guangz, 0)
	require.ErrorContains(t, err, "it has expired by this machine's clock")
	assert.Empty(t, w.tokens[guangz])
}

// TestAQuotaThatIsSpent by tokens that are disabled, and wait to be deleted, is spent no more at the next try.
func TestAQuotaThatIsSpent(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.quota = 2
	_, err := w.sync(t, "a", "", guangz, 0)
	require.NoError(t, err)
	w.tokens[guangz] = append(w.tokens[guangz], tencentcloud.Listed{ID: "old", Description: w.Cluster.Describe("c", "c"), Created: noon})
	_, err = w.sync(t, "b", "", guangz, 0)
	require.Error(t, err, "it is told")
	outcome, err := w.sync(t, "b", "", guangz, 0)
	require.NoError(t, err)
	assert.NotNil(t, outcome.Issue)
	_, err = w.sync(t, "d", "", guangz, 0)
	require.Error(t, err)
	assert.Len(t, w.tokens[guangz], 2, "those that let somebody in stay")
	assert.True(t, w.tokens[guangz][0].Enabled)
}
