package check

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRealms(t *testing.T) {
	const listed = "127.0.0.2"
	for _, c := range []struct{ name, challenge, reason string }{
		{"no TLS", `Bearer realm="http://127.0.0.1/token"`, "PlainHTTP"},
		{"no host", `Bearer realm="/token"`, "NotUnderstood"},
		{"none", "Bearer", "NotUnderstood"},
		{"no address of anything", `Bearer realm="https://%zz"`, "NotUnderstood"},
		{"another address", `Bearer realm="https://127.0.0.3/token"`, "RealmElsewhere"},
		{"another address that is listed", `Bearer realm="https://127.0.0.2/token"`, "RealmAddress"},
		{"what is secret in it", `Bearer realm="https://HUSH.example.com/token"`, "RealmElsewhere"},
		{"long", `Bearer realm="https://` + strings.Repeat("a.", 2000) + `com/token"`, "RealmElsewhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			login := serve(t, challenges(c.challenge)).login()
			login.Realms = []string{listed}
			result := Run(t.Context(), login)
			assert.Equal(t, Result{Unknown, c.reason, result.Message}, result)
			assert.Less(t, len(result.Message), 1000)
			assert.NotContains(t, strings.ToLower(result.Message), "hush")
		})
	}
}

func TestNoCredentialGoesElsewhere(t *testing.T) {
	stranger := serve(t, func(_ *registry, w http.ResponseWriter, r *http.Request) { issues(w, r) })
	r := serve(t, func(_ *registry, w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") == "Bearer hush" {
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, stranger.URL))
		w.WriteHeader(http.StatusUnauthorized)
	})
	login := r.login()
	login.Roots.AddCert(stranger.Certificate())
	result := Run(t.Context(), login)
	assert.Equal(t, "RealmElsewhere", result.Reason)
	assert.Contains(t, result.Message, stranger.host(), "it is named")
	assert.Zero(t, stranger.basic.Load())

	login.Realms = []string{stranger.host()}
	assert.Equal(t, Valid, Run(t.Context(), login).Verdict)
	assert.EqualValues(t, 1, stranger.basic.Load())
}

func TestTheOneThatDoesNotAnswerIsNamed(t *testing.T) {
	stranger := serve(t, tokens(issues, says(http.StatusOK)))
	r := serve(t, challenges(fmt.Sprintf(`Bearer realm="%s/token"`, stranger.URL)))
	login := r.login()
	login.Realms = []string{stranger.host()}
	stranger.Close()
	result := Run(t.Context(), login)
	assert.Equal(t, "Unreachable", result.Reason)
	assert.Contains(t, result.Message, stranger.host())
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		host, realm string
		allowed     bool
	}{
		{"demo.tencentcloudcr.com", "demo.tencentcloudcr.com", true},
		{"demo.tencentcloudcr.com", "auth.tencentcloudcr.com", true},
		{"demo.tencentcloudcr.com:443", "auth.tencentcloudcr.com", true},
		{"demo.tencentcloudcr.com", "tencentcloudcr.com.evil.com", false},
		{"a.co.uk", "b.co.uk", false},
		{"registry-1.docker.io", "auth.docker.io", true},
		{"a.github.io", "b.github.io", false},
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1:5000", "10.0.0.1:5001", false},
		{"registry", "auth", false},
		{"r.example.com", "listed.example.org", true},
		{"r.example.com", "listed.example.org:443", true},
		{"r.example.com", "listed.example.org:8443", false},
		{"r.example.com", "unlisted.example.org", false},
		{"10.0.0.1", "10.0.0.1:443", true},
		{"10.0.0.1:443", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.1:8443", false},
		{"[2001:db8::1]", "[2001:db8::1]:443", true},
		{"[2001:db8::1]", "[2001:db8::2]", false},
		// Of these no list says who has registered them.
		{"registry.team-a.svc.cluster.local", "registry.team-b.svc.cluster.local", false},
		{"registry.corp.internal", "auth.corp.internal", false},
		{"10.0.0.1", "010.0.0.1", false},
		{"registry.corp.internal", "Registry.corp.internal:443", true},
		{"demo.tencentcloudcr.com", "auth.tencentcloudcr.com.", false},
		{"demo.example.xn--55qx5d.cn", "auth.example.xn--55qx5d.cn", true},
		{"a.xn--55qx5d.cn", "b.xn--55qx5d.cn", false},
	} {
		g := &guard{host: c.host, realms: []string{"listed.example.org"}}
		assert.Equal(t, c.allowed, g.allows(c.realm), "%s, %s", c.host, c.realm)
	}
}
