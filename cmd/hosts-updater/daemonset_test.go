//go:build linux

package main

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// apiServer is one that answers as it is told to.
type apiServer struct {
	*httptest.Server
	account string // the folder of credentials

	mu      sync.Mutex
	answers map[string]string // by the last part of the path: a status, a blank, and a body
	asked   []string
	tokens  []string
}

const (
	there    = `200 {"kind":"PartialObjectMetadata","metadata":{"name":"x"}}`
	ending   = `200 {"kind":"PartialObjectMetadata","metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"}}`
	notFound = `404 {"kind":"Status","reason":"NotFound"}`
	refused  = `403 {"kind":"Status","reason":"Forbidden"}`
	unknown  = `401 {"kind":"Status","reason":"Unauthorized"}`
)

// startAPIServer answers for the DaemonSet "hosts-updater" and for its namespace "home".
func startAPIServer(t *testing.T, set, namespace string) *apiServer {
	t.Helper()
	s := &apiServer{account: t.TempDir(), answers: map[string]string{"hosts-updater": set, "home": namespace}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked, s.tokens = append(s.asked, r.Method+" "+r.URL.Path), append(s.tokens, r.Header.Get("Authorization"))
		var status int
		answer := s.answers[filepath.Base(r.URL.Path)]
		_, err := fmt.Sscan(answer, &status)
		assert.NoError(t, err)
		_, body, _ := strings.Cut(answer, " ")
		w.WriteHeader(status)
		_, err = w.Write([]byte(body))
		assert.NoError(t, err)
	}))
	t.Cleanup(s.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(s.account, "ca.crt"), certificate, 0o600))
	s.renew(t, "first")
	return s
}

func (s *apiServer) renew(t *testing.T, token string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(s.account, "token"), []byte(token+"\n"), 0o600))
}

func (s *apiServer) answer(set, namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = map[string]string{"hosts-updater": set, "home": namespace}
}

func (s *apiServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// runs starts the command as a pod of the DaemonSet does.
func (s *apiServer) runs(t *testing.T) *process {
	t.Helper()
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(t, err)
	return startIn(t, []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port},
		"--daemonset=home/hosts-updater", "--service-account="+s.account)
}

// ends sends SIGTERM and returns the hosts file as it is left.
func (p *process) ends(t *testing.T) string {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.Wait())
	return read(t, p.hosts)
}

func TestTheLinesGoWithTheDaemonSet(t *testing.T) {
	const kept, removed = demoLine + etcHosts, etcHosts
	for _, test := range []struct {
		name           string
		set, namespace string // what is answered at the end
		want           string
	}{
		{"a pod that ends for itself leaves them", there, there, kept},
		{"a DaemonSet that is gone takes them along", notFound, there, removed},
		{"so does one that waits for its pods", ending, there, removed},
		{"so does a namespace that is ending, whose pods may go first", there, ending, removed},
		{"so does an account that is gone with it", unknown, unknown, removed},
		{"so does a role that is gone with it", refused, refused, removed},
		{"an API server in trouble leaves them", "500 {}", "500 {}", kept},
		{"one that is busy leaves them", "429 {}", "429 {}", kept},
		{"a proxy's page leaves them", "404 <html>", "404 <html>", kept},
		{"an answer that is cut off leaves them", `200 {"metadata":`, there, kept},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // some ask for seconds
			server := startAPIServer(t, there, there)
			p := server.runs(t)
			require.Eventually(t, func() bool { return len(server.requests()) >= 2 }, soon, 5e6)
			server.answer(test.set, test.namespace)
			assert.Equal(t, test.want, p.ends(t), p.log.String())
		})
	}
	t.Run("who was never allowed to ask leaves them", func(t *testing.T) {
		server := startAPIServer(t, refused, refused)
		p := server.runs(t)
		require.Eventually(t, func() bool { return len(server.requests()) >= 2 }, soon, 5e6)
		assert.Equal(t, kept, p.ends(t))
	})
	t.Run("an API server out of reach leaves them", func(t *testing.T) {
		server := startAPIServer(t, there, there)
		p := server.runs(t)
		require.Eventually(t, func() bool { return len(server.requests()) >= 2 }, soon, 5e6)
		server.Close()
		assert.Equal(t, kept, p.ends(t))
		assert.Contains(t, p.log.String(), "kept lines in hosts file: whether the DaemonSet is gone was not told")
	})
	t.Run("a kill leaves them", func(t *testing.T) {
		server := startAPIServer(t, there, there)
		p := server.runs(t)
		require.NoError(t, p.Process.Kill())
		require.Error(t, p.Wait())
		assert.Equal(t, kept, read(t, p.hosts))
	})
	t.Run("it asks twice in its life, with the token of the moment", func(t *testing.T) {
		server := startAPIServer(t, there, there)
		p := server.runs(t)
		require.Eventually(t, func() bool { return len(server.requests()) >= 2 }, soon, 5e6)
		server.renew(t, "second")
		p.ends(t)
		once := []string{"GET /apis/apps/v1/namespaces/home/daemonsets/hosts-updater", "GET /api/v1/namespaces/home"}
		assert.Equal(t, append(once, once...), server.requests())
		assert.Equal(t, []string{"Bearer first", "Bearer first", "Bearer second", "Bearer second"}, server.tokens)
		assert.NotContains(t, p.log.String(), "first")
	})
	t.Run("outside of a pod it works, and leaves them", func(t *testing.T) {
		p := startIn(t, []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT="}, "--daemonset=home/hosts-updater")
		assert.Equal(t, kept, p.ends(t))
		assert.Contains(t, p.log.String(), "lines will stay when the DaemonSet goes")
	})
	t.Run("without its account's files it works, and leaves them", func(t *testing.T) {
		for _, spoil := range []func(folder string) error{
			func(folder string) error { return os.Remove(filepath.Join(folder, "ca.crt")) },
			func(folder string) error { return os.WriteFile(filepath.Join(folder, "ca.crt"), []byte("none"), 0o600) },
			func(folder string) error { return os.Remove(filepath.Join(folder, "token")) },
		} {
			server := startAPIServer(t, notFound, notFound)
			require.NoError(t, spoil(server.account))
			assert.Equal(t, kept, server.runs(t).ends(t))
		}
	})
}

func TestTheWaitForTheDaemonSetEndsWithTheProcess(t *testing.T) {
	server := startAPIServer(t, notFound, notFound)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	set, err := newDaemonSet("home/hosts-updater", server.account, host, port)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); set.see(t.Context(), slog.New(slog.DiscardHandler)) }()
	require.Eventually(t, func() bool { return len(server.requests()) >= 2 }, soon, 5e6)
	assert.False(t, set.seen.Load())
	server.answer(there, there)
	<-done
	assert.True(t, set.seen.Load())
}
