//go:build linux

package machine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// hang bounds waits for what takes a moment: it ends a hang and measures nothing.
const hang = time.Minute

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// litter does to the machine what a node does, and starts a process that would go on for an hour.
func litter(t *testing.T) {
	t.Helper()
	require.NoError(t, os.WriteFile("/etc/hosts", []byte("10.0.0.1 elsewhere\n"), 0o644))
	require.NoError(t, os.WriteFile("/proc/sys/kernel/panic", []byte("17"), 0o644))
	for _, folder := range []string{"/run/litter", "/var/lib/litter", "/opt/litter", "/sys/fs/cgroup/memory/litter/more"} {
		require.NoError(t, os.MkdirAll(folder, 0o755))
	}
	require.NoError(t, syscall.Mount("litter", "/mnt", "tmpfs", 0, ""))
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "litter"}}))
	orphan := exec.Command("sleep", "3600")
	orphan.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, orphan.Start())
	require.NoError(t, os.WriteFile("/sys/fs/cgroup/memory/litter/more/cgroup.procs", fmt.Append(nil, orphan.Process.Pid), 0o644))
}

func TestAMachineOfItsOwn(t *testing.T) {
	Run(t, func(t *testing.T) {
		seen, err := Look()
		require.NoError(t, err)
		assert.Empty(t, seen["nftables"])
		name, err := os.Hostname()
		require.NoError(t, err)
		assert.Equal(t, HostName, name)
		interfaces, err := net.Interfaces()
		require.NoError(t, err)
		for _, i := range interfaces {
			assert.NotEqual(t, "eth0", i.Name)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:443")
		require.NoError(t, err, "the loopback interface is up and nobody else's")
		require.NoError(t, listener.Close())
		assert.Equal(t, 1, os.Getppid(), "the first process")
		own, err := ownGroups()
		require.NoError(t, err)
		for _, g := range own {
			assert.Equal(t, "/", g.path)
		}
		litter(t)
	})
}

func TestOrphansAreCollected(t *testing.T) {
	Run(t, func(t *testing.T) {
		out, err := exec.Command("sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!").Output()
		require.NoError(t, err)
		process := filepath.Join("/proc", strings.TrimSpace(string(out)))
		require.Eventually(t, func() bool { _, err := os.Stat(process); return os.IsNotExist(err) }, hang, 10*time.Millisecond)
	})
}

// TestHeldMachine is what the tests below interrupt.
func TestHeldMachine(t *testing.T) {
	if os.Getenv("TCR_ASSISTANT_TEST_HOLD_MACHINE") == "" {
		return
	}
	Run(t, func(t *testing.T) {
		litter(t)
		fmt.Println("held")
		if os.Getenv("TCR_ASSISTANT_TEST_HOLD_MACHINE") == "fail" {
			t.Fatal("this test was told to fail")
		}
		select {}
	})
}

func TestNothingIsLeft(t *testing.T) {
	Alone(t)
	for _, c := range []struct {
		name, hold string
		end        func(p *os.Process) error
	}{
		{"of a test that fails", "fail", func(*os.Process) error { return nil }},
		{"of a test that is interrupted", "hold", func(p *os.Process) error { return p.Signal(syscall.SIGINT) }},
		{"of a test that is killed", "hold", (*os.Process).Kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := Look()
			require.NoError(t, err)
			test := exec.Command(os.Args[0], "-test.run=^TestHeldMachine$", "-test.v")
			test.Env = append(os.Environ(), "TCR_ASSISTANT_TEST_HOLD_MACHINE="+c.hold)
			output, err := test.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, test.Start())
			lines := bufio.NewReader(output)
			for line := ""; line != "held\n"; {
				line, err = lines.ReadString('\n')
				require.NoError(t, err)
			}
			if c.hold == "hold" {
				during, err := Look()
				require.NoError(t, err)
				assert.NotEmpty(t, during.Since(before), "a machine is seen while it is there")
			}
			require.NoError(t, c.end(test.Process))
			rest, err := io.ReadAll(lines) // until the keeper is gone too
			require.NoError(t, err)
			assert.Error(t, test.Wait())
			assert.NotContains(t, string(rest), "left behind")
			after, err := Look()
			require.NoError(t, err)
			assert.Empty(t, after.Since(before))
		})
	}
}

func TestTraces(t *testing.T) {
	before := Traces{"same": "1", "changed": "1", "gone": "1"}
	assert.Equal(t, []string{`changed: "2", was "1"`, `gone: gone, was "1"`, `new: new, is "3"`},
		Traces{"same": "1", "changed": "2", "new": "3"}.Since(before))
}

func TestControlGroups(t *testing.T) {
	assert.Equal(t, []group{
		{folder: "cpu,cpuacct", controllers: "cpu,cpuacct", path: "/"},
		{folder: "systemd", controllers: "name=systemd", path: "/user.slice"},
	}, parseGroups("4:cpu,cpuacct:/\n1:name=systemd:/user.slice\n0::/\n"))
	assert.Equal(t, "cpu,cpuacct", group{controllers: "cpu,cpuacct"}.options())
	assert.Equal(t, "none,name=systemd", group{controllers: "name=systemd"}.options())
}

func TestWhatAMachineHides(t *testing.T) {
	assert.Equal(t, "/opt", hiding("/opt/go"))
	assert.Equal(t, "/var/lib", hiding("/var/lib/ci/checkout/go.mod"))
	assert.Empty(t, hiding("/optional/go"))
	assert.Empty(t, hiding("/root/.cache/go-build"))
}
