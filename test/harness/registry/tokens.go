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
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
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

// tokenService issues the tokens that the registry trusts, to whoever it lets in.
type tokenService struct {
	letsIn      func(user, password string) bool
	url         string // its name leads nowhere
	address     string
	certificate []byte // in PEM; it signs the tokens, too
	pair        tls.Certificate
	server      *http.Server
}

// startTokens starts the service of a registry.
func startTokens(options Options) (*tokenService, error) {
	s := &tokenService{letsIn: options.LetsIn}
	// Clients ask no service under an address of loopback.
	host := "tokens." + options.Hosts[0]
	certificate, key, err := selfsigned.New(host)
	if err != nil {
		return nil, err
	}
	if s.pair, err = tls.X509KeyPair(certificate, key); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.certificate, s.address = certificate, listener.Addr().String()
	s.url = "https://" + host + "/token"
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { // it ends with the server
		_ = s.server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{s.pair}}))
	}()
	return s, nil
}

// access is what a token lets somebody do.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// ServeHTTP answers with a token for what is asked for, to whoever may have it.
func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if !s.letsIn(user, password) {
		http.Error(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	granted := []access{}
	for _, scope := range r.URL.Query()["scope"] {
		// repository:team/app:pull,push
		kind, rest, _ := strings.Cut(scope, ":")
		if at := strings.LastIndex(rest, ":"); at >= 0 {
			granted = append(granted, access{kind, rest[:at], strings.Split(rest[at+1:], ",")})
		}
	}
	token, err := s.token(user, granted)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(lifetime.Seconds())}) // who asked may be gone
}

// token returns a token that the registry trusts by the certificate in its head.
func (s *tokenService) token(user string, granted []access) (string, error) {
	now := time.Now()
	head, err := encoded(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.pair.Certificate[0])},
	})
	if err != nil {
		return "", err
	}
	body, err := encoded(map[string]any{
		"iss": issuer, "aud": service, "sub": user, "access": granted, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-lifetime).Unix(), "exp": now.Add(lifetime).Unix(),
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
