//go:build linux

package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of the port for metrics and probes, whose callers are not authenticated.
const (
	maxConnections = 64
	maxHeader      = 16 << 10
	socketBuffer   = 16 << 10 // per direction, in the kernel
)

// newServer returns a server for a port that newPort returned.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:  handler,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // at level debug, since callers can cause any number of errors
		// No timeout for the body: none is read, and its timer would wake the process once more for each probe.
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
	}
}

// port is a listener with a limited number of open connections. It never refuses a new one, so that the kubelet's probes are always
// answered. Instead, it closes the oldest connection of the address that has most.
type port struct {
	net.Listener

	mu   sync.Mutex
	open []*caller // the oldest first
}

func newPort(listener net.Listener) *port { return &port{Listener: listener} }

// caller is an open connection.
type caller struct {
	net.Conn
	port *port
	from netip.Addr
}

func (p *port) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &caller{Conn: conn, port: p}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(socketBuffer) // if it fails, the connection has just ended
		_ = tcp.SetWriteBuffer(socketBuffer)
		if address, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
			c.from = address.AddrPort().Addr()
		}
	}
	p.mu.Lock()
	var victim *caller
	if len(p.open) >= maxConnections {
		victim = p.open[mostFrom(p.open)]
	}
	p.open = append(p.open, c)
	p.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return c, nil
}

// mostFrom returns the index of the first caller of the address that has most.
func mostFrom(callers []*caller) (first int) {
	from := map[netip.Addr]int{}
	for _, c := range callers {
		from[c.from]++
	}
	for i, c := range callers {
		if from[c.from] > from[callers[first].from] {
			first = i
		}
	}
	return first
}

func (c *caller) Close() error {
	c.port.mu.Lock()
	for i, open := range c.port.open {
		if open == c {
			c.port.open = slices.Delete(c.port.open, i, i+1)
			break
		}
	}
	c.port.mu.Unlock()
	return c.Conn.Close()
}
