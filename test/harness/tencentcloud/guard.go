package tencentcloud

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// session is a login to a registry: whoever shows its key has shown the token that it began with.
type session struct {
	username, password string
	expires            time.Time
}

const (
	// loginPath is where a registry's clients get a session for their token.
	loginPath = "/service/token"
	// sessionLifetime is how long a session lasts.
	sessionLifetime = 30 * time.Minute
)

// guard is the door of a registry.
type guard struct {
	cloud    *Cloud
	registry string
	inside   http.Handler

	mu       sync.Mutex
	sessions map[string]session
}

// Guard returns a registry that lets in whoever has a token of the cloud's registry of that id, and hands their requests to inside.
// It takes tokens the way that registries of the cloud do: a client is told where to log in, and gets a session there. A session ends
// with its token: one that is revoked, or has expired, is refused from the next request on.
func (c *Cloud) Guard(id string, inside http.Handler) http.Handler {
	return &guard{cloud: c, registry: id, inside: inside, sessions: map[string]session{}}
}

// ServeHTTP answers one request of a client.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == loginPath {
		g.login(w, r)
		return
	}
	if g.admits(r) {
		g.inside.ServeHTTP(w, r)
		return
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", "https://"+r.Host+loginPath, g.registry))
	refuse(w)
}

// login answers with a session.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	username, password, _ := r.BasicAuth()
	if !g.cloud.admits(g.registry, username, password) {
		refuse(w)
		return
	}
	key := rand.Text()
	g.mu.Lock()
	g.sessions[key] = session{username, password, g.cloud.clock().Add(sessionLifetime)}
	g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": key, "expires_in": int(sessionLifetime.Seconds())}) // who asked may be gone
}

// admits reports whether a request is of a session that has neither expired nor lost its token.
func (g *guard) admits(r *http.Request) bool {
	key, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	held, found := g.sessions[key]
	g.mu.Unlock()
	return given && found && g.cloud.clock().Before(held.expires) && g.cloud.admits(g.registry, held.username, held.password)
}

// refuse answers as registries do to whom they do not know.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}`)) // who asked may be gone
}
