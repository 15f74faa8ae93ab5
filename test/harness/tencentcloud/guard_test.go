package tencentcloud_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	answers "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// TestGuardedRegistries pushes and pulls by means of a client of any registry.
func TestGuardedRegistries(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	cloud.AddRegistry(tencentcloud.Registry{ID: "tcr-other001", Region: region})
	server := httptest.NewTLSServer(cloud.Guard(demo, registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(server.Close)
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "https://") + "/team/app:1")
	require.NoError(t, err)
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	as := func(token map[string]any) []remote.Option {
		login := authn.FromConfig(authn.AuthConfig{Username: token["Username"].(string), Password: token["Token"].(string)})
		return []remote.Option{remote.WithAuth(login), remote.WithTransport(server.Client().Transport), remote.WithContext(t.Context())}
	}
	refused := func(err error) {
		t.Helper()
		var answer *answers.Error
		require.ErrorAs(t, err, &answer)
		assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	}
	issue := func(parameters map[string]any) map[string]any {
		t.Helper()
		token, err := ask(t, cloud, key, "CreateInstanceToken", parameters, nil)
		require.NoError(t, err)
		return token
	}

	lasting, short := issue(create("longterm")), issue(create("temp"))
	require.NoError(t, remote.Write(tag, image, as(lasting)...))
	for _, token := range []map[string]any{lasting, short} {
		_, err := remote.Image(tag, as(token)...)
		require.NoError(t, err)
	}
	foreign := issue(map[string]any{"RegistryId": "tcr-other001", "TokenType": "longterm", "Desc": "x"})
	for name, wrong := range map[string]map[string]any{
		"another registry's token": foreign,
		"a wrong token":            {"Username": lasting["Username"], "Token": "wrong"},
		"nobody":                   {"Username": "", "Token": ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.Image(tag, as(wrong)...)
			refused(err)
		})
	}

	puller, err := remote.NewPuller(as(lasting)...)
	require.NoError(t, err)
	_, err = puller.Get(t.Context(), tag)
	require.NoError(t, err)
	disabling := map[string]any{"RegistryId": demo, "TokenId": lasting["TokenId"], "Enable": false, "ModifyFlag": 2}
	_, err = ask(t, cloud, key, "ModifyInstanceToken", disabling, nil)
	require.NoError(t, err)
	_, err = puller.Get(t.Context(), tag)
	refused(err)
	_, err = remote.Image(tag, as(lasting)...)
	refused(err)
	_, err = remote.Image(tag, as(short)...)
	require.NoError(t, err)
	cloud.SetClock(func() time.Time { return time.Now().Add(time.Hour + time.Second) })
	_, err = remote.Image(tag, as(short)...)
	refused(err)
}
