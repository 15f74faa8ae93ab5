package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// balancer is the one address behind which several managers answer, as a Service is: a new connection goes to one that was
// ready when it was last asked, and a connection that stands is left alone.
type balancer struct {
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	backends []*manager.Manager
	ready    []*manager.Manager
	next     int
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	b := &balancer{listener: listener, stop: cancel}
	b.running.Go(func() { b.probe(ctx) })
	b.running.Go(func() { b.accept(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		b.running.Wait()
	})
	return b
}

// url is the address that managers are called by.
func (b *balancer) url() string { return "https://" + b.listener.Addr().String() }

// set says which managers are behind the address.
func (b *balancer) set(backends ...*manager.Manager) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = backends
	b.ready = slices.DeleteFunc(b.ready, func(m *manager.Manager) bool { return !slices.Contains(backends, m) })
}

// sees returns nil once the balancer has found all of these managers ready.
func (b *balancer) sees(managers ...*manager.Manager) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range managers {
		if !slices.Contains(b.ready, m) {
			return fmt.Errorf("the manager at %s is not ready", m.MetricsAddress)
		}
	}
	return nil
}

// probe asks every manager several times a second, more often than a kubelet would, whether it is ready.
func (b *balancer) probe(ctx context.Context) {
	for ctx.Err() == nil {
		b.mu.Lock()
		backends := slices.Clone(b.backends)
		b.mu.Unlock()
		var ready []*manager.Manager
		for _, backend := range backends {
			if _, err := backend.Get(ctx, "/readyz"); err == nil {
				ready = append(ready, backend)
			}
		}
		b.mu.Lock()
		b.ready = ready
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *balancer) accept(ctx context.Context) {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.forward(ctx, client) })
	}
}

func (b *balancer) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	b.mu.Lock()
	var backend *manager.Manager
	if len(b.ready) > 0 {
		backend = b.ready[b.next%len(b.ready)]
		b.next++
	}
	b.mu.Unlock()
	if backend == nil {
		return
	}
	server, err := net.Dial("tcp", backend.WebhookAddress)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // either side may end it
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { pipe(server, client) })
	both.Go(func() { pipe(client, server) })
	both.Wait()
}
