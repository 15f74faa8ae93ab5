package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a server holds for its callers at a time, none of whom is authenticated. Together with what reviews may hold these
// keep the process below the 256 MiB of its container, whoever calls.
const (
	// maxNewcomers is how many connections there may be on which no request has been answered, maxRegulars how many others.
	// An API server has a connection for each request that is under way, and keeps 25 of them.
	maxNewcomers = 512
	maxRegulars  = 256
	// maxHTTP2 is how many connections may speak HTTP/2, which lets a caller make this side hold far more for each: at the
	// worst a megabyte of answers to pings. Others are offered HTTP/1.1, which API servers speak with a Service anyway.
	maxHTTP2 = 32
	// maxStreams is how many requests a connection of HTTP/2 may have under way.
	maxStreams = 16
	// maxHeader is far more than an API server sends.
	maxHeader = 16 << 10
	// socketBuffer is how much the kernel holds of what a connection has sent, which counts as the container's memory too.
	socketBuffer = 128 << 10
)

// NewServer returns a server of the webhooks, to be run on a listener that Guard returned.
func NewServer(handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), errorLog *log.Logger) *http.Server {
	http1 := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"http/1.1"}}
	return &http.Server{
		Handler:  noted(handler),
		ErrorLog: errorLog,
		// An API server sends a review at once and waits five seconds at most. The first of them bounds the TLS handshake too.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		// Above the 90 s after which the API server closes an idle connection: it must never write into one that
		// this side has just closed.
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			// A frame is read into memory whole, a megabyte by default, as soon as its length is announced.
			MaxReadFrameSize:              64 << 10,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     128 << 10,
			WriteByteTimeout:              5 * time.Second, // for who sends pings and reads no answer
		},
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"h2", "http/1.1"},
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if c, guarded := hello.Conn.(*connection); guarded && slices.Contains(hello.SupportedProtos, "h2") && !c.takeHTTP2() {
					return http1, nil
				}
				return nil, nil // as above
			},
		},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if secured, ok := conn.(*tls.Conn); ok {
				conn = secured.NetConn()
			}
			return context.WithValue(ctx, connectionKey{}, conn)
		},
	}
}

type connectionKey struct{}

// noted notes on each connection when a request was last answered.
func noted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if c, guarded := r.Context().Value(connectionKey{}).(*connection); guarded {
			c.answered()
		}
	})
}

// guard is a listener that bounds how many connections are open. It never turns a new one away: an API server that calls must
// be heard, whoever else holds on. Where there are too many it closes another one instead: one of the address that has most
// of them, and of those the one that was not used for longest. So a caller with few connections, such as an API server, keeps
// them while others have many; and who only connects, and is counted apart, cannot drive out who is answered. An API server
// that loses an idle connection opens another one.
type guard struct {
	net.Listener

	mu        sync.Mutex
	newcomers crowd
	regulars  crowd
	http2     int // connections that speak HTTP/2
}

// Guard bounds how many connections of a listener are open at a time.
func Guard(listener net.Listener) net.Listener {
	return &guard{Listener: listener, newcomers: newCrowd(), regulars: newCrowd()}
}

// connection is one that a guard knows of.
type connection struct {
	net.Conn
	guard   *guard
	from    netip.Addr
	used    atomic.Int64 // when it was opened or last answered, in nanoseconds
	regular atomic.Bool
	http2   bool // guarded by guard.mu
}

func (g *guard) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, guard: g}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(socketBuffer) // where it is refused, the connection has just ended
		if address, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
			c.from = address.AddrPort().Addr()
		}
	}
	c.used.Store(time.Now().UnixNano())
	g.mu.Lock()
	g.newcomers.add(c)
	victim := g.newcomers.beyond(maxNewcomers)
	g.mu.Unlock()
	victim.close()
	return c, nil
}

// answered notes that a request was answered.
func (c *connection) answered() {
	c.used.Store(time.Now().UnixNano())
	if c.regular.Load() {
		return
	}
	g := c.guard
	g.mu.Lock()
	var victim *connection
	if g.newcomers.remove(c) {
		g.regulars.add(c)
		c.regular.Store(true)
		victim = g.regulars.beyond(maxRegulars)
	}
	g.mu.Unlock()
	victim.close()
}

// takeHTTP2 reports whether the connection may speak HTTP/2, and counts it then. It is asked during the handshake.
func (c *connection) takeHTTP2() bool {
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, open := g.newcomers.members[c]; open && !c.http2 && g.http2 < maxHTTP2 {
		g.http2++
		c.http2 = true
	}
	return c.http2
}

// close closes the connection, if any. Whoever reads from it is told.
func (c *connection) close() {
	if c != nil {
		_ = c.Close()
	}
}

func (c *connection) Close() error {
	g := c.guard
	g.mu.Lock()
	g.newcomers.remove(c)
	g.regulars.remove(c)
	if c.http2 {
		g.http2--
		c.http2 = false
	}
	g.mu.Unlock()
	return c.Conn.Close()
}

// crowd is a set of connections that knows how many come from each address.
type crowd struct {
	members map[*connection]struct{}
	from    map[netip.Addr]int
}

func newCrowd() crowd {
	return crowd{members: map[*connection]struct{}{}, from: map[netip.Addr]int{}}
}

func (c *crowd) add(member *connection) {
	c.members[member] = struct{}{}
	c.from[member.from]++
}

// remove reports whether it was there.
func (c *crowd) remove(member *connection) bool {
	if _, found := c.members[member]; !found {
		return false
	}
	delete(c.members, member)
	if c.from[member.from]--; c.from[member.from] == 0 {
		delete(c.from, member.from)
	}
	return true
}

// beyond returns the connection to close where there are more than most; else nil.
func (c *crowd) beyond(most int) (victim *connection) {
	if len(c.members) <= most {
		return nil
	}
	for member := range c.members {
		if victim == nil || c.before(member, victim) {
			victim = member
		}
	}
	return victim
}

// before reports whether a is to be closed rather than b.
func (c *crowd) before(a, b *connection) bool {
	if order := cmp.Compare(c.from[a.from], c.from[b.from]); order != 0 {
		return order > 0
	}
	return a.used.Load() < b.used.Load()
}
