package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tokens"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// login is an entry of a .dockerconfigjson.
type login struct{ Username, Password string }

// logins returns what a rule issues, by server.
func logins(t *testing.T, rule *pullsecret.Rule) map[string]login {
	t.Helper()
	var config struct{ Auths map[string]login }
	require.NoError(t, json.Unmarshal(rule.Config, &config))
	return config.Auths
}

// TestWhatAnImagePullSecretAsksForIsIssuedAndRevoked has a Keeper ask the cloud, refuses it for a while, and deletes the object.
func TestWhatAnImagePullSecretAsksForIsIssuedAndRevoked(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	index, live := pullsecret.NewIndex(), types.UID(uid)
	var mu sync.Mutex
	keeper := tokens.NewKeeper(tokens.Config{
		Log: slog.New(slog.DiscardHandler), Index: index, Now: time.Now, Sync: o.issuer.Sync,
		Records: func(context.Context) ([]rotation.Record, error) { return nil, nil },
		Issued: func(rule *pullsecret.Rule) (map[[sha256.Size]byte]bool, bool) {
			return map[[sha256.Size]byte]bool{rule.Sum: true}, true
		},
		Live: func(context.Context, string) (types.UID, error) {
			mu.Lock()
			defer mu.Unlock()
			return live, nil
		},
	})
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	o.Fail("CreateInstanceToken", 1, standin.Failure{Code: "InternalError", Message: "x"})
	running.Go(func() { keeper.Run(ctx) })
	rule := func() *pullsecret.Rule { return index.Rules().Get("demo") }

	index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: uid}, Spec: v1.ImagePullSecretSpec{
		TCR: &v1.RegistryInstance{RegistryID: demo, Region: region},
	}})
	require.Eventually(t, func() bool { return rule().Unread != nil }, 10*time.Second, time.Millisecond, "the refusal is told")
	o.keepsSecrets(rule().Unread.Message)
	require.Eventually(t, func() bool { return rule().Known() }, 20*time.Second, time.Millisecond)
	assert.Nil(t, rule().Unread)
	for _, server := range []string{"demo.tencentcloudcr.com", "demo-vpc.tencentcloudcr.com"} {
		one := logins(t, rule())[server]
		assert.True(t, o.Check(one.Username, one.Password), server)
	}
	one := logins(t, rule())["demo.tencentcloudcr.com"]

	mu.Lock()
	live = ""
	mu.Unlock()
	index.Remove("demo")
	require.Eventually(t, func() bool { return !o.Check(one.Username, one.Password) }, 20*time.Second, time.Millisecond, "it is revoked")
	require.Eventually(t, func() bool { return len(o.Tokens(demo)) == 0 }, 20*time.Second, time.Millisecond, "it is deleted")
}
