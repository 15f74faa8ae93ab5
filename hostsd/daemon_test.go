//go:build linux

package hostsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

func (m *mounted) swap(t *testing.T, content string) {
	t.Helper()
	m.made++
	name := fmt.Sprintf("..2026_01_01_00_00_00.%d", m.made)
	before, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	require.NoError(t, os.Mkdir(filepath.Join(m.dir, name), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, name, ConfigFile), []byte(content), 0o644))
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

func start(t *testing.T, hosts, config string) *running {
	t.Helper()
	r := &running{config: mounted{dir: t.TempDir()}, hosts: hosts, log: &lockedBuffer{}}
	if config != "" {
		r.config.swap(t, config)
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

func TestDaemon(t *testing.T) {
	t.Run("a change of the mounted ConfigMap is applied within a second", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		for _, step := range []struct{ config, want string }{
			{bothConfig, vpcLine + demoLine + ubuntuFile}, {demoConfig, demoLine + ubuntuFile}, {"hosts: []", ubuntuFile},
		} {
			swapped := time.Now()
			r.config.swap(t, step.config)
			r.becomes(t, step.want)
			assert.Less(t, time.Since(swapped), time.Second)
			t.Logf("applied after %s", time.Since(swapped))
		}
		r.shows(t, `tcr_hosts_writes_total{mode="rename"}`, "4")
		assert.Equal(t, "0", r.metric(t, "tcr_hosts_repairs_total"))
		alone(t, r.hosts)
	})
	t.Run("a configuration in a plain file works alike", func(t *testing.T) {
		config := filepath.Join(t.TempDir(), "mine.yaml")
		require.NoError(t, os.WriteFile(config, []byte(demoConfig), 0o600))
		hosts := write(t, ubuntuFile)
		r := &running{hosts: hosts, log: &lockedBuffer{}}
		r.Daemon = New(Options{Config: config, HostsFile: hosts, ResyncPeriod: time.Hour, Log: slog.New(slog.NewTextHandler(r.log, nil))})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		r.becomes(t, demoLine+ubuntuFile)
		require.NoError(t, os.WriteFile(config, []byte("hosts: []"), 0o600))
		r.becomes(t, ubuntuFile)
		cancel()
		<-done
	})
	t.Run("foreign edits are repaired and counted", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		require.NoError(t, os.WriteFile(r.hosts, []byte(ubuntuFile+"10.1.1.1 theirs\n"), 0o644))
		r.becomes(t, demoLine+ubuntuFile+"10.1.1.1 theirs\n")
		require.NoError(t, os.Remove(r.hosts))
		r.becomes(t, demoLine)
		r.shows(t, "tcr_hosts_repairs_total", "2")
		r.eventually(t, "both are logged", func() bool { return r.logged("repaired hosts file") == 2 })
	})
	t.Run("foreign edits elsewhere in the file cause no write", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		f, err := os.OpenFile(r.hosts, os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		_, err = f.WriteString("10.1.1.1 theirs\n1.2.3.4 demo.tencentcloudcr.com\n")
		require.NoError(t, errors.Join(err, f.Close()))
		r.shows(t, "tcr_hosts_conflicts", "1")
		r.shows(t, `tcr_hosts_writes_total{mode="rename"}`, "1")
		assert.Contains(t, r.log.String(), `msg="found conflicting line" hostsFile=`+r.hosts+` line=8 domain=demo.tencentcloudcr.com ip=1.2.3.4`)
	})
	t.Run("refused entries are told one by one, and the valid ones apply", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig+"- {domain: localhost, ip: 10.0.0.5}\n- {domain: node-1, ip: 10.0.0.5}\n")
		r.becomes(t, demoLine+ubuntuFile)
		assert.Equal(t, 2, r.logged("refused entry"))
		assert.Contains(t, r.log.String(), "field=hosts[1].domain domain=localhost line=3")
		assert.Contains(t, r.log.String(), "field=hosts[2].domain domain=node-1 line=4", "the node's own name, which has no effect")
		r.eventually(t, "ready", func() bool { code, _ := r.get(t, "/readyz"); return code == http.StatusOK })
		r.shows(t, "tcr_hosts_entries_refused", "2")
		r.shows(t, "tcr_hosts_entries", "1")
	})
	t.Run("a hard link that goes astray is told of", func(t *testing.T) {
		path := write(t, ubuntuFile)
		other := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.Link(path, other))
		r := start(t, path, demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		r.eventually(t, "told", func() bool { return r.logged("hosts file lost its hard links") == 1 })
		assert.Contains(t, r.log.String(), "hostsFile="+path+" links=1")
		content, err := os.ReadFile(other)
		require.NoError(t, err)
		assert.Equal(t, ubuntuFile, string(content))
		r.config.swap(t, bothConfig)
		r.becomes(t, vpcLine+demoLine+ubuntuFile)
		assert.Equal(t, 1, r.logged("hosts file lost its hard links"), "it has none any more")
	})
	t.Run("a refused address leaves the last good line", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		r.config.swap(t, strings.Replace(bothConfig, "demo.tencentcloudcr.com, ip: 10.0.0.5", "demo.tencentcloudcr.com, ip: 10.0.0", 1))
		r.becomes(t, vpcLine+demoLine+ubuntuFile)
	})
	t.Run("an unreadable configuration changes nothing and heals", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		r.config.swap(t, "hosts:\n- {domain: demo")
		r.shows(t, `tcr_hosts_degraded{part="config"}`, "1")
		code, body := r.get(t, "/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Contains(t, body, "parsing the configuration: "+r.config.dir+"/hosts.yaml is not YAML")
		code, _ = r.get(t, "/healthz")
		assert.Equal(t, http.StatusOK, code)
		require.NoError(t, os.WriteFile(r.hosts, []byte(ubuntuFile), 0o644))
		r.becomes(t, demoLine+ubuntuFile) // the last good one is kept up
		assert.Equal(t, 1, r.logged("kept last good configuration"))
		r.config.swap(t, bothConfig)
		r.becomes(t, vpcLine+demoLine+ubuntuFile)
		r.eventually(t, "healed", func() bool { return r.logged("configuration is readable again") == 1 })
		r.shows(t, `tcr_hosts_degraded{part="config"}`, "0")
	})
	t.Run("without any configuration the lines of an earlier run stay", func(t *testing.T) {
		r := start(t, write(t, vpcLine+ubuntuFile), "")
		r.shows(t, `tcr_hosts_degraded{part="config"}`, "1")
		assert.Equal(t, vpcLine+ubuntuFile, read(t, r.hosts))
		r.shows(t, "tcr_hosts_entries", "1")
		r.config.swap(t, demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		r.shows(t, "tcr_hosts_repairs_total", "0")
	})
	t.Run("an immutable file is a degraded state that heals", func(t *testing.T) {
		path := write(t, ubuntuFile)
		chattr(t, path, 0x10) // FS_IMMUTABLE_FL
		r := start(t, path, demoConfig)
		r.shows(t, `tcr_hosts_degraded{part="hosts_file"}`, "1")
		code, body := r.get(t, "/readyz")
		assert.Equal(t, http.StatusOK, code, "a node that cannot be helped must not keep the others from an update")
		assert.Contains(t, body, "run chattr -i on the node")
		r.shows(t, `tcr_hosts_failures_total{part="hosts_file"}`, "2")
		assert.Equal(t, 1, r.logged("left hosts file as it was"), "an error is logged once")
		chattr(t, path, 0)
		r.becomes(t, demoLine+ubuntuFile)
		r.eventually(t, "healed", func() bool { return r.logged("hosts file is writable again") == 1 })
		assert.Equal(t, "0", r.metric(t, "tcr_hosts_repairs_total"), "nobody had changed our lines")
		_, body = r.get(t, "/readyz")
		assert.Equal(t, "ok\n", body)
	})
	t.Run("it is not ready before the first pass, and not healthy in one that does not end", func(t *testing.T) {
		d := New(Options{Log: slog.New(slog.DiscardHandler)})
		_, err := d.ready()
		require.Error(t, err)
		now := time.Now()
		require.NoError(t, d.healthy(now))
		d.began = now
		require.NoError(t, d.healthy(now.Add(stuck)))
		require.ErrorContains(t, d.healthy(now.Add(stuck+time.Second)), "a pass has not ended since")
	})
}

func chattr(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
	if flags != 0 {
		t.Cleanup(func() { chattr(t, path, 0) })
	}
}

func TestDaemonBesideOthers(t *testing.T) {
	t.Parallel()
	t.Run("two with the same configuration write once", func(t *testing.T) {
		hosts := write(t, ubuntuFile)
		a, b := start(t, hosts, bothConfig), start(t, hosts, bothConfig)
		a.becomes(t, vpcLine+demoLine+ubuntuFile)
		time.Sleep(500 * time.Millisecond)
		writes := a.metric(t, `tcr_hosts_writes_total{mode="rename"}`) + b.metric(t, `tcr_hosts_writes_total{mode="rename"}`)
		assert.Contains(t, []string{"10", "01"}, writes)
	})
	t.Run("two with different ones slow each other down, and settle once they agree", func(t *testing.T) {
		hosts := write(t, ubuntuFile)
		a, b := start(t, hosts, demoConfig), start(t, hosts, bothConfig)
		time.Sleep(6 * time.Second)
		for _, r := range []*running{a, b} {
			var writes int
			_, err := fmt.Sscan(r.metric(t, `tcr_hosts_writes_total{mode="rename"}`), &writes)
			require.NoError(t, err)
			assert.Positive(t, writes)
			assert.LessOrEqual(t, writes, 8)
		}
		a.config.swap(t, bothConfig)
		a.becomes(t, vpcLine+demoLine+ubuntuFile)
		time.Sleep(200 * time.Millisecond)
		assert.Equal(t, vpcLine+demoLine+ubuntuFile, read(t, hosts))
	})
	for _, other := range rewriters {
		t.Run("one that "+other.name+" every 10 ms for 10 s loses no line, nor do we", func(t *testing.T) {
			t.Parallel()
			r := start(t, write(t, ubuntuFile), demoConfig)
			r.becomes(t, demoLine+ubuntuFile)
			stop := make(chan struct{})
			time.AfterFunc(10*time.Second, func() { close(stop) })
			lines, err := rewrite(other, r.hosts, 10*time.Millisecond, stop)
			require.NoError(t, err)
			require.Greater(t, len(lines), 250)
			r.becomes(t, demoLine+ubuntuFile+strings.Join(lines, ""))
		})
	}
}

func TestDaemonOnHostileNodes(t *testing.T) {
	t.Parallel()
	t.Run("a change of a hosts file that is a mount is noticed", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			source := write(t, ubuntuFile)
			path := filepath.Join(t.TempDir(), "hosts")
			require.NoError(t, os.WriteFile(path, nil, 0o644))
			mount(t, source, path, "", unix.MS_BIND, "")
			r := start(t, path, demoConfig)
			r.becomes(t, demoLine+ubuntuFile)
			require.NoError(t, os.WriteFile(source, []byte(ubuntuFile), 0o644))
			r.becomes(t, demoLine+ubuntuFile)
			r.shows(t, `tcr_hosts_write_mode{mode="in_place"}`, "1")
			r.shows(t, `tcr_hosts_write_mode{mode="rename"}`, "0")
		})
	})
	t.Run("a read-only mount that becomes writable heals by itself", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile)
			dir := filepath.Dir(path)
			mount(t, dir, dir, "", unix.MS_BIND, "")
			mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			r := start(t, path, demoConfig)
			r.shows(t, `tcr_hosts_degraded{part="hosts_file"}`, "1")
			mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT, "")
			r.becomes(t, demoLine+ubuntuFile)
		})
	})
	t.Run("without inotify it polls", func(t *testing.T) {
		t.Parallel()
		if !isChild(t) {
			cmd := child(t)
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER // whose own limits the child may lower
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}
			run(t, cmd)
			return
		}
		require.NoError(t, os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0))
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		assert.Equal(t, 1, r.logged("polling for changes"))
		r.config.swap(t, bothConfig)
		r.becomes(t, vpcLine+demoLine+ubuntuFile)
	})
	for _, kind := range []string{"file", "mount"} {
		t.Run("the node's resolver sees a hosts file that is a "+kind, func(t *testing.T) {
			inMountNamespace(t, func(t *testing.T) {
				etc := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(etc, "nsswitch.conf"), []byte("hosts: files\n"), 0o644))
				require.NoError(t, os.WriteFile(filepath.Join(etc, "hosts"), []byte("127.0.0.1 localhost"), 0o644))
				mount(t, etc, "/etc", "", unix.MS_BIND, "")
				if kind == "mount" {
					mount(t, "/etc/hosts", "/etc/hosts", "", unix.MS_BIND, "")
				}
				getent := func(domain string) string {
					out, err := exec.Command("getent", "hosts", domain).Output()
					var exit *exec.ExitError
					if errors.As(err, &exit) {
						require.Equal(t, 2, exit.ExitCode(), "not found")
					} else {
						require.NoError(t, err)
					}
					return strings.Join(strings.Fields(string(out)), " ")
				}
				const domain = "demo-vpc.tencentcloudcr.com"
				r := start(t, "/etc/hosts", demoConfig)
				r.becomes(t, demoLine+"127.0.0.1 localhost")
				assert.Empty(t, getent(domain))
				r.config.swap(t, bothConfig)
				r.becomes(t, vpcLine+demoLine+"127.0.0.1 localhost")
				assert.Equal(t, "10.0.0.5 "+domain, getent(domain))
				assert.Equal(t, "127.0.0.1 localhost", getent("localhost"))
				require.NoError(t, os.WriteFile("/etc/hosts", []byte("10.9.9.9 "+domain+"\n"), 0o644))
				r.becomes(t, vpcLine+demoLine+"10.9.9.9 "+domain+"\n")
				assert.Equal(t, "10.0.0.5 "+domain, getent(domain), "ours wins over a foreign line")
				require.NoError(t, os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost"), 0o644))
				r.config.swap(t, demoConfig)
				r.becomes(t, demoLine+"127.0.0.1 localhost")
				assert.Empty(t, getent(domain))
			})
		})
	}
}

func TestWhatIsWrittenWhileOursIsCheckedStays(t *testing.T) {
	inMountNamespace(t, func(t *testing.T) {
		const rounds = 20
		hosts := filepath.Join(t.TempDir(), "hosts")
		theirs := func(round int) string { return fmt.Sprintf("10.9.9.9 theirs-%03d.example.com\n", round) }
		require.NoError(t, os.WriteFile(hosts, []byte(theirs(0)), 0o644))
		mount(t, hosts, hosts, "", unix.MS_BIND, "")
		config := func(round int) string {
			return fmt.Sprintf("hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.%d}\n", 100+round)
		}
		ours := func(round int) string {
			return fmt.Sprintf("10.0.0.%d demo.tencentcloudcr.com # managed by tcr hosts-updater\n", 100+round)
		}
		r := start(t, hosts, config(0))
		r.becomes(t, ours(0)+theirs(0))
		for round := 1; round < rounds; round++ {
			r.config.swap(t, config(round))
			r.becomes(t, ours(round)+theirs(round-1))
			// Ours is there, and is being read back. One write of the same length, which no one can see half of.
			file, err := os.OpenFile(hosts, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = file.WriteAt([]byte(theirs(round)), int64(len(ours(round))))
			require.NoError(t, err)
			require.NoError(t, file.Close())
			r.becomes(t, ours(round)+theirs(round))
		}
	})
}

func TestNodeNames(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("NODE_NAME", "node-2")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hostname"), []byte("node-1\n"), 0o644))
	own, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, []string{"node-1\n", own, "node-2"}, NodeNames(filepath.Join(dir, "hosts")))
	assert.Equal(t, []string{own, "node-2"}, NodeNames(filepath.Join(dir, "missing/hosts")))
}
