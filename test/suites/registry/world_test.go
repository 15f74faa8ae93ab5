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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// secret stands in every password. Nothing that is told may hold it.
const secret = "hush"

// registries are real ones, and ways to them on which something goes wrong.
type registries struct {
	passwords, tokened *registry.Registry
	accounts           *accounts // of tokened
	// opened is one whose token service gives a token to anybody.
	opened *registry.Registry
	// authorities are the certificates of all of them, in PEM.
	authorities []byte
	// front is the certificate of ways to the registry with passwords.
	front tls.Certificate
	// proxied is the address of a way to the registry with passwords that has the certificate of proxiedHost.
	proxied string
}

// proxiedHost is a name that leads nowhere: a proxy alone knows where it is.
const proxiedHost = "registry.example.test"

func startRegistries(t *testing.T) *registries {
	t.Helper()
	start := func(options registry.Options) *registry.Registry {
		options.Dir = t.TempDir()
		started, err := registry.Start(t.Context(), options)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, started.Stop()) })
		return started
	}
	pair := func(host string) (certificate []byte, pair tls.Certificate) {
		certificate, pair, err := selfsigned.Pair(host)
		require.NoError(t, err)
		return certificate, pair
	}
	app := []string{"team/app"}
	r := &registries{accounts: &accounts{of: map[string]account{
		"robot": {password: secret, repositories: app}, "revoked": {password: secret, repositories: app},
		"narrow": {password: secret}, "stale": {password: secret, repositories: app, stale: true},
	}}}
	r.passwords = start(registry.Options{Passwords: map[string]string{"robot": secret, "revoked": secret}})
	r.tokened = start(registry.Options{ImagesOf: r.passwords, Grants: r.accounts.grants})
	anyone := &accounts{of: map[string]account{"robot": {password: secret, repositories: app}}, open: true}
	r.opened = start(registry.Options{ImagesOf: r.passwords, Grants: anyone.grants})
	front, frontPair := pair("127.0.0.1")
	named, namedPair := pair(proxiedHost)
	r.authorities = slices.Concat(r.passwords.Certificates, r.tokened.Certificates, r.opened.Certificates, front, named)
	r.front = frontPair
	r.proxied = r.behind(t, namedPair, func(http.ResponseWriter, *http.Request) bool { return false })
	content, err := random.Image(64, 1)
	require.NoError(t, err)
	require.NoError(t, r.passwords.Push(t.Context(), r.passwords.Host+"/team/app:v1", content, "robot", secret))
	return r
}

// revoke takes the user "revoked" away.
func (r *registries) revoke(t *testing.T) {
	t.Helper()
	r.accounts.remove("revoked")
	require.NoError(t, r.passwords.SetPasswords(map[string]string{"robot": secret}))
}

// before stands before the registry with passwords, and returns its address. What handle does not answer, the registry does.
func (r *registries) before(t *testing.T, handle func(http.ResponseWriter, *http.Request) (answered bool)) string {
	t.Helper()
	return r.behind(t, r.front, handle)
}

// behind stands before the registry with passwords behind another certificate.
func (r *registries) behind(t *testing.T, certificate tls.Certificate, handle func(http.ResponseWriter, *http.Request) (answered bool)) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: r.passwords.Host})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusting(r.passwords.Certificates)}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if !handle(response, request) {
			proxy.ServeHTTP(response, request)
		}
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
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
	realm := []string{r.tokened.Realm}
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
		{name: "token-elsewhere", server: tokens, user: "robot", password: secret, verdict: check.Unknown, reason: "RealmElsewhere", says: r.tokened.Realm},
		{name: "open-right", server: r.opened.Host, user: "robot", password: secret, realms: []string{r.opened.Realm}, verdict: check.Valid, reason: "LoggedIn"},
		{name: "open-wrong", server: r.opened.Host, user: "robot", password: secret + "-wrong", realms: []string{r.opened.Realm}, verdict: check.Unknown,
			reason: "AnonymousAccess", says: "also lets in clients without a credential"},
		{name: "open-wrong-image", server: r.opened.Host, user: "robot", password: secret + "-wrong", realms: []string{r.opened.Realm}, image: "team/app:v1",
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
func (r *registries) roots() *x509.CertPool { return trusting(r.authorities) }

func trusting(certificates []byte) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificates)
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
