package registry

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// What a token says of the registry and of who issued it.
const (
	service = "registry"
	issuer  = "tokens"
)

// lifetime is how long a token is good. Clients that log in anew ask for another.
const lifetime = time.Minute

// Grant is what a token service gives somebody whom it lets in: a token for what they ask for of what they may.
type Grant struct {
	// User is whom the token names; "" is nobody.
	User string
	// Repositories are those that may be pulled from and pushed to. Everything stands for any.
	Repositories []string
	// Stale has the token's time be over.
	Stale bool
}

// Everything stands for any repository.
const Everything = "*"

// tokenService issues the tokens that the registry trusts, to whoever it lets in.
type tokenService struct {
	grants      func(user, password string) (Grant, bool)
	host        string // a name that leads nowhere, or the address
	address     string
	certificate []byte // in PEM; it signs the tokens, too
	pair        tls.Certificate
	server      *http.Server
	logins      atomic.Int64
}

// startTokens starts the service of a registry, under a name or, if that is "", its address.
func startTokens(name string, grants func(user, password string) (Grant, bool)) (s *tokenService, err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	s = &tokenService{grants: grants, host: name, address: listener.Addr().String()}
	if name == "" {
		s.host, name = s.address, loopback
	}
	if s.certificate, s.pair, err = selfsigned.Pair(name); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { // it ends with the server
		_ = s.server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{s.pair}}))
	}()
	return s, nil
}

// access is what a token lets its holder do.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// ServeHTTP answers with a token for what is asked for, to whoever may have it.
func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, named := r.BasicAuth()
	if named {
		s.logins.Add(1)
	}
	grant, letIn := s.grants(user, password)
	if !letIn {
		http.Error(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := s.token(grant, r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(lifetime.Seconds())}) // who asked may be gone
}

// within returns what a grant allows of the scopes that are asked for, as in repository:team/app:pull,push.
func (g Grant) within(scopes []string) []access {
	granted := []access{}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndex(rest, ":")
		if at < 0 {
			continue
		}
		if repository := rest[:at]; slices.Contains(g.Repositories, repository) || slices.Contains(g.Repositories, Everything) {
			granted = append(granted, access{kind, repository, strings.Split(rest[at+1:], ",")})
		}
	}
	return granted
}

// token returns a token that the registry trusts by the certificate in its head.
func (s *tokenService) token(grant Grant, scopes []string) (string, error) {
	issued := time.Now()
	if grant.Stale {
		issued = issued.Add(-time.Hour)
	}
	head, err := encoded(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.pair.Certificate[0])},
	})
	if err != nil {
		return "", err
	}
	body, err := encoded(map[string]any{
		"iss": issuer, "aud": service, "sub": grant.User, "access": grant.within(scopes), "jti": rand.Text(),
		"iat": issued.Unix(), "nbf": issued.Add(-lifetime).Unix(), "exp": issued.Add(lifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	signature, err := s.sign(head + "." + body)
	return head + "." + body + "." + signature, err
}

func encoded(part map[string]any) (string, error) {
	text, err := json.Marshal(part)
	return base64.RawURLEncoding.EncodeToString(text), err
}

// sign returns the signature of a text as a JWT has it.
func (s *tokenService) sign(text string) (string, error) {
	key, is := s.pair.PrivateKey.(*ecdsa.PrivateKey)
	if !is {
		return "", fmt.Errorf("signing a token: the key is a %T", s.pair.PrivateKey)
	}
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	size := crypto.SHA256.Size()
	signature := append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	return base64.RawURLEncoding.EncodeToString(signature), nil
}
