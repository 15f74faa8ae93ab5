package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serving is a server on a loopback address, as the command runs it.
type serving struct {
	address string
	guard   *guard
	config  *tls.Config // a client's
}

func startServer(t *testing.T, handler http.Handler) *serving {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // of its certificate
	lender.Close()
	certificate := &lender.TLS.Certificates[0]
	server := NewServer(handler, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &serving{address: listener.Addr().String(), guard: Guard(listener).(*guard), config: lender.Client().Transport.(*http.Transport).TLSClientConfig}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(s.guard, "", "") }()
	t.Cleanup(func() {
		assert.NoError(t, server.Close())
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return s
}

// client returns one that keeps its connections, as an API server does.
func (s *serving) client(t *testing.T, protocols ...string) *http.Client {
	t.Helper()
	config := s.config.Clone()
	config.ServerName, config.NextProtos = "example.com", protocols
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// asks has a review answered.
func (s *serving) asks(t *testing.T, client *http.Client) (protocol string) {
	t.Helper()
	review := accountReview("team", `{"metadata":{"name":"a"}}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.address+MutatePath, strings.NewReader(review))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	assert.Contains(t, string(text), `"allowed":true`)
	return response.Proto
}

// dial opens a connection that says nothing, and leaves it open.
func (s *serving) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (g *guard) counts() (newcomers, regulars, http2 int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.newcomers.members), len(g.regulars.members), g.http2
}

func TestServerHoldsSoManyConnectionsAndTurnsNoneAway(t *testing.T) {
	s := startServer(t, Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready))
	known := s.client(t, "http/1.1")
	s.asks(t, known)
	for range 1000 {
		s.dial(t)
	}
	s.asks(t, s.client(t, "http/1.1"))
	newcomers, regulars, _ := s.guard.counts()
	assert.LessOrEqual(t, newcomers, maxNewcomers)
	assert.Equal(t, 2, regulars, "who only connects drives nobody out who was answered")
	s.asks(t, known)
	_, regulars, _ = s.guard.counts()
	assert.Equal(t, 2, regulars, "its connection was kept")
}

func TestGuardClosesConnectionsOfWhoHasMost(t *testing.T) {
	crowd := newCrowd(1)
	member := func(from string, used int64) *connection {
		c := &connection{from: netip.MustParseAddr(from)}
		c.used.Store(used)
		crowd.add(c)
		return c
	}
	old := member("10.0.0.1", 1)
	first, second := member("10.0.0.2", 2), member("10.0.0.2", 3)
	all := func(*connection) bool { return true }
	assert.Same(t, first, crowd.first(all))
	assert.Same(t, second, crowd.first(func(c *connection) bool { return c != first }))
	assert.True(t, crowd.remove(first))
	assert.False(t, crowd.remove(first))
	assert.Same(t, old, crowd.first(all), "of equals the one that was not used for longest")
	crowd.fair = 2
	crowd.add(first)
	assert.Same(t, old, crowd.first(all), "two are not too many for an address")
	crowd.remove(first)
	crowd.remove(old)
	crowd.remove(second)
	assert.Empty(t, crowd.from)
	assert.Nil(t, crowd.first(all))
}

func TestGuardClosesNoRegularThatMightBeAsking(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		fair   int
		busy   bool
		ago    time.Duration
		needed bool
	}{
		{"one that is asking", 1, true, time.Second, true},
		{"one that is asking, of too many", 0, true, time.Second, true},
		{"one that was answered of late", 1, false, time.Second, true},
		{"one that was answered of late, of too many", 0, false, time.Second, false},
		{"one that has been idle", 1, false, time.Minute, false},
		{"one whose answer nobody waits for any more", 1, true, time.Minute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			crowd := newCrowd(test.fair)
			member := &connection{}
			member.used.Store(now.Add(-test.ago).UnixNano())
			member.busy.Store(test.busy)
			crowd.add(member)
			assert.Equal(t, test.needed, crowd.needed(member, now))
		})
	}
}

func TestServerKeepsThoseThatWereAnsweredLast(t *testing.T) {
	s := startServer(t, Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready))
	first := s.client(t, "http/1.1")
	s.asks(t, first)
	var clients []*http.Client
	for range maxRegulars + 20 {
		clients = append(clients, s.client(t, "http/1.1"))
		s.asks(t, clients[len(clients)-1])
		s.asks(t, first)
	}
	_, regulars, _ := s.guard.counts()
	assert.Equal(t, maxRegulars, regulars)
	s.asks(t, clients[0]) // whose connection was closed: it opens another one
}

func TestServerSpeaksHTTP2OnSoManyConnectionsAndHTTP1OnOthers(t *testing.T) {
	s := startServer(t, Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready))
	for range maxHTTP2 {
		assert.Equal(t, "HTTP/2.0", s.asks(t, s.client(t, "h2", "http/1.1")))
	}
	assert.Equal(t, "HTTP/1.1", s.asks(t, s.client(t, "h2", "http/1.1")))
	_, _, http2 := s.guard.counts()
	assert.Equal(t, maxHTTP2, http2)
}

// TestServerRefusesBeforeABodyEnds holds that a review for which there is no room is answered while its sender still keeps the
// rest of it back.
func TestServerRefusesBeforeABodyEnds(t *testing.T) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	s := startServer(t, handler)
	var ends []func() *httptest.ResponseRecorder
	for range 4 {
		ends = append(ends, send(t, handler, 6<<20))
	}
	for range 8 {
		ends = append(ends, send(t, handler, 600<<10))
	}
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for _, protocol := range []string{"h2", "http/1.1"} {
		reader, writer := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.address+MutatePath, reader)
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.ContentLength = 5 << 20
		go func() { _, _ = io.Copy(writer, bytes.NewReader(make([]byte, 4<<20))) }()
		response, err := s.client(t, protocol).Do(request)
		require.NoError(t, err)
		assert.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
		_ = response.Body.Close()
		cancel()
		_ = reader.Close()
	}
}
