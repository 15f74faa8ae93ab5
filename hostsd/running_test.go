//go:build linux

package hostsd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	demoConfig = "hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n"
	bothConfig = demoConfig + "- {domain: demo-vpc.tencentcloudcr.com, ip: 10.0.0.5}\n"
	// soon is how long a test waits for what takes a fraction of it.
	soon = 20 * time.Second
)

// mounted is a folder that changes as the kubelet changes a mounted ConfigMap (Kubernetes,
// pkg/volume/util/atomic_writer.go): the link ..data is swapped from one folder to another.
type mounted struct {
	dir  string
	made int
}

// What was found is mounted beside it, where there is something.
func (m *mounted) swap(t *testing.T, content string, found ...string) {
	t.Helper()
	m.made++
	name := fmt.Sprintf("..2026_01_01_00_00_00.%d", m.made)
	before, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	require.NoError(t, os.Mkdir(filepath.Join(m.dir, name), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, name, ConfigFile), []byte(content), 0o644))
	_ = os.Remove(filepath.Join(m.dir, DiscoveredFile)) // it may not be there
	for _, text := range found {
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, name, DiscoveredFile), []byte(text), 0o644))
		require.NoError(t, os.Symlink("..data/"+DiscoveredFile, filepath.Join(m.dir, DiscoveredFile)))
	}
	require.NoError(t, os.Symlink(name, filepath.Join(m.dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	if before != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(m.dir, before)))
		return
	}
	require.NoError(t, os.Symlink("..data/"+ConfigFile, filepath.Join(m.dir, ConfigFile)))
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a daemon at work.
type running struct {
	*Daemon
	config mounted
	hosts  string
	log    *lockedBuffer
}

func start(t *testing.T, hosts, config string, found ...string) *running {
	t.Helper()
	r := &running{config: mounted{dir: t.TempDir()}, hosts: hosts, log: &lockedBuffer{}}
	if config != "" {
		r.config.swap(t, config, found...)
	}
	r.Daemon = New(Options{
		Config: r.config.dir, HostsFile: hosts, ResyncPeriod: time.Hour, NodeNames: []string{"node-1"}, Version: "v1.2.3",
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(soon):
			t.Error("Run does not return")
		}
	})
	return r
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(rec.Body)
	require.NoError(t, err)
	return rec.Code, string(body)
}

// metric returns the value of a series, as its text.
func (r *running) metric(t *testing.T, series string) string {
	t.Helper()
	_, body := r.get(t, "/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (.*)$`).FindStringSubmatch(body)
	require.NotNil(t, m, "no series %s", series)
	return m[1]
}

func (r *running) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, soon, 5*time.Millisecond, "%s; log:\n%s", what, r.log)
}

func (r *running) becomes(t *testing.T, want string) {
	t.Helper()
	r.eventually(t, "hosts file becomes "+want, func() bool {
		content, err := os.ReadFile(r.hosts)
		return err == nil && string(content) == want
	})
}

// shows waits for a metric, which tells of a pass a moment after the file does.
func (r *running) shows(t *testing.T, series, want string) {
	t.Helper()
	r.eventually(t, series+" becomes "+want, func() bool { return r.metric(t, series) == want })
}

func (r *running) logged(message string) int {
	return strings.Count(r.log.String(), `msg="`+message+`"`)
}
