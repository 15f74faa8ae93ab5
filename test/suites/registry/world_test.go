// Package registry holds what is told of credentials against a real registry: with passwords and with tokens, right and wrong, and behind
// what goes wrong on the way to it.
package registry

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/test/harness/distribution"
)

// secret stands in every password. Nothing that is told may hold it.
const secret = "hush"

// registries are real ones, and ways to them on which something goes wrong.
type registries struct {
	passwords, tokened *distribution.Registry
	tokens             *distribution.Tokens
	// opened is one that takes tokens of a service which gives some to anybody.
	opened *distribution.Registry
	anyone *distribution.Tokens
	// authorities are the certificates of all of them, in PEM.
	authorities []byte
	// proxied is the address of a way to the registry with passwords that has the certificate of proxiedHost.
	proxied string
}

// proxiedHost is a name that leads nowhere: a proxy alone knows where it is.
const proxiedHost = "registry.example.test"

func startRegistries(t *testing.T) *registries {
	t.Helper()
	dir := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.Mkdir(path, 0o700))
		return path
	}
	var r registries
	var err error
	r.tokens, err = distribution.StartTokens()
	require.NoError(t, err)
	t.Cleanup(r.tokens.Stop)
	r.passwords, err = distribution.WithPasswords(t.Context(), dir("passwords"), map[string]string{"robot": secret, "revoked": secret})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.passwords.Stop()) })
	r.tokened, err = distribution.WithTokens(t.Context(), dir("tokens"), r.tokens, r.passwords)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.tokened.Stop()) })
	r.tokens.Set("robot", &distribution.Account{Password: secret, Repositories: []string{"team/app"}})
	r.tokens.Set("narrow", &distribution.Account{Password: secret})
	r.tokens.Set("stale", &distribution.Account{Password: secret, Repositories: []string{"team/app"}, Stale: true})
	r.tokens.Set("revoked", &distribution.Account{Password: secret, Repositories: []string{"team/app"}})
	r.anyone, err = distribution.StartTokens()
	require.NoError(t, err)
	t.Cleanup(r.anyone.Stop)
	r.anyone.Open()
	r.anyone.Set("robot", &distribution.Account{Password: secret, Repositories: []string{"team/app"}})
	r.opened, err = distribution.WithTokens(t.Context(), dir("opened"), r.anyone, r.passwords)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.opened.Stop()) })
	for _, certificate := range []*distribution.Certificate{
		r.passwords.Certificate, r.tokened.Certificate, r.tokens.Certificate, r.opened.Certificate, r.anyone.Certificate,
	} {
		r.authorities = append(r.authorities, certificate.PEM...)
	}
	named, err := distribution.NewCertificate(proxiedHost)
	require.NoError(t, err)
	r.authorities = append(r.authorities, named.PEM...)
	r.proxied = r.behind(t, named, func(http.ResponseWriter, *http.Request) bool { return false })
	require.NoError(t, r.passwords.Push(t.Context(), "team/app:v1", "robot", secret))
	return &r
}

// revoke takes the user "revoked" away.
func (r *registries) revoke(t *testing.T) {
	t.Helper()
	r.tokens.Set("revoked", nil)
	require.NoError(t, r.passwords.SetPasswords(map[string]string{"robot": secret}))
}

// before stands before the registry with passwords, and returns its address. What handle does not answer, the registry does.
func (r *registries) before(t *testing.T, handle func(http.ResponseWriter, *http.Request) (answered bool)) string {
	t.Helper()
	return r.behind(t, r.passwords.Certificate, handle)
}

// behind stands before the registry with passwords behind another certificate.
func (r *registries) behind(t *testing.T, certificate *distribution.Certificate, handle func(http.ResponseWriter, *http.Request) (answered bool)) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: r.passwords.Host})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.passwords.Roots()}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if !handle(response, request) {
			proxy.ServeHTTP(response, request)
		}
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.Pair}}
	front.StartTLS()
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "https://")
}

// situation is a credential at a server, and what is to be told of it.
type situation struct {
	name           string
	server         string
	user, password string
	image          string
	realms         []string
	stranger       bool // the authority of the server is not known
	verdict        check.Verdict
	reason         string
	says           string
}

// situations are those that issue no orders of time: what is told of each is the same again and again.
func (r *registries) situations(t *testing.T) []situation {
	t.Helper()
	realm := []string{r.tokens.Host}
	answers := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(response http.ResponseWriter, _ *http.Request) bool {
			response.WriteHeader(status)
			return true
		}
	}
	limited, failing := r.before(t, answers(http.StatusTooManyRequests)), r.before(t, answers(http.StatusBadGateway))
	stranger := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "" {
			t.Error("the credential went to where a redirect leads")
		}
	}))
	t.Cleanup(stranger.Close)
	redirecting := r.before(t, func(response http.ResponseWriter, request *http.Request) bool {
		if request.Header.Get("Authorization") == "" {
			return false
		}
		http.Redirect(response, request, stranger.URL, http.StatusTemporaryRedirect)
		return true
	})
	garbage := r.before(t, func(response http.ResponseWriter, request *http.Request) bool {
		connection, _, err := response.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = connection.Write([]byte("hush\x00\xff hush\r\n\r\n"))
			_ = connection.Close()
		}
		return true
	})
	slow := r.before(t, func(_ http.ResponseWriter, request *http.Request) bool {
		select {
		case <-request.Context().Done():
		case <-time.After(2 * time.Minute):
		}
		return true
	})
	with, tokens := r.passwords.Host, r.tokened.Host
	return []situation{
		{name: "right", server: with, user: "robot", password: secret, verdict: check.Valid, reason: "LoggedIn"},
		{name: "right-image", server: with, user: "robot", password: secret, image: "team/app:v1", verdict: check.Valid, reason: "LoggedIn", says: "team/app:v1"},
		{name: "no-image", server: with, user: "robot", password: secret, image: "team/none:v1", verdict: check.Unknown, reason: "ImageNotFound"},
		{name: "wrong", server: with, user: "robot", password: secret + "-wrong", verdict: check.Refused, reason: "Unauthorized", says: "answered 401"},
		{name: "token-right", server: tokens, user: "robot", password: secret, realms: realm, verdict: check.Valid, reason: "LoggedIn"},
		{name: "token-image", server: tokens, user: "robot", password: secret, realms: realm, image: "team/app:v1", verdict: check.Valid, reason: "LoggedIn"},
		{name: "token-wrong", server: tokens, user: "robot", password: secret + "-wrong", realms: realm, verdict: check.Refused, reason: "Unauthorized"},
		{name: "token-expired", server: tokens, user: "stale", password: secret, realms: realm, verdict: check.Refused, reason: "Unauthorized"},
		{name: "token-forbidden", server: tokens, user: "narrow", password: secret, realms: realm, image: "team/app:v1", verdict: check.Refused,
			reason: "InsufficientScope", says: "may not pull team/app:v1"},
		{name: "token-elsewhere", server: tokens, user: "robot", password: secret, verdict: check.Unknown, reason: "RealmElsewhere", says: r.tokens.Host},
		{name: "open-right", server: r.opened.Host, user: "robot", password: secret, realms: []string{r.anyone.Host}, verdict: check.Valid, reason: "LoggedIn"},
		{name: "open-wrong", server: r.opened.Host, user: "robot", password: secret + "-wrong", realms: []string{r.anyone.Host}, verdict: check.Unknown,
			reason: "AnonymousAccess", says: "lets in whoever shows no credential"},
		{name: "open-wrong-image", server: r.opened.Host, user: "robot", password: secret + "-wrong", realms: []string{r.anyone.Host}, image: "team/app:v1",
			verdict: check.Refused, reason: "InsufficientScope"},
		{name: "stranger", server: with, user: "robot", password: secret, stranger: true, verdict: check.Unknown, reason: "CertificateUnknown"},
		{name: "limited", server: limited, user: "robot", password: secret, verdict: check.Unknown, reason: "RateLimited"},
		{name: "failing", server: failing, user: "robot", password: secret, verdict: check.Unknown, reason: "RegistryFails"},
		{name: "redirecting", server: redirecting, user: "robot", password: secret, verdict: check.Unknown, reason: "Redirected"},
		{name: "garbage", server: garbage, user: "robot", password: secret, verdict: check.Unknown, reason: "NotUnderstood"},
		{name: "slow", server: slow, user: "robot", password: secret, verdict: check.Unknown, reason: "Timeout"},
		{name: "nobody", server: "127.0.0.1:1", user: "robot", password: secret, verdict: check.Unknown, reason: "Unreachable"},
	}
}

// roots are the authorities of all registries.
func (r *registries) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.authorities)
	return roots
}

// startProxy starts an HTTP proxy that leads every connection to the way behind proxiedHost, and returns its URL and what it was asked for.
func (r *registries) startProxy(t *testing.T) (proxy string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var hosts []string
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		mu.Lock()
		hosts = append(hosts, request.Method+" "+request.Host)
		mu.Unlock()
		onward, err := net.Dial("tcp", r.proxied)
		if err != nil {
			response.WriteHeader(http.StatusBadGateway)
			return
		}
		defer onward.Close()
		response.WriteHeader(http.StatusOK)
		connection, _, err := response.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		go func() { _, _ = io.Copy(onward, connection) }()
		_, _ = io.Copy(connection, onward)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(hosts)
	}
}
