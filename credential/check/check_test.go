package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// registry is one that goes wrong on purpose: a real one does not.
type registry struct {
	*httptest.Server
	basic atomic.Int32 // requests with the credential
}

func serve(t *testing.T, handler func(*registry, http.ResponseWriter, *http.Request)) *registry {
	t.Helper()
	r := &registry{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if _, _, has := request.BasicAuth(); has {
			r.basic.Add(1)
		}
		handler(r, response, request)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *registry) host() string { return strings.TrimPrefix(r.URL, "https://") }

func (r *registry) login() Login {
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	return Login{Server: r.host(), Username: "robot", Password: "hush", Roots: roots}
}

// basic asks for a user name and a password, and then answers by answer.
func basic(answer http.HandlerFunc) func(*registry, http.ResponseWriter, *http.Request) {
	return func(_ *registry, response http.ResponseWriter, request *http.Request) {
		if _, password, _ := request.BasicAuth(); password != "hush" {
			response.Header().Add("WWW-Authenticate", `Basic realm="x"`)
			http.Error(response, "hush", http.StatusUnauthorized)
			return
		}
		answer(response, request)
	}
}

// tokens gives tokens to those that issue approves of, and then answers by answer.
func tokens(issue, answer http.HandlerFunc) func(*registry, http.ResponseWriter, *http.Request) {
	return func(r *registry, response http.ResponseWriter, request *http.Request) {
		switch {
		case request.URL.Path == "/token":
			issue(response, request)
		case !strings.HasPrefix(request.Header.Get("Authorization"), "Bearer "):
			response.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x",scope="repository:app:pull"`, r.URL))
			response.WriteHeader(http.StatusUnauthorized)
		default:
			answer(response, request)
		}
	}
}

// challenges wants to know who asks, whoever does.
func challenges(with string) func(*registry, http.ResponseWriter, *http.Request) {
	return func(_ *registry, response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("WWW-Authenticate", with)
		response.WriteHeader(http.StatusUnauthorized)
	}
}

func says(status int) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) { http.Error(response, "hush", status) }
}

func issues(response http.ResponseWriter, request *http.Request) {
	if _, password, _ := request.BasicAuth(); password != "hush" {
		http.Error(response, "hush", http.StatusUnauthorized)
		return
	}
	fmt.Fprint(response, `{"token":"hush"}`)
}

// anybody gives whoever asks a token: of a subject to who shows a password, and of another one to who shows none.
func anybody(subject, nobody string) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		of := subject
		if _, _, has := request.BasicAuth(); !has {
			of = nobody
		}
		payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q}`, of))
		fmt.Fprintf(response, `{"token":"hush.%s.hush"}`, payload)
	}
}

// otherwise answers who shows no credential.
func otherwise(nobody http.HandlerFunc) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		if _, _, has := request.BasicAuth(); has {
			issues(response, request)
			return
		}
		nobody(response, request)
	}
}

// letsIn lets in a token of that text, and refuses others with a status.
func letsIn(token string, status int) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "Bearer "+token {
			http.Error(response, "hush", status)
		}
	}
}

func wrong(login *Login)    { login.Password = "hush hush" }
func forImage(login *Login) { login.Image = "team/app:v1" }

func TestRun(t *testing.T) {
	ok := says(http.StatusOK)
	for _, c := range []struct {
		name    string
		serve   func(*registry, http.ResponseWriter, *http.Request)
		login   func(*Login)
		verdict Verdict
		reason  string
	}{
		{"a right password", basic(ok), nil, Valid, "LoggedIn"},
		{"a right password, for an image", basic(ok), forImage, Valid, "LoggedIn"},
		{"a wrong password", basic(ok), wrong, Refused, "Unauthorized"},
		{"a right password, for tokens", tokens(issues, ok), nil, Valid, "LoggedIn"},
		{"a right password, for tokens and an image", tokens(issues, ok), forImage, Valid, "LoggedIn"},
		{"a wrong password, for tokens", tokens(issues, ok), wrong, Refused, "Unauthorized"},
		{"a token that is refused", tokens(issues, says(http.StatusUnauthorized)), nil, Refused, "Unauthorized"},
		{"a token that does not do for the image", tokens(issues, says(http.StatusUnauthorized)), forImage, Refused, "InsufficientScope"},
		{"no permission for the image", basic(says(http.StatusForbidden)), forImage, Refused, "InsufficientScope"},
		{"no permission, for no image", basic(says(http.StatusForbidden)), nil, Unknown, "NotUnderstood"},
		{"no permission of the token server, for the image", tokens(says(http.StatusForbidden), ok), forImage, Refused, "InsufficientScope"},
		{"no such image", basic(says(http.StatusNotFound)), forImage, Unknown, "ImageNotFound"},
		{"no registry", basic(says(http.StatusNotFound)), nil, Unknown, "NotUnderstood"},
		{"too many requests", basic(says(http.StatusTooManyRequests)), nil, Unknown, "RateLimited"},
		{"too many tokens", tokens(says(http.StatusTooManyRequests), ok), nil, Unknown, "RateLimited"},
		{"an error of its own", basic(says(http.StatusBadGateway)), nil, Unknown, "RegistryFails"},
		{"an error of the token server", tokens(says(http.StatusBadGateway), ok), nil, Unknown, "RegistryFails"},
		{"tokens that are none", tokens(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hush{") }, ok), nil, Unknown,
			"NotUnderstood"},
		{"nobody is asked", func(_ *registry, w http.ResponseWriter, r *http.Request) { ok(w, r) }, nil, Unknown, "AnonymousAccess"},
		{"a token for anybody", tokens(anybody("", ""), ok), nil, Unknown, "AnonymousAccess"},
		{"a token for anybody, and a wrong password", tokens(anybody("", ""), ok), wrong, Unknown, "AnonymousAccess"},
		{"a token for anybody, and an image that anybody may pull", tokens(anybody("", ""), ok), forImage, Unknown, "AnonymousAccess"},
		{"a token for anybody who is the same to it", tokens(anybody("guest", "guest"), ok), nil, Unknown, "AnonymousAccess"},
		{"a token of nobody for whoever shows a password", tokens(anybody("", "guest"), ok), nil, Unknown, "AnonymousAccess"},
		{"a token for anybody, that says of whom it is", tokens(anybody("robot", ""), ok), nil, Valid, "LoggedIn"},
		{"a token for anybody, not for the image", tokens(otherwise(says(http.StatusOK)), letsIn("hush", http.StatusNotFound)), forImage, Valid, "LoggedIn"},
		{"a token for anybody, that lets in nobody", tokens(otherwise(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"token":"nobody"}`)
		}), letsIn("hush", http.StatusUnauthorized)), nil, Valid, "LoggedIn"},
		{"no token for nobody", tokens(otherwise(says(http.StatusForbidden)), ok), nil, Valid, "LoggedIn"},
		{"too many tokens for nobody", tokens(otherwise(says(http.StatusTooManyRequests)), ok), nil, Unknown, "RateLimited"},
		{"an error of the token server, for nobody", tokens(otherwise(says(http.StatusBadGateway)), ok), nil, Unknown, "RegistryFails"},
		{"an unknown way to log in", challenges("Negotiate"), nil, Unknown, "NotUnderstood"},
		{"an authority that is not known", basic(ok), func(login *Login) { login.Roots = x509.NewCertPool() }, Unknown, "CertificateUnknown"},
		{"several ways to log in", func(r *registry, w http.ResponseWriter, request *http.Request) {
			w.Header().Add("WWW-Authenticate", "Negotiate")
			basic(ok)(r, w, request)
		}, nil, Valid, "LoggedIn"},
		{"a token service that redirects", tokens(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, ok), nil, Unknown, "Redirected"},
		{"an image's name that is none", basic(ok), func(login *Login) { login.Image = "Team" }, Unknown, "ImageNameInvalid"},
		{"an image of another host", basic(says(http.StatusForbidden)), func(login *Login) { login.Image = "r.example.com/app" }, Unknown, "ImageElsewhere"},
		{"a host that does not exist", basic(ok), func(login *Login) { login.Server = "nowhere.invalid" }, Unknown, "NameNotResolved"},
		{"HEAD is not known", basic(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		}), forImage, Valid, "LoggedIn"},
		{"a body without an end", basic(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}), nil, Valid, "LoggedIn"},
		{"headers without an end", basic(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("hush", 1<<18))
		}), nil, Unknown, "NotUnderstood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, c.serve)
			login := r.login()
			if c.login != nil {
				c.login(&login)
			}
			result := Run(t.Context(), login)
			assert.Equal(t, Result{c.verdict, c.reason, result.Message}, result)
			assert.NotEmpty(t, result.Message)
			assert.LessOrEqual(t, r.basic.Load(), int32(1+strings.Count(c.name, "HEAD")), "it is one login")
			assert.NotContains(t, result.Message, "hush")
		})
	}
}

func TestAnImagesNameThatIsNoneIsAnsweredWithOneThatIs(t *testing.T) {
	result := Run(t.Context(), Login{Server: "r.example.com", Image: "Team"})
	assert.Equal(t, Result{Unknown, "ImageNameInvalid", `"Team" is not an image name: write one such as team/app:v1`}, result)
}

func TestWhatIsSaidAfterHEADWasRefusedIsAboutGET(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := serve(t, basic(func(w http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		<-request.Context().Done()
	}))
	login := r.login()
	forImage(&login)
	assert.Equal(t, "Timeout", Run(ctx, login).Reason)
}

func TestNoCredentialGoesAcrossARedirect(t *testing.T) {
	stranger := serve(t, basic(says(http.StatusOK)))
	for _, where := range []string{stranger.URL, "/other"} {
		r := serve(t, basic(func(w http.ResponseWriter, request *http.Request) {
			assert.Equal(t, "/v2/", request.URL.Path)
			http.Redirect(w, request, where, http.StatusTemporaryRedirect)
		}))
		result := Run(t.Context(), r.login())
		assert.Equal(t, Unknown, result.Verdict)
		assert.Equal(t, "Redirected", result.Reason)
	}
	assert.Zero(t, stranger.basic.Load())
}

func TestASlowRegistryIsLeftAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r := serve(t, func(_ *registry, _ http.ResponseWriter, request *http.Request) { <-request.Context().Done() })
	result := Run(ctx, r.login())
	assert.Equal(t, Unknown, result.Verdict)
	assert.Equal(t, "Timeout", result.Reason)
}

func TestARegistryWithoutTLSIsSentNothing(t *testing.T) {
	var asked atomic.Int32
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer open.Close()
	result := Run(t.Context(), Login{Server: strings.TrimPrefix(open.URL, "http://"), Username: "robot", Password: "hush"})
	assert.Equal(t, Unknown, result.Verdict)
	assert.Equal(t, "PlainHTTP", result.Reason)
	assert.Zero(t, asked.Load())
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ server, image, want string }{
		{"r.example.com", "", "/v2/"},
		{"r.example.com", "team/app:v1", "/v2/team/app/manifests/v1"},
		{"r.example.com", "r.example.com/team/app", "/v2/team/app/manifests/latest"},
		{"r.example.com:5000", "app", "/v2/app/manifests/latest"},
		{"index.docker.io", "nginx", "/v2/library/nginx/manifests/latest"},
		{"r.example.com", "app@sha256:" + strings.Repeat("0", 64), "/v2/app/manifests/sha256:" + strings.Repeat("0", 64)},
	} {
		path, err := (&Login{Server: c.server, Image: c.image}).path()
		require.NoError(t, err)
		assert.Equal(t, c.want, path)
	}
}

func TestAnImageOfAnotherHostIsAskedForNowhere(t *testing.T) {
	var asked atomic.Int32
	r := serve(t, func(_ *registry, w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	})
	for _, other := range []string{"other.example.com/team/app", "localhost/app", "127.0.0.1/app", "team.x/app"} {
		login := r.login()
		login.Image = other
		result := Run(t.Context(), login)
		assert.Equal(t, "ImageElsewhere", result.Reason, other)
		assert.Contains(t, result.Message, other)
	}
	assert.Zero(t, asked.Load())
}

func TestNothingIsSentInTheClear(t *testing.T) {
	g := &guard{host: "r.example.com", next: http.DefaultTransport}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://r.example.com/token", nil)
	require.NoError(t, err)
	_, err = g.RoundTrip(request) //nolint:bodyclose // there is no answer
	assert.ErrorAs(t, err, new(*plainError))
	assert.Equal(t, "PlainHTTP", (&Login{}).unreached(g, err).Reason)
}

func TestDockerHubAnswersElsewhere(t *testing.T) {
	for server, want := range map[string]string{"index.docker.io": hub, "docker.io": hub, "r.example.com:5000": "r.example.com:5000", "registry-1.docker.io": hub} {
		assert.Equal(t, want, (&Login{Server: server}).host(), server)
	}
	path, err := (&Login{Server: "docker.io", Image: "nginx"}).path()
	require.NoError(t, err)
	assert.Equal(t, "/v2/library/nginx/manifests/latest", path)
}

func TestAProxyIsToBlameForWhatItDoes(t *testing.T) {
	transport := http.DefaultTransport.(*http.Transport)
	before := transport.Proxy
	defer func() { transport.Proxy = before }()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "hush", http.StatusProxyAuthRequired)
	}))
	transport.Proxy = func(*http.Request) (*url.URL, error) {
		at, err := url.Parse(proxy.URL)
		at.User = url.UserPassword("proxied", "hush")
		return at, err
	}
	for _, want := range []string{"the proxy answered 407", "the proxy on the way to r.example.com"} {
		result := Run(t.Context(), Login{Server: "r.example.com", Username: "robot", Password: "quiet"})
		assert.Equal(t, Unknown, result.Verdict)
		assert.Equal(t, "Unreachable", result.Reason)
		assert.Contains(t, result.Message, want)
		assert.NotContains(t, result.Message, "hush")
		proxy.Close()
	}
}

func TestAConnectionIsEachChecksOwn(t *testing.T) {
	for _, second := range []bool{false, true} {
		var open atomic.Int32
		r := &registry{}
		r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			assert.Equal(t, second, request.ProtoMajor == 2)
			tokens(issues, says(http.StatusOK))(r, w, request)
		}))
		r.EnableHTTP2 = second
		r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		}
		r.StartTLS()
		defer r.Close()
		for range 20 {
			require.Equal(t, Valid, Run(t.Context(), r.login()).Verdict)
		}
		assert.Eventually(t, func() bool { return open.Load() == 0 }, 10*time.Second, 10*time.Millisecond, "HTTP/2: %v", second)
	}
}

func TestWhatIsWrongWithACertificateIsSaid(t *testing.T) {
	login := serve(t, basic(says(http.StatusOK))).login()
	login.Server = strings.Replace(login.Server, "127.0.0.1", "localhost", 1)
	result := Run(t.Context(), login)
	assert.Equal(t, Unknown, result.Verdict)
	assert.Equal(t, "CertificateUnknown", result.Reason)
	assert.Contains(t, result.Message, "is for other names")

	for err, want := range map[error]string{
		x509.CertificateInvalidError{Reason: x509.Expired}:            "has expired, or is not valid yet",
		x509.CertificateInvalidError{Reason: x509.TooManyConstraints}: "is not trusted here",
		x509.UnhandledCriticalExtension{}:                             "is not trusted here",
	} {
		result := login.unreached(&guard{}, fmt.Errorf("asking: %w", &tls.CertificateVerificationError{Err: err}))
		assert.Equal(t, "CertificateUnknown", result.Reason)
		assert.Contains(t, result.Message, login.Server)
		assert.Contains(t, result.Message, want)
	}
}
