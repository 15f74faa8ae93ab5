//go:build linux

package hostsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDaemonFollowsItsConfiguration(t *testing.T) {
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
}

func TestDaemonRepairsItsLinesAlone(t *testing.T) {
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
}

func TestDaemonKeepsToTheGoodPartOfItsConfiguration(t *testing.T) {
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
}

func TestDaemonSaysHowItIs(t *testing.T) {
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
			const enough = 250
			began := time.Now()
			lines, err := rewrite(other, r.hosts, 10*time.Millisecond, func(lines int) bool {
				return time.Since(began) < 10*time.Second || lines <= enough && time.Since(began) < hang
			})
			require.NoError(t, err)
			require.Greater(t, len(lines), enough)
			r.becomes(t, demoLine+ubuntuFile+strings.Join(lines, ""))
		})
	}
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

// TestDaemonTellsWhichLineWins plays another program that writes the hosts file between two passes.
func TestDaemonTellsWhichLineWins(t *testing.T) {
	const theirs = "10.9.9.9 demo.tencentcloudcr.com secret.internal\n"
	r := &running{config: mounted{dir: t.TempDir()}, hosts: write(t, ubuntuFile), log: &lockedBuffer{}}
	r.config.swap(t, bothConfig)
	r.Daemon = New(Options{Config: r.config.dir, HostsFile: r.hosts, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	tells := func(code int, want string) {
		t.Helper()
		have, body := r.get(t, LinesPath)
		assert.Equal(t, code, have)
		assert.Equal(t, want, strings.TrimSpace(body))
	}
	put := func(content string) { require.NoError(t, os.WriteFile(r.hosts, []byte(content), 0o600)) }

	tells(http.StatusServiceUnavailable, "no pass has ended yet")
	require.NoError(t, r.Sync(t.Context(), time.Now()).Err())
	const vpc = `{"domain":"demo-vpc.tencentcloudcr.com","ip":"10.0.0.5"}`
	tells(http.StatusOK, `{"lines":[`+vpc+`,{"domain":"demo.tencentcloudcr.com","ip":"10.0.0.5"}]}`)
	content, err := os.ReadFile(r.hosts)
	require.NoError(t, err)
	put(theirs + string(content))
	tells(http.StatusOK, `{"lines":[{"domain":"demo.tencentcloudcr.com","ip":"10.9.9.9"},`+vpc+`]}`)
	put(ubuntuFile)
	tells(http.StatusOK, `{"lines":[]}`)

	r.reading.Lock()
	tells(http.StatusServiceUnavailable, "another request is being answered: try again")
	r.reading.Unlock()
	require.NoError(t, os.Truncate(r.hosts, maxFile+1))
	code, body := r.get(t, LinesPath)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, body, "but a hosts file has at most")
	require.NoError(t, os.Remove(r.hosts))
	tells(http.StatusOK, `{"lines":[]}`)
	require.NoError(t, os.Mkdir(r.hosts, 0o755))
	code, body = r.get(t, LinesPath)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, body, "it is not a regular file")
}
