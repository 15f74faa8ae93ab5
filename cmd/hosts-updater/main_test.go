//go:build linux

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

const (
	etcHosts   = "127.0.0.1 localhost\n"
	demoConfig = "hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n"
	demoLine   = "10.0.0.5 demo.tencentcloudcr.com " + hostsd.Marker + "\n"
	soon       = 20 * time.Second
)

// binary is the command, built as it is released.
var binary string

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "hosts-updater")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "hosts-updater")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v1.2.3", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building hosts-updater: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}()
	os.Exit(code)
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"an unknown flag", []string{"--host-file=x"}, "flag provided but not defined: -host-file"},
		{"an argument", []string{"once"}, `unexpected argument "once": all options are flags`},
		{"both ways of one pass", []string{"--once", "--cleanup"}, "--once and --cleanup exclude each other"},
		{"a resync period without unit", []string{"--resync-period=30"}, `invalid value "30" for flag -resync-period`},
		{"a resync period that is too short", []string{"--resync-period=10ms"}, "--resync-period=10ms: must be at least 1s"},
		{"a log format", []string{"--log-format=xml"}, `--log-format="xml": must be json or text`},
		{"a log level", []string{"--log-level=loud"}, `--log-level="loud": must be debug, info, warn or error`},
		{"no configuration", []string{"--config="}, "--config is empty: name the configuration file"},
		{"a DaemonSet without a namespace", []string{"--daemonset=hosts-updater"}, `--daemonset="hosts-updater": must be a namespace and a name`},
		{"a DaemonSet that is a path", []string{"--daemonset=a/../b"}, `--daemonset="a/../b": must be a namespace and a name`},
		{"no hosts file", []string{"--hosts-file="}, "--hosts-file is empty: name the node's hosts file"},
	} {
		t.Run(test.name+" is refused", func(t *testing.T) {
			var stderr bytes.Buffer
			assert.Equal(t, exitUsage, run(t.Context(), test.args, io.Discard, &stderr))
			assert.Contains(t, stderr.String(), "hosts-updater: "+test.want)
		})
	}
	t.Run("help tells of every flag", func(t *testing.T) {
		var stderr bytes.Buffer
		assert.Equal(t, exitOK, run(t.Context(), []string{"--help"}, io.Discard, &stderr))
		for _, name := range []string{"config", "hosts-file", "resync-period", "once", "cleanup", "daemonset", "service-account",
			"metrics-bind-address", "log-format", "log-level", "version"} {
			assert.Contains(t, stderr.String(), "\n  -"+name)
		}
	})
	t.Run("version is what the linker set", func(t *testing.T) {
		out, err := exec.Command(binary, "--version").Output()
		require.NoError(t, err)
		assert.Equal(t, "tcr-assistant hosts-updater v1.2.3\n", string(out))
	})
}

func TestOnceAndCleanup(t *testing.T) {
	once := func(t *testing.T, args ...string) (int, string) {
		t.Helper()
		var stderr bytes.Buffer
		code := run(t.Context(), append(args, "--log-format=text"), io.Discard, &stderr)
		return code, stderr.String()
	}
	t.Run("one pass that did all exits with 0", func(t *testing.T) {
		hosts := write(t, "hosts", etcHosts)
		code, _ := once(t, "--once", "--config", write(t, "hosts.yaml", demoConfig), "--hosts-file", hosts)
		assert.Equal(t, exitOK, code)
		assert.Equal(t, demoLine+etcHosts, read(t, hosts))
	})
	t.Run("one pass with a refused entry does the others and exits with 3", func(t *testing.T) {
		hosts := write(t, "hosts", etcHosts)
		code, log := once(t, "--once", "--config", write(t, "hosts.yaml", demoConfig+"- {domain: localhost, ip: 10.0.0.5}\n"), "--hosts-file",
			hosts)
		assert.Equal(t, exitRefused, code)
		assert.Equal(t, demoLine+etcHosts, read(t, hosts))
		assert.Contains(t, log, `msg="refused entry"`)
	})
	t.Run("one pass refuses the name that NODE_NAME gives", func(t *testing.T) {
		t.Setenv("NODE_NAME", "demo.tencentcloudcr.com")
		hosts := write(t, "hosts", etcHosts)
		code, _ := once(t, "--once", "--config", write(t, "hosts.yaml", demoConfig), "--hosts-file", hosts)
		assert.Equal(t, exitRefused, code)
		assert.Equal(t, etcHosts, read(t, hosts))
	})
	t.Run("an unreadable configuration exits with 1 and changes nothing", func(t *testing.T) {
		hosts := write(t, "hosts", demoLine+etcHosts)
		code, log := once(t, "--once", "--config", "/nonexistent/hosts.yaml", "--hosts-file", hosts)
		assert.Equal(t, exitFailed, code)
		assert.Equal(t, demoLine+etcHosts, read(t, hosts))
		assert.Contains(t, log, "reading the configuration: open /nonexistent/hosts.yaml: no such file or directory")
	})
	t.Run("one pass without a configuration that can be read says that there is none, and exits with 1", func(t *testing.T) {
		hosts := write(t, "hosts", demoLine+etcHosts)
		for _, config := range []string{"/nonexistent/hosts.yaml", write(t, "hosts.yaml", "hosts: {")} {
			code, log := once(t, "--once", "--config", config, "--hosts-file", hosts)
			assert.Equal(t, exitFailed, code)
			assert.Equal(t, demoLine+etcHosts, read(t, hosts))
			assert.Contains(t, log, `msg="read no configuration"`)
			assert.NotContains(t, log, "last good")
		}
	})
	t.Run("a hosts file that cannot be written exits with 1", func(t *testing.T) {
		code, log := once(t, "--once", "--config", write(t, "hosts.yaml", demoConfig), "--hosts-file", "/nonexistent/hosts")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, log, `msg="left hosts file as it was"`)
	})
	t.Run("cleanup removes our lines, needs no configuration, and may be repeated", func(t *testing.T) {
		hosts := write(t, "hosts", etcHosts+demoLine+"10.1.1.1 theirs")
		for _, want := range []string{`msg="removed lines from hosts file"`, `msg="found no lines of ours in hosts file"`} {
			code, log := once(t, "--cleanup", "--config", "", "--hosts-file", hosts)
			assert.Equal(t, exitOK, code)
			assert.Equal(t, etcHosts+"10.1.1.1 theirs", read(t, hosts))
			assert.Contains(t, log, want)
			assert.NotContains(t, log, "entries=0")
		}
	})
	t.Run("cleanup that cannot write exits with 1", func(t *testing.T) {
		code, log := once(t, "--cleanup", "--hosts-file", "/nonexistent/hosts")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, log, `msg="left lines in hosts file"`)
	})
	t.Run("an address in use exits with 1", func(t *testing.T) {
		code, log := once(t, "--config", write(t, "hosts.yaml", demoConfig), "--hosts-file", write(t, "hosts", ""), "--metrics-bind-address",
			"256.0.0.1:1")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, log, "see --metrics-bind-address")
	})
}

// TestCleanupOutwaitsOtherWriters holds the lock that writers take for longer than one attempt lasts.
func TestCleanupOutwaitsOtherWriters(t *testing.T) {
	t.Parallel()
	hosts := write(t, "hosts", demoLine+etcHosts)
	folder, err := os.Open(filepath.Dir(hosts))
	require.NoError(t, err)
	defer folder.Close()
	require.NoError(t, syscall.Flock(int(folder.Fd()), syscall.LOCK_EX))
	log := &releasing{release: func() { assert.NoError(t, syscall.Flock(int(folder.Fd()), syscall.LOCK_UN)) }}
	assert.Equal(t, exitOK, run(t.Context(), []string{"--cleanup", "--hosts-file", hosts}, io.Discard, log), log.String())
	assert.Equal(t, etcHosts, read(t, hosts))
}

// releasing is a log that lets go of something at its first line.
type releasing struct {
	bytes.Buffer
	release func()
}

func (r *releasing) Write(line []byte) (int, error) {
	if r.Len() == 0 {
		r.release()
	}
	return r.Buffer.Write(line)
}

func TestBinary(t *testing.T) {
	t.Run("it links nothing of Kubernetes", func(t *testing.T) {
		out, err := exec.Command("go", "list", "-deps", ".").Output()
		require.NoError(t, err)
		deps := strings.Fields(string(out))
		require.Contains(t, deps, "github.com/tcr-assistant/tcr-assistant/hostsd")
		for _, dep := range deps {
			assert.False(t, strings.Contains(dep, "k8s.io/"), dep)
			if strings.HasPrefix(dep, "github.com/tcr-assistant/") {
				assert.Contains(t, []string{"github.com/tcr-assistant/tcr-assistant/hostsd",
					"github.com/tcr-assistant/tcr-assistant/cmd/hosts-updater"}, dep)
			}
		}
	})
	t.Run("it is static and smaller than 10 MB", func(t *testing.T) {
		info, err := os.Stat(binary)
		require.NoError(t, err)
		t.Logf("%d bytes", info.Size())
		assert.Less(t, info.Size(), int64(10_000_000))
		file, err := elf.Open(binary)
		require.NoError(t, err)
		defer file.Close()
		for _, segment := range file.Progs {
			assert.NotEqual(t, elf.PT_INTERP, segment.Type, "it needs a dynamic linker")
		}
	})
}

// process is the running binary.
type process struct {
	*exec.Cmd
	config, hosts, address string
	log                    *bytes.Buffer
}

// start runs the command with the usual flags.
func start(t *testing.T) *process {
	t.Helper()
	return startIn(t, nil)
}

// startIn runs it with more variables in its environment, and flags that come after the usual ones and override them.
func startIn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{config: write(t, "hosts.yaml", demoConfig), hosts: write(t, "hosts", etcHosts), log: &bytes.Buffer{}}
	p.address = "127.0.0.1:" + freePort(t)
	p.Cmd = exec.Command(binary, "--config", p.config, "--hosts-file", p.hosts, "--metrics-bind-address", p.address)
	p.Args = append(p.Args, args...)
	p.Stderr = p.log
	p.Env = append(os.Environ(), env...)
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	require.Eventually(t, func() bool { return p.get("/readyz") == "ok\n" }, soon, 10*time.Millisecond)
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return port
}

// get returns the body, empty unless the answer is 200.
func (p *process) get(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// proc sums a field over the files that match a pattern below /proc/<pid>.
func (p *process) proc(t *testing.T, pattern, field string) int {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/%s", p.Process.Pid, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	sum := 0
	for _, path := range paths {
		for line := range strings.Lines(read(t, path)) {
			if value, ok := strings.CutPrefix(line, field+":"); ok {
				n, err := strconv.Atoi(strings.Fields(value)[0])
				require.NoError(t, err)
				sum += n
			}
		}
	}
	return sum
}

func TestSIGTERMLeavesTheLines(t *testing.T) {
	p := start(t)
	require.Equal(t, demoLine+etcHosts, read(t, p.hosts))
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.Wait())
	assert.Equal(t, demoLine+etcHosts, read(t, p.hosts))
	assert.Contains(t, p.log.String(), `"msg":"stopped"`)
}

func TestMemoryAtWork(t *testing.T) {
	t.Parallel()
	p := start(t)
	var many strings.Builder
	many.WriteString("hosts:\n")
	for i := range 100 {
		fmt.Fprintf(&many, "- {domain: r%d.tencentcloudcr.com, ip: 10.0.0.%d}\n", i, i+1)
	}
	for i := range 40 {
		require.NoError(t, os.WriteFile(p.config, []byte([]string{demoConfig, many.String()}[i%2]), 0o644))
		want := []string{"\ntcr_hosts_entries 1\n", "\ntcr_hosts_entries 100\n"}[i%2]
		require.Eventually(t, func() bool { return strings.Contains(p.get("/metrics"), want) }, soon, 10*time.Millisecond)
	}
	peak := p.proc(t, "status", "VmHWM")
	t.Logf("%d kB at most, over 40 changes of 100 entries and a scrape each 10 ms", peak)
	assert.Less(t, peak, 15_000)
}

func TestIdle(t *testing.T) {
	t.Parallel()
	p := start(t)
	time.Sleep(2 * time.Second) // the watch's echo of its own write
	measure := func() (switches, written, ticks int) {
		stat := strings.Fields(read(t, fmt.Sprintf("/proc/%d/stat", p.Process.Pid)))
		user, err := strconv.Atoi(stat[13])
		require.NoError(t, err)
		system, err := strconv.Atoi(stat[14])
		require.NoError(t, err)
		return p.proc(t, "task/*/status", "voluntary_ctxt_switches") + p.proc(t, "task/*/status", "nonvoluntary_ctxt_switches"),
			p.proc(t, "io", "syscw"), user + system
	}
	before, written, ticks := measure()
	require.Positive(t, before, "context switches can be counted")
	require.Positive(t, written, "write calls can be counted")
	time.Sleep(30 * time.Second)
	after, writtenAfter, ticksAfter := measure()
	t.Logf("in 30 s: %d context switches of all threads, %d write calls, %d ticks of 10 ms of processor time", after-before,
		writtenAfter-written, ticksAfter-ticks)
	assert.Equal(t, written, writtenAfter, "write calls")
	assert.LessOrEqual(t, after-before, 30, "wake-ups")
	assert.LessOrEqual(t, ticksAfter-ticks, 1, "processor time")
}
