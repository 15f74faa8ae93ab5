//go:build linux

package main

import (
	"context"
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
	"time"

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
	watched chan string // an event for the open watch, or "" to close it
}

const (
	there    = `200 {"kind":"PartialObjectMetadata","metadata":{"name":"x"}}`
	ending   = `200 {"kind":"PartialObjectMetadata","metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"}}`
	notFound = `404 {"kind":"Status","reason":"NotFound"}`
	refused  = `403 {"kind":"Status","reason":"Forbidden"}`
	unknown  = `401 {"kind":"Status","reason":"Unauthorized"}`

	added   = `{"type":"ADDED","object":{"metadata":{"name":"updater-config"}}}`
	held    = `{"type":"MODIFIED","object":{"metadata":{"name":"updater-config","deletionTimestamp":"2026-01-01T00:00:00Z"}}}`
	deleted = `{"type":"DELETED","object":{"metadata":{"name":"updater-config"}}}`
)

// startAPIServer answers for the DaemonSet "hosts-updater" and for its namespace "home".
func startAPIServer(t *testing.T, set, namespace string) *apiServer {
	t.Helper()
	s := &apiServer{account: t.TempDir(), answers: map[string]string{"hosts-updater": set, "home": namespace}, watched: make(chan string)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked, s.tokens = append(s.asked, r.Method+" "+r.URL.RequestURI()), append(s.tokens, r.Header.Get("Authorization"))
		if r.URL.Query().Get("watch") != "" && s.answers["configmaps"] == "" {
			s.mu.Unlock()
			s.watch(w, r)
			return
		}
		defer s.mu.Unlock()
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

// watch sends what the test says until it ends it or the caller goes.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-s.watched:
			if event == "" {
				return
			}
			_, _ = w.Write([]byte(event + "\n"))
			w.(http.Flusher).Flush()
		}
	}
}

// tells sends events to the watch that is open, or to the next.
func (s *apiServer) tells(t *testing.T, events ...string) {
	t.Helper()
	for _, event := range events {
		select {
		case s.watched <- event:
		case <-time.After(soon):
			require.Fail(t, "nobody watches")
		}
	}
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

// How the hosts file is left.
const kept, removed = demoLine + etcHosts, etcHosts

// TestTheLinesGoWithTheDaemonSet ends all pods at once: some ask for seconds.
func TestTheLinesGoWithTheDaemonSet(t *testing.T) {
	t.Parallel()
	told := []string{added, deleted}
	tests := []struct {
		name           string
		set, namespace string   // what is answered at the end
		events         []string // what the watch of the configuration has told
		want           string
	}{
		{"a pod that ends for itself leaves them", there, there, nil, kept},
		{"a DaemonSet that is gone takes them along", notFound, there, nil, removed},
		{"so does one that waits for its pods", ending, there, nil, removed},
		{"so does a namespace that is ending, whose pods may go first", there, ending, nil, removed},
		{"so does one whose role has gone half", refused, ending, nil, removed},
		{"so does an uninstall that has taken the account along", unknown, unknown, told, removed},
		{"so does one that has taken the role along", refused, refused, told, removed},
		{"so does one whose configuration is held", refused, refused, []string{added, held}, removed},
		{"a pod that is deleted by force, with its token, leaves them", unknown, unknown, []string{added}, kept},
		{"a role that is gone leaves them", refused, refused, []string{added}, kept},
		{"an API server that does not know of its roles yet leaves them", refused, refused, nil, kept},
		{"a refusal does not count beside a DaemonSet that is there", there, refused, []string{added}, kept},
		{"a configuration that is back leaves them", refused, refused, []string{added, deleted, added}, kept},
		{"one that was never there leaves them", refused, refused, []string{deleted}, kept},
		{"one that is gone while the DaemonSet is there leaves them", there, there, told, kept},
		{"an API server in trouble leaves them", "500 {}", "500 {}", []string{added}, kept},
		{"one that is busy leaves them", "429 {}", "429 {}", nil, kept},
		{"a proxy's page leaves them", "404 <html>", "404 <html>", nil, kept},
		{"an answer that is cut off leaves them", `200 {"metadata":`, there, nil, kept},
	}
	pods := make([]*process, len(tests))
	for i, test := range tests {
		server := startAPIServer(t, there, there)
		pods[i] = server.runs(t)
		server.tells(t, test.events...)
		server.answer(test.set, test.namespace)
		require.NoError(t, pods[i].Process.Signal(syscall.SIGTERM), test.name)
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.NoError(t, pods[i].Wait())
			assert.Equal(t, test.want, read(t, pods[i].hosts), pods[i].log.String())
		})
	}
}

func TestWhatIsHeardUntilTheEndCounts(t *testing.T) {
	t.Run("what the watch tells while it asks counts", func(t *testing.T) {
		server := startAPIServer(t, refused, refused)
		p := server.runs(t)
		server.tells(t, added)
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		require.Eventually(t, func() bool { return len(server.requests()) >= 3 }, soon, 5e6)
		server.tells(t, deleted)
		require.NoError(t, p.Wait())
		assert.Equal(t, removed, read(t, p.hosts))
	})
	t.Run("a refusal that passes does not count", func(t *testing.T) {
		server := startAPIServer(t, refused, refused)
		p := server.runs(t)
		server.tells(t, added)
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		require.Eventually(t, func() bool { return len(server.requests()) >= 5 }, soon, 5e6)
		server.answer(notFound, there)
		require.NoError(t, p.Wait())
		assert.Equal(t, removed, read(t, p.hosts))
	})
	t.Run("a watch that ended is opened again", func(t *testing.T) {
		server := startAPIServer(t, refused, refused)
		p := server.runs(t)
		server.tells(t, added, "", added, `{"type":"ERROR","object":{"code":410}}`, deleted)
		assert.Equal(t, removed, p.ends(t), p.log.String())
	})
}

func TestNobodyToAskLeavesTheLines(t *testing.T) {
	t.Parallel()
	t.Run("an API server out of reach leaves them", func(t *testing.T) {
		t.Parallel()
		server := startAPIServer(t, there, there)
		p := server.runs(t)
		server.tells(t, added, "")
		server.Listener.Close()
		server.CloseClientConnections()
		assert.Equal(t, kept, p.ends(t))
		assert.Contains(t, p.log.String(), "kept lines in hosts file: it is unknown whether the DaemonSet is gone")
	})
	t.Run("a kill leaves them", func(t *testing.T) {
		server := startAPIServer(t, notFound, there)
		p := server.runs(t)
		require.NoError(t, p.Process.Kill())
		require.Error(t, p.Wait())
		assert.Equal(t, kept, read(t, p.hosts))
	})
	t.Run("outside of a pod it works, and leaves them", func(t *testing.T) {
		p := startIn(t, []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT="}, "--daemonset=home/hosts-updater")
		assert.Equal(t, kept, p.ends(t))
		assert.Contains(t, p.log.String(), "lines will stay when the DaemonSet goes")
	})
	t.Run("without its account's files it works, and leaves them", func(t *testing.T) {
		t.Parallel()
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

func TestWhatItAsksTheAPIServer(t *testing.T) {
	t.Run("it has one watch open and asks at its end, with the token of the moment", func(t *testing.T) {
		server := startAPIServer(t, there, there)
		p := server.runs(t)
		server.tells(t, added)
		server.renew(t, "second")
		p.ends(t)
		assert.Equal(t, []string{
			"GET /api/v1/namespaces/home/configmaps?watch=1&fieldSelector=metadata.name%3Dupdater-config",
			"GET /apis/apps/v1/namespaces/home/daemonsets/hosts-updater", "GET /api/v1/namespaces/home",
		}, server.requests())
		assert.Equal(t, []string{"Bearer first", "Bearer second", "Bearer second"}, server.tokens)
		assert.NotContains(t, p.log.String(), "first")
	})
}

func TestTheWatchEndsWithTheProcess(t *testing.T) {
	server := startAPIServer(t, there, there)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	set, err := newDaemonSet("home/hosts-updater", server.account, host, port)
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); set.watch(ctx, slog.New(slog.DiscardHandler)) }()
	server.tells(t, added)
	end()
	<-done
	assert.False(t, set.withdrawn.Load())
}

func TestAnAPIServerThatAsksForTimeIsGivenIt(t *testing.T) {
	for after, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-3": 0, "soon": 0, "86400": askFor} {
		assert.Equal(t, want, retryAfter(after), after)
	}
}
