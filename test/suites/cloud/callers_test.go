package cloud

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const (
	provider = "cls-abcdefgh"
	roleName = "qcs::cam::uin/" + standin.Account + ":roleName/assistant"
)

// env is an environment that a test may change while others read it.
type env struct {
	mu     sync.Mutex
	values map[string]string
}

func (e *env) get(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.values[name]
}

func (e *env) set(name, value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.values[name] = value
}

// tke returns the environment of a pod whose service account has a role.
func (w *world) tke() *env {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "token")
	require.NoError(w.t, os.WriteFile(file, []byte(w.AddIdentity(provider, roleName, 24*time.Hour)+"\n"), 0o600))
	return &env{values: map[string]string{
		"TKE_REGION": "ap-shanghai", "TKE_PROVIDER_ID": provider, "TKE_ROLE_ARN": roleName, "TKE_WEB_IDENTITY_TOKEN_FILE": file,
	}}
}

// asks asks for the registry's domain and returns who asked.
func (w *world) asks(caller *tencentcloud.Caller) (secretID string) {
	w.t.Helper()
	_, err := w.client.Registry(caller, region, demo).Domain(w.t.Context())
	require.NoError(w.t, err)
	calls := w.Calls()
	last := calls[len(calls)-1]
	require.Equal(w.t, "DescribeInstances", last.Action)
	return last.Caller
}

func TestEachCallerIsTaken(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.AddRole(roleName, provider, standin.Everything)
	w.BindNodeRole("worker", standin.Everything)
	static := w.AddKey(standin.Everything)
	variables := map[string]string{"TENCENTCLOUD_SECRET_ID": static.SecretID, "TENCENTCLOUD_SECRET_KEY": static.SecretKey}
	both := w.tke()
	for name, value := range variables {
		both.set(name, value)
	}
	for _, test := range []struct {
		name   string
		caller *tencentcloud.Caller
		source string
	}{
		{"keys that are given go before all", w.client.GivenCaller(w.key.SecretID, w.key.SecretKey, "Secret a/b"), "Secret a/b"},
		{"the role goes before the environment", w.client.AmbientCaller(both.get), "OIDC role"},
		{"the environment goes before the node", w.client.AmbientCaller((&env{values: variables}).get), "environment"},
		{"the node is the last", w.client.AmbientCaller(func(string) string { return "" }), "node's role"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := test.caller.Keys(t.Context())
			require.NoError(t, err)
			assert.Equal(t, test.source, keys.Source)
			assert.Equal(t, keys.SecretID, w.asks(test.caller))
			w.keepsSecrets(keys, &keys)
		})
	}
}

// TestTheRegionOfTheClusterIsAsked holds it against TKE_REGION: that of the registry may be another.
func TestTheRegionOfTheClusterIsAsked(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.AddRole(roleName, provider, standin.Everything)
	w.asks(w.client.AmbientCaller(w.tke().get))
	regions := map[string]string{}
	for _, call := range w.Calls() {
		regions[call.Action] = call.Region
	}
	assert.Equal(t, map[string]string{"AssumeRoleWithWebIdentity": "ap-shanghai", "DescribeInstances": region}, regions)
}

func TestWhatEachCallerLacksIsSaid(t *testing.T) {
	t.Parallel()
	w := start(t)
	half := w.tke()
	half.set("TKE_ROLE_ARN", "")
	half.set("TENCENTCLOUD_SECRET_ID", "AKIDx")
	_, err := w.client.AmbientCaller(half.get).Keys(t.Context())
	assert.Equal(t, tencentcloud.CredentialMissing, w.failure(err).Reason)
	assert.EqualError(t, err,
		"no keys for the cloud's API (OIDC role: TKE_ROLE_ARN is not set; environment: TENCENTCLOUD_SECRET_KEY is not set; "+
			"node's role: no role is bound to the node): give the manager's service account an OIDC role, "+
			"or name a Secret in spec.tcr.credentialsSecretRef")

	_, err = w.client.GivenCaller("", " ", "Secret tcr-assistant-system/cam").Keys(t.Context())
	assert.Equal(t, tencentcloud.CredentialMissing, w.failure(err).Reason)
	assert.EqualError(t, err,
		"no keys for the cloud's API (Secret tcr-assistant-system/cam: secretId and secretKey are not set): write both into that Secret")

	elsewhere := start(t, func(options *tencentcloud.Options) { options.MetadataEndpoint = "http://127.0.0.1:1" })
	_, err = elsewhere.client.AmbientCaller(func(string) string { return "" }).Keys(t.Context())
	assert.ErrorContains(t, err, "node's role: the metadata service does not answer")
}

func TestOneThatIsSetUpAndDoesNotWorkIsNotPassedOver(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.BindNodeRole("worker", standin.Everything)
	for _, test := range []struct {
		name   string
		broken func(*env)
		reason tencentcloud.Reason
		says   string
	}{
		{"an unknown role", func(*env) {}, tencentcloud.CredentialRejected,
			"getting keys from the OIDC role: role " + roleName + " does not trust this pod's identity"},
		{"no file", func(e *env) { e.set("TKE_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token") }, tencentcloud.CredentialRejected,
			"file /nowhere/token of TKE_WEB_IDENTITY_TOKEN_FILE: no such file or directory"},
		{"an empty file", func(e *env) { e.set("TKE_WEB_IDENTITY_TOKEN_FILE", os.DevNull) }, tencentcloud.CredentialRejected, "is empty"},
		{"an API that fails", func(*env) { w.Fail("AssumeRoleWithWebIdentity", 1, standin.Failure{Status: 503, Echo: true}) },
			tencentcloud.Internal, "status 503"},
	} {
		t.Run(test.name, func(t *testing.T) {
			environment := w.tke()
			test.broken(environment)
			_, err := w.client.AmbientCaller(environment.get).Keys(t.Context())
			assert.Equal(t, test.reason, w.failure(err).Reason)
			assert.ErrorContains(t, err, test.says)
		})
	}
	none := func(string) string { return "" }
	for _, test := range []struct {
		name    string
		failure standin.Failure
		reason  tencentcloud.Reason
		says    string
	}{
		{"a metadata service that fails", standin.Failure{Status: 500, Body: "a body of somebody's"}, tencentcloud.Internal,
			"getting keys from the node's role (OIDC role: TKE_REGION, TKE_PROVIDER_ID, TKE_WEB_IDENTITY_TOKEN_FILE and " +
				"TKE_ROLE_ARN are not set; environment: "},
		{"one that is none", standin.Failure{Status: 200, Body: "<html>a body of somebody's</html>"}, tencentcloud.BadAnswer,
			"something other than a role's name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.Fail("metadata", 1, test.failure)
			_, err := w.client.AmbientCaller(none).Keys(t.Context())
			assert.Equal(t, test.reason, w.failure(err).Reason)
			assert.ErrorContains(t, err, test.says)
		})
	}
	w.Fail("metadata", 1, standin.Failure{})
	w.Fail("metadata", 1, standin.Failure{Status: 200, Body: `{"Code": "a body of somebody's"}`})
	_, err := w.client.AmbientCaller(none).Keys(t.Context())
	assert.ErrorContains(t, err, "no keys for role worker")
	_ = w.failure(err) // which looks for secrets in it
}

// TestKeysAreKeptAndRenewedAhead goes by a clock of its own for the caller; signatures go by the machine's.
func TestKeysAreKeptAndRenewedAhead(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	offset := time.Duration(0)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(offset)
	}
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		offset += d
	}
	w := start(t, func(options *tencentcloud.Options) { options.Now = now })
	w.AddRole(roleName, provider, standin.Everything)
	caller := w.client.AmbientCaller(w.tke().get)
	keys := func() tencentcloud.Keys {
		keys, err := caller.Keys(t.Context())
		require.NoError(t, err)
		return keys
	}
	first := keys()
	pass(time.Hour)
	assert.Equal(t, first, keys(), "they are kept")
	assert.Equal(t, 1, w.Count("AssumeRoleWithWebIdentity"))

	pass(31 * time.Minute)
	w.Fail("AssumeRoleWithWebIdentity", 0, standin.Failure{Status: 500})
	assert.Equal(t, first, keys(), "those that are still good are used while no others come")
	asked := len(w.Calls())
	assert.Equal(t, first, keys())
	assert.Len(t, w.Calls(), asked, "and not every call asks again")
	pass(29 * time.Minute)
	_, err := caller.Keys(t.Context())
	assert.Equal(t, tencentcloud.Internal, w.failure(err).Reason, "they have expired")
	w.Recover()
	w.SetClock(now)
	second := keys()
	assert.NotEqual(t, first.SecretID, second.SecretID)
	pass(91 * time.Minute)
	w.AddRole(roleName, provider, standin.Everything)
	assert.NotEqual(t, second.SecretID, keys().SecretID, "renewed half an hour ahead")
}

func TestManyWhoWaitAskOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.AddRole(roleName, provider, standin.Everything)
	caller := w.client.AmbientCaller(w.tke().get)
	w.Fail("AssumeRoleWithWebIdentity", 1, standin.Failure{Late: 300 * time.Millisecond})
	var group sync.WaitGroup
	got := make([]tencentcloud.Keys, 50)
	for i := range got {
		group.Go(func() { got[i], _ = caller.Keys(t.Context()) })
	}
	group.Wait()
	for _, keys := range got {
		assert.Equal(t, got[0], keys)
	}
	assert.NotEmpty(t, got[0].SecretID)
	assert.Equal(t, 1, w.Count("AssumeRoleWithWebIdentity"))
}

func TestRejectedKeysAreReplaced(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.AddRole(roleName, provider, standin.Everything)
	caller := w.client.AmbientCaller(w.tke().get)
	first := w.asks(caller)
	w.RemoveKey(first)
	_, err := w.client.Registry(caller, region, demo).Domain(t.Context())
	assert.Equal(t, tencentcloud.CredentialRejected, w.failure(err).Reason)
	assert.ErrorContains(t, err, "the key of the OIDC role is wrong, disabled or expired")
	assert.NotEqual(t, first, w.asks(caller))
}
