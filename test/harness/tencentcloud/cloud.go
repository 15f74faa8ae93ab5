// Package tencentcloud is a cloud to test against: an HTTPS server that speaks Tencent Cloud's API 3.0 for the services tcr and sts,
// and the metadata service of its machines. It checks every signature by itself, knows who may do what with which registry, counts
// tokens and requests, and knows which tokens a registry would let in. It can be told to fail in each way that is documented, and in
// those that a network adds.
package tencentcloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// Account is whom the cloud's registries belong to.
const Account = "100012345678"

// Options say how a cloud is started.
type Options struct {
	// Host is the address that it listens on; 127.0.0.1 where it is blank.
	Host string
	// Now is the cloud's clock; nil for the machine's.
	Now func() time.Time
}

// Cloud is a running one.
type Cloud struct {
	url, metadataURL string
	authority        []byte
	servers          []*http.Server

	mu         sync.Mutex
	now        func() time.Time
	session    time.Duration
	keys       map[string]*key
	roles      map[string]*role
	identities map[string]identity
	nodeRole   *nodeRole
	registries map[string]*registry
	tokens     []*Token
	page       int
	rates      map[string]int
	spent      map[string]int
	second     int64
	failures   map[string][]*Failure
	calls      []Call
	requests   int
}

// Call is one request as it was answered. It holds no credential.
type Call struct {
	At                              time.Time
	Service, Action, Region, Caller string
	// Registry is the one that was asked about, where it was one.
	Registry string
	// Code is of the error that was answered; blank where there was none, and "none" where the answer was not one of the API.
	Code string
}

// Start starts a cloud without keys, roles and registries.
func Start(options Options) (*Cloud, error) {
	c := &Cloud{
		now: options.Now, session: 2 * time.Hour,
		keys: map[string]*key{}, roles: map[string]*role{}, identities: map[string]identity{}, registries: map[string]*registry{},
		page: 100, rates: map[string]int{}, spent: map[string]int{}, failures: map[string][]*Failure{},
	}
	if c.now == nil {
		c.now = time.Now
	}
	host := options.Host
	if host == "" {
		host = "127.0.0.1"
	}
	authority, certificate, err := selfsigned.Pair(host, "tcr.tencentcloudapi.com", "sts.tencentcloudapi.com", "localhost")
	if err != nil {
		return nil, fmt.Errorf("starting the cloud: %w", err)
	}
	c.authority = authority
	api, err := c.serve(host, http.HandlerFunc(c.answer), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return nil, fmt.Errorf("starting the cloud: %w", err)
	}
	metadata, err := c.serve(host, http.HandlerFunc(c.answerMetadata), nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the metadata service: %w", err), c.Close())
	}
	c.url, c.metadataURL = "https://"+api, "http://"+metadata
	return c, nil
}

// serve serves in the background and returns the address.
func (c *Cloud) serve(host string, handler http.Handler, config *tls.Config) (address string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	address = listener.Addr().String()
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	c.servers = append(c.servers, server)
	go func() { _ = server.Serve(listener) }() // it ends with Close
	return address, nil
}

// Close stops the cloud at once.
func (c *Cloud) Close() error {
	var all error
	for _, server := range c.servers {
		all = errors.Join(all, server.Close())
	}
	return all
}

// URL is the one base URL of all services.
func (c *Cloud) URL() string { return c.url }

// MetadataURL is the base URL of the metadata service.
func (c *Cloud) MetadataURL() string { return c.metadataURL }

// Authority is the certificate, in PEM, that the cloud's own is signed by.
func (c *Cloud) Authority() []byte { return c.authority }

// SetClock has the cloud go by another clock.
func (c *Cloud) SetClock(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// clock returns the cloud's time.
func (c *Cloud) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

// SetSession says how long temporary keys are good that nobody asked a duration for: those of the metadata service.
func (c *Cloud) SetSession(lifetime time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = lifetime
}

// SetPage says how many tokens an answer lists at most, however many were asked for.
func (c *Cloud) SetPage(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.page = size
}

// SetRate says how often an action is answered in a second. Without it CreateInstanceToken has 100 and every other 20, as
// documented.
func (c *Cloud) SetRate(action string, perSecond int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rates[action] = perSecond
}

// Calls returns what was answered, in this order.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Call(nil), c.calls...)
}

// Count returns how often an action was answered without an error.
func (c *Cloud) Count(action string) int {
	count := 0
	for _, call := range c.Calls() {
		if call.Action == action && call.Code == "" {
			count++
		}
	}
	return count
}
