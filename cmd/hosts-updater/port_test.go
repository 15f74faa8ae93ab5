//go:build linux

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCallersWhoNeverEndAHeaderAreBounded lets many connections hold on to the port, from other addresses than the probe's.
func TestCallersWhoNeverEndAHeaderAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t)
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	head := append([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\nX: "), bytes.Repeat([]byte("x"), 900<<10)...)
	var sent, holding sync.WaitGroup
	for i := range 400 {
		sent.Add(1)
		holding.Go(func() {
			dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(1+i%4))}}
			conn, err := dialer.DialContext(ctx, "tcp", p.address)
			if err != nil {
				sent.Done()
				return
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			_, _ = conn.Write(head)
			sent.Done()
			_, _ = io.Copy(io.Discard, conn) // until the other side has had enough
		})
	}
	sent.Wait()
	assert.Equal(t, "ok\n", p.get("/readyz"), "a probe is answered meanwhile")
	end()
	holding.Wait()
	peak := p.proc(t, "status", "VmHWM")
	t.Logf("%d kB at most", peak)
	assert.Less(t, peak, 25_000)
}

func TestPortClosesTheOldestOfTheAddressThatHasMost(t *testing.T) {
	of := func(addresses ...string) (callers []*caller) {
		for _, address := range addresses {
			callers = append(callers, &caller{from: netip.MustParseAddr(address)})
		}
		return callers
	}
	assert.Equal(t, 1, mostFrom(of("10.0.0.1", "10.0.0.2", "10.0.0.2")))
	assert.Equal(t, 0, mostFrom(of("10.0.0.1", "10.0.0.2")), "of equals the oldest")
}

func TestPortHoldsSoManyConnectionsAndTurnsNoneAway(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := newPort(listener)
	defer p.Close()
	var accepted []net.Conn
	for range maxConnections + 1 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		taken, err := p.Accept()
		require.NoError(t, err)
		defer taken.Close()
		accepted = append(accepted, taken)
	}
	assert.Len(t, p.open, maxConnections)
	_, err = accepted[0].Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed, "the oldest gave way")
	_, err = accepted[maxConnections].Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, accepted[1].Close())
	assert.Len(t, p.open, maxConnections-1)
}
