package tokens

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const uid = "22222222-2222-4222-8222-222222222222"

var instance = rotation.Instance{Region: "ap-guangzhou", ID: "tcr-demo0001"}

// world is what a Keeper sees.
type world struct {
	*testing.T
	*Keeper
	index *pullsecret.Index
	log   bytes.Buffer

	mu      sync.Mutex
	outcome issuer.Outcome
	err     error
	record  rotation.Record
	held    int // what was told of the Secrets in the last Sync
	revoked []string
	issued  int // how often a policy was asked for
	sums    map[[sha256.Size]byte]bool
	unknown bool // what the Secrets hold
	live    types.UID
	records []rotation.Record
}

func start(t *testing.T) *world {
	w := &world{T: t, index: pullsecret.NewIndex(), live: uid}
	w.Keeper = NewKeeper(Config{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Index: w.index, Now: time.Now, Sync: w.sync,
		Records: func(context.Context) ([]rotation.Record, error) { return w.records, nil },
		Issued: func(*pullsecret.Rule) (map[[sha256.Size]byte]bool, bool) {
			return w.sums, !w.unknown
		},
		Live: func(context.Context, string) (types.UID, error) { return w.live, nil },
	})
	return w
}

func (w *world) sync(_ context.Context, uid string, policy *rotation.Policy, held func(rotation.Record) int) (issuer.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if policy == nil {
		w.revoked = append(w.revoked, uid)
		return issuer.Outcome{}, w.err
	}
	w.issued++
	w.held = held(w.record)
	return w.outcome, w.err
}

// put writes an ImagePullSecret with a registry instance, changed by some.
func (w *world) put(changes ...func(*v1.ImagePullSecretSpec)) {
	w.Helper()
	object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: uid}, Spec: v1.ImagePullSecretSpec{
		Docker: v1.DockerCredential{AdditionalServers: []v1.Host{"r.example.com"}},
		TCR:    &v1.RegistryInstance{RegistryID: instance.ID, Region: instance.Region},
	}}
	for _, change := range changes {
		change(&object.Spec)
	}
	w.index.Put(object)
	w.want(uid, "demo")
}

// issue has the cloud issue a token of that serial.
func (w *world) issue(serial int, password string) []byte {
	token := rotation.Token{Serial: serial, Instance: instance, Username: "100012345678", Password: password, Expires: time.Now().Add(time.Hour)}
	w.record.UID, w.record.Name = uid, "demo"
	w.record.Places = []rotation.Place{{Instance: instance, Domain: "demo.tencentcloudcr.com"}}
	w.record.Tokens = append(w.record.Tokens, token)
	w.outcome = issuer.Outcome{Issue: &token, Domain: "demo.tencentcloudcr.com", Again: time.Now().Add(time.Hour)}
	return pullsecret.Render(v1.DockerCredential{
		Username: token.Username, Password: password, Server: "demo.tencentcloudcr.com",
		AdditionalServers: []v1.Host{"demo-vpc.tencentcloudcr.com", "r.example.com"},
	})
}

func (w *world) rule() *pullsecret.Rule { return w.index.Rules().Get("demo") }

func (w *world) keep() time.Duration { return w.Keeper.keep(w.Context(), uid) }

func TestATokenIsIssuedForEveryDomainOfTheRegistry(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	assert.False(t, w.rule().Known())
	config := w.issue(1, "one")
	assert.Less(t, w.keep(), time.Second, "it is looked whether every Secret has it")
	rule := w.rule()
	assert.Equal(t, config, rule.Config)
	assert.Equal(t, []string{"demo.tencentcloudcr.com", "demo-vpc.tencentcloudcr.com", "r.example.com"}, rule.Servers)
	assert.Nil(t, rule.Unread)
	assert.Nil(t, rule.Renewal.Refused)
	assert.Equal(t, w.outcome.Issue.Expires, rule.Renewal.Expires)
	assert.Equal(t, policyOf(rule).Due(*w.outcome.Issue), rule.Renewal.Due)

	w.sums = map[[sha256.Size]byte]bool{rule.Sum: true}
	assert.InDelta(t, time.Hour.Seconds(), w.keep().Seconds(), 60, "every Secret has it")
	assert.Same(t, rule, w.rule(), "nothing has changed")
}

func TestATokenIsHeldOnceEverySecretHasIt(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	one := sha256.Sum256(w.issue(1, "one"))
	w.keep()
	assert.Equal(t, 0, w.held, "nothing was issued until then")
	w.keep()
	assert.Equal(t, 1, w.held, "there is no Secret, and what comes next has it")
	two := sha256.Sum256(w.issue(2, "two"))
	w.keep()
	for name, sums := range map[string]map[[sha256.Size]byte]bool{"the one before": {one: true}, "both": {one: true, two: true}} {
		w.sums = sums
		w.keep()
		assert.Equal(t, 0, w.held, name)
	}
	w.sums = map[[sha256.Size]byte]bool{two: true, {}: true}
	w.keep()
	assert.Equal(t, rotation.Strange, w.held, "something else")
	w.sums = map[[sha256.Size]byte]bool{two: true}
	w.keep()
	assert.Equal(t, 2, w.held)
	w.unknown = true
	w.keep()
	assert.Equal(t, rotation.Unseen, w.held, "who knows what there is")
}

// TestWhatSecretsHoldIsKnownBeforeTheCredentialIs has a manager begin: it knows the Secrets and the record.
func TestWhatSecretsHoldIsKnownBeforeTheCredentialIs(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	one := sha256.Sum256(w.issue(1, "one"))
	w.sums = map[[sha256.Size]byte]bool{one: true}
	w.keep()
	assert.Equal(t, 0, w.held, "it is stored, and not issued yet")
	w = start(t)
	w.put()
	w.sums = map[[sha256.Size]byte]bool{one: true}
	w.keep()
	assert.Equal(t, rotation.Strange, w.held, "the record was lost")
}

func TestARefusalIsToldAndLeavesWhatIsIssued(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	w.err = &tencentcloud.Error{Reason: tencentcloud.Unauthorized, Action: "tcr:CreateInstanceToken", Code: "UnauthorizedOperation", RequestID: "one"}
	wait := w.keep()
	assert.GreaterOrEqual(t, wait, 15*time.Second)
	require.NotNil(t, w.rule().Unread)
	assert.Equal(t, "Unauthorized", w.rule().Unread.Reason)
	assert.Contains(t, w.rule().Unread.Message, "tcr:CreateInstanceToken")

	failure := w.err
	w.err = nil
	config := w.issue(1, "one")
	w.keep()
	assert.Nil(t, w.rule().Unread)
	w.err = failure
	w.keep()
	rule := w.rule()
	assert.Equal(t, config, rule.Config)
	assert.Nil(t, rule.Unread, "it is Ready, since what it has is good")
	require.NotNil(t, rule.Renewal.Refused)

	w.err = &tencentcloud.Error{Reason: tencentcloud.Unauthorized, Action: "tcr:CreateInstanceToken", Code: "UnauthorizedOperation", RequestID: "two"}
	w.outcome = issuer.Outcome{}
	w.keep()
	assert.Same(t, rule, w.rule(), "it is the same refusal")
	assert.Equal(t, 2, bytes.Count(w.log.Bytes(), []byte("level=WARN")), "each of the two was told once")
	assert.NotContains(t, w.log.String(), "100012345678")
}

func TestWhatCannotBeStoredIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	w.err = errors.New("storing x in secret y: refused")
	assert.Less(t, w.keep(), 10*time.Second)
	assert.Equal(t, reasonNotStored, w.rule().Unread.Reason)
}

func TestOnlyWhatIsGoneIsRevoked(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	w.issue(1, "one")
	w.keep()

	w.put(func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "*,*" })
	w.keep()
	assert.Empty(t, w.revoked, "it cannot be read")
	w.index.Remove("demo")
	w.keep()
	assert.Empty(t, w.revoked, "the API server has it")
	w.live = ""
	assert.Zero(t, w.keep())
	assert.Equal(t, []string{uid}, w.revoked)
	assert.Zero(t, w.keep(), "it is forgotten")
	assert.Len(t, w.revoked, 1)
}

// TestWhatIsMadeAnew has the Secrets of one of before, which hold its token until they have another.
func TestWhatIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	one := sha256.Sum256(w.issue(1, "one"))
	w.keep()
	w.sums = map[[sha256.Size]byte]bool{one: true}
	w.live = "another"
	w.index.Remove("demo")
	assert.Less(t, w.keep(), time.Minute)
	assert.Empty(t, w.revoked, "the index does not have the new one yet")
	w.index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "another"}, Spec: v1.ImagePullSecretSpec{
		Docker: v1.DockerCredential{Username: "robot", Password: "p", Server: "r.example.com"},
	}})
	w.keep()
	assert.Empty(t, w.revoked, "every Secret has the old one's")
	w.sums = map[[sha256.Size]byte]bool{w.rule().Sum: true}
	w.keep()
	assert.Equal(t, []string{uid}, w.revoked)
}

func TestWhatHasItsCredentialFromElsewhereIsRevokedOnceThatIsEverywhere(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.put()
	one := sha256.Sum256(w.issue(1, "one"))
	w.keep()
	w.put(func(spec *v1.ImagePullSecretSpec) {
		spec.TCR, spec.Docker = nil, v1.DockerCredential{Username: "robot", Password: "p", Server: "r.example.com"}
	})
	w.sums = map[[sha256.Size]byte]bool{one: true, w.rule().Sum: true}
	w.keep()
	assert.Empty(t, w.revoked)
	w.sums = map[[sha256.Size]byte]bool{w.rule().Sum: true}
	w.keep()
	assert.Equal(t, []string{uid}, w.revoked)
}

func TestWhatWasDeletedWhileNobodyWatchedIsFound(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.live = ""
	w.records = []rotation.Record{{UID: uid, Name: "demo"}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Keeper.Run(ctx) })
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.revoked) == 1 }, 10*time.Second, time.Millisecond)
	stop()
	running.Wait()
}

func TestAnEditIsFollowed(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Keeper.Run(ctx) })
	defer running.Wait()
	defer stop()
	issued := func(at least) func() bool {
		return func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.issued >= int(at) }
	}
	w.mu.Lock()
	w.issue(1, "one")
	w.mu.Unlock()
	w.put()
	require.Eventually(t, issued(1), 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return w.rule().Known() }, 10*time.Second, time.Millisecond)
	w.put(func(spec *v1.ImagePullSecretSpec) { spec.TCR.RotateAfter = "1h" })
	assert.True(t, w.rule().Known(), "it keeps what it has")
}

// least is a number that is reached or passed.
type least int
