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

// How much a server holds for its callers, none of whom is authenticated. Together with the bound on reviews, these limits keep the
// process below the 256 MiB of its container.
const (
	// maxNewcomers is how many connections there may be on which no request has been answered yet, maxRegulars how many others.
	// An API server has a connection for each request that is under way, and keeps 25 of them.
	maxNewcomers = 512
	maxRegulars  = 256
	// maxHTTP2 is how many connections may speak HTTP/2, with which a caller can make this side hold far more for each: at worst
	// a megabyte of answers to pings. The others are offered HTTP/1.1, which API servers speak with a Service anyway.
	maxHTTP2 = 32
	// maxStreams is how many requests may be under way on an HTTP/2 connection.
	maxStreams = 16
	// maxHeader is far more than an API server sends.
	maxHeader = 16 << 10
	// socketBuffer is how much the kernel holds of what a connection has sent. It counts towards the container's memory, too.
	socketBuffer = 128 << 10
	// answerBuffer is how much the kernel holds of what a connection has yet to read. The kernel allocates twice as much.
	answerBuffer = 16 << 10
	// fairNewcomers and fairRegulars are how many connections an address may have before its share is compared with that of others:
	// an API server keeps its 25 even if others, from many addresses, have fewer from each.
	fairNewcomers = 25
	fairRegulars  = 50
	// usedFor is how long a connection counts as in use after it was used. It is above the five seconds that an API server waits for
	// an answer.
	usedFor = 10 * time.Second
)

// NewServer returns a server for the webhooks, to be run on a listener that Guard returned.
func NewServer(
	handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), errorLog *log.Logger,
) *http.Server {
	http1 := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"http/1.1"}}
	return &http.Server{
		Handler:  noted(handler),
		ErrorLog: errorLog,
		// An API server sends a review at once and waits five seconds at most. ReadHeaderTimeout bounds the TLS handshake, too.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		// Above the 90 s after which the API server closes an idle connection: it must never write to one that this side has just
		// closed.
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			// Memory for a whole frame, a megabyte by default, is taken as soon as its length is announced.
			MaxReadFrameSize:              64 << 10,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     128 << 10,
			WriteByteTimeout:              5 * time.Second, // against callers that send pings and read no answers
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
			return context.WithValue(ctx, connectionKey{}, bare(conn))
		},
		// It is called when the head of a request has been read, and when its answer has been handed over.
		ConnState: func(conn net.Conn, state http.ConnState) {
			if c, guarded := bare(conn).(*connection); guarded {
				c.busy.Store(state == http.StateActive)
				c.used.Store(time.Now().UnixNano())
			}
		},
	}
}

// bare returns a connection without its TLS layer.
func bare(conn net.Conn) net.Conn {
	if secured, ok := conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return conn
}

type connectionKey struct{}

// noted tells the connection that a request is answered. If the connection may not stay open, the answer says that it closes.
func noted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, guarded := r.Context().Value(connectionKey{}).(*connection); guarded {
			w = &noting{w, c}
		}
		next.ServeHTTP(w, r)
	})
}

// noting is a ResponseWriter that knows which connection it answers on.
type noting struct {
	http.ResponseWriter
	connection *connection
}

func (n *noting) WriteHeader(status int) {
	if !n.connection.answered() {
		n.Header().Set("Connection", "close")
	}
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(body []byte) (int, error) {
	if !n.connection.answered() {
		n.Header().Set("Connection", "close") // has no effect once the head has been written
	}
	return n.ResponseWriter.Write(body)
}

// guard is a listener that bounds how many connections are open. It never turns a new one away: an API server must be answered,
// however many connections others hold open. If there are too many, it closes another one: one of the address that has the most, if
// those are more than anybody needs, and otherwise the one that has been unused for longest. Connections on which a request was
// answered (regulars) are counted separately, so that callers who only connect cannot drive them out. A regular that was used lately
// is not closed while a request is under way, nor, unless its address has too many, afterwards: a request might be on its way. If none
// can be closed, the new one ends with its answer. That loses nothing: an API server then opens another one.
type guard struct {
	net.Listener

	mu        sync.Mutex
	newcomers crowd
	regulars  crowd
	http2     int // connections that speak HTTP/2
}

// Guard returns a listener that bounds how many of its connections are open at a time.
func Guard(listener net.Listener) net.Listener {
	return &guard{Listener: listener, newcomers: newCrowd(fairNewcomers), regulars: newCrowd(fairRegulars)}
}

// connection is one that a guard knows of.
type connection struct {
	net.Conn
	guard   *guard
	from    netip.Addr
	used    atomic.Int64 // when it was opened, or a request last began or was answered, in Unix nanoseconds
	busy    atomic.Bool  // a request is under way
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
		_ = tcp.SetReadBuffer(socketBuffer) // fails only if the connection has just ended
		_ = tcp.SetWriteBuffer(answerBuffer)
		if address, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
			c.from = address.AddrPort().Addr()
		}
	}
	c.used.Store(time.Now().UnixNano())
	g.mu.Lock()
	g.newcomers.add(c)
	var victim *connection
	if len(g.newcomers.members) > maxNewcomers {
		victim = g.newcomers.first(func(member *connection) bool { return member != c })
	}
	g.mu.Unlock()
	victim.close()
	return c, nil
}

// answered notes that a request is answered, and reports whether the connection may stay open after that.
func (c *connection) answered() bool {
	c.used.Store(time.Now().UnixNano())
	if c.regular.Load() {
		return true
	}
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, open := g.newcomers.members[c]; !open {
		return false
	}
	if len(g.regulars.members) >= maxRegulars {
		now := time.Now()
		victim := g.regulars.first(func(member *connection) bool { return !g.regulars.needed(member, now) })
		if victim == nil {
			return false
		}
		g.regulars.remove(victim)
		go victim.close() // it takes the lock
	}
	g.newcomers.remove(c)
	g.regulars.add(c)
	c.regular.Store(true)
	return true
}

// takeHTTP2 reports whether the connection may speak HTTP/2, and if so counts it. It is called during the handshake.
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

// close closes the connection; a nil one is ignored. Its readers get an error.
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

// crowd is a set of connections that counts how many come from each address.
type crowd struct {
	fair    int // how many an address may have
	members map[*connection]struct{}
	from    map[netip.Addr]int
}

func newCrowd(fair int) crowd {
	return crowd{fair: fair, members: map[*connection]struct{}{}, from: map[netip.Addr]int{}}
}

func (c *crowd) add(member *connection) {
	c.members[member] = struct{}{}
	c.from[member.from]++
}

// remove removes a member, and reports whether it was one.
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

// first returns the member to close first, of those that may be closed; nil where there is none.
func (c *crowd) first(may func(*connection) bool) (victim *connection) {
	for member := range c.members {
		if may(member) && (victim == nil || c.before(member, victim)) {
			victim = member
		}
	}
	return victim
}

// before reports whether to close a rather than b.
func (c *crowd) before(a, b *connection) bool {
	if order := cmp.Compare(c.share(a), c.share(b)); order != 0 {
		return order > 0
	}
	return a.used.Load() < b.used.Load()
}

// share returns how many connections the address of a member has, if that is more than fair; else 0.
func (c *crowd) share(member *connection) int {
	if count := c.from[member.from]; count > c.fair {
		return count
	}
	return 0
}

// needed reports whether closing a regular connection might lose a request.
func (c *crowd) needed(member *connection, now time.Time) bool {
	if now.UnixNano()-member.used.Load() >= int64(usedFor) {
		return false
	}
	return member.busy.Load() || c.share(member) == 0
}
