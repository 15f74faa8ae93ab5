//go:build linux

package main

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told is a daemon that keeps what it is told.
type told struct {
	mu      sync.Mutex
	mounted bool
	said    []string
}

func (d *told) Finds() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mounted
}

func (d *told) say(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, what)
}

func (d *told) Tell(data []byte) {
	if data == nil {
		d.say("nothing")
		return
	}
	d.say(string(data))
}
func (d *told) Lose()   { d.say("lost") }
func (d *told) Forget() { d.say("forgotten") }

func (d *told) set(mounted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mounted = mounted
}

func (d *told) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.said...)
}

// client returns what asks the server.
func (s *apiServer) client(t *testing.T) *daemonSet {
	t.Helper()
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(t, err)
	set, err := newDaemonSet("home/hosts-updater", s.account, host, port)
	require.NoError(t, err)
	return set
}

func TestWhatWasFoundIsToldOfAtOnce(t *testing.T) {
	s := startAPIServer(t, there, there)
	s.answers[discovered] = `200 {"metadata":{"resourceVersion":"7"},"data":{"hosts.yaml":"one"}}`
	set, daemon := s.client(t), &told{}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { set.find(ctx, slog.New(slog.DiscardHandler), daemon) })
	time.Sleep(100 * time.Millisecond)
	assert.Empty(t, s.requests(), "nobody is asked while nothing is mounted")

	daemon.set(true)
	require.Eventually(t, func() bool { return len(daemon.all()) == 1 }, soon, time.Millisecond)
	s.tells(t, `{"type":"MODIFIED","object":{"data":{"hosts.yaml":"two"}}}`, `{"type":"DELETED","object":{"data":{"hosts.yaml":"two"}}}`,
		`{"type":"ADDED","object":{"data":{"hosts.yaml":"three"}}}`)
	require.Eventually(t, func() bool { return len(daemon.all()) == 4 }, soon, time.Millisecond)
	asked, err := url.QueryUnescape(s.requests()[1])
	require.NoError(t, err)
	assert.Contains(t, asked, "fieldSelector=metadata.name="+discovered+"&resourceVersion=7")

	s.mu.Lock()
	s.answers[discovered] = notFound
	s.mu.Unlock()
	s.tells(t, `{"type":"ERROR","object":{"code":410}}`)
	require.Eventually(t, func() bool { return len(daemon.all()) >= 5 }, soon, time.Millisecond)
	daemon.set(false)
	require.Eventually(t, func() bool { said := daemon.all(); return said[len(said)-1] == "forgotten" }, soon, time.Millisecond)
	assert.Equal(t, "one two nothing three nothing", strings.Join(daemon.all()[:5], " "))
}

func TestWhatIsRefusedTellsNothing(t *testing.T) {
	s := startAPIServer(t, there, there)
	set, daemon := s.client(t), &told{}
	for _, answer := range []string{refused, unknown, `404 {"kind":"Status","reason":"no such page"}`, `500 {}`, `200 no JSON`} {
		s.answers[discovered] = answer
		known, err := set.findOnce(t.Context(), daemon)
		assert.False(t, known, answer)
		assert.ErrorContains(t, err, "reading ConfigMap home/"+discovered, answer)
	}
	assert.Empty(t, daemon.all())
}
