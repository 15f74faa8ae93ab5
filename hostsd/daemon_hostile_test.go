//go:build linux

package hostsd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

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
}

func TestResolverOfTheNodeSeesTheLines(t *testing.T) {
	t.Parallel()
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
