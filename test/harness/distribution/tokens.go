package distribution

import (
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
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Service is what registries call themselves to the token service, issuer what that calls itself to them.
const (
	Service = "registry"
	issuer  = "tokens"
)

// Account is a user of a token service.
type Account struct {
	Password string
	// Repositories are those that the user may pull from and push to.
	Repositories []string
	// Stale has tokens issued whose time is over.
	Stale bool
}

// Tokens is a token service, as distribution's token authentication has it.
type Tokens struct {
	// Realm is the address that tokens are asked for at, Host its host and port.
	Realm, Host string
	Certificate *Certificate

	server *httptest.Server

	mu       sync.Mutex
	accounts map[string]Account
	logins   int
	open     bool
}

// StartTokens starts a token service without users.
func StartTokens() (*Tokens, error) {
	certificate, err := NewCertificate(Address)
	if err != nil {
		return nil, err
	}
	t := &Tokens{Certificate: certificate, accounts: map[string]Account{}}
	t.server = httptest.NewUnstartedServer(http.HandlerFunc(t.serve))
	t.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.Pair}}
	t.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.server.StartTLS()
	t.Realm = t.server.URL + "/token"
	t.Host = strings.TrimPrefix(t.server.URL, "https://")
	return t, nil
}

// Stop ends the service.
func (t *Tokens) Stop() { t.server.Close() }

// Set makes a user what the account says; nil takes the user away.
func (t *Tokens) Set(user string, account *Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.accounts, user)
	if account != nil {
		t.accounts[user] = *account
	}
}

// Open has the service give a token that is of nobody, and for nothing, to whoever it does not know, too.
func (t *Tokens) Open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = true
}

// Logins counts the requests that held a user name and a password.
func (t *Tokens) Logins() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.logins
}

// access is what a token is for.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (t *Tokens) serve(response http.ResponseWriter, request *http.Request) {
	user, password, given := request.BasicAuth()
	t.mu.Lock()
	account, known := t.accounts[user]
	if given {
		t.logins++
	}
	open := t.open
	t.mu.Unlock()
	if known = known && password == account.Password; !known {
		user, account = "", Account{}
	}
	if !known && !open {
		http.Error(response, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	granted := []access{}
	for _, scope := range request.URL.Query()["scope"] {
		parts := strings.Split(scope, ":") // repository:NAME:pull,push
		if len(parts) == 3 && slices.Contains(account.Repositories, parts[1]) {
			granted = append(granted, access{parts[0], parts[1], strings.Split(parts[2], ",")})
		}
	}
	ends := time.Now().Add(5 * time.Minute)
	if account.Stale {
		ends = time.Now().Add(-time.Hour)
	}
	token, err := t.sign(user, granted, ends)
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(response, `{"token":%q}`, token)
}

// sign returns a JSON Web Token by ES256.
func (t *Tokens) sign(user string, granted []access, ends time.Time) (string, error) {
	header, err := json.Marshal(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(t.Certificate.Pair.Certificate[0])},
	})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuer, "sub": user, "aud": Service, "exp": ends.Unix(), "nbf": ends.Add(-2 * time.Hour).Unix(), "iat": ends.Add(-2 * time.Hour).Unix(),
		"jti": fmt.Sprint(ends.UnixNano()), "access": granted,
	})
	if err != nil {
		return "", err
	}
	signed := encoded(header) + "." + encoded(claims)
	sum := sha256.Sum256([]byte(signed))
	key, is := t.Certificate.Pair.PrivateKey.(*ecdsa.PrivateKey)
	if !is {
		return "", errors.New("the token service's key is for no ES256")
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	return signed + "." + encoded(append(padded(r), padded(s)...)), nil
}

func padded(number *big.Int) []byte { return number.FillBytes(make([]byte, 32)) }

func encoded(part []byte) string { return base64.RawURLEncoding.EncodeToString(part) }
