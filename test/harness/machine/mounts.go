//go:build linux

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostName is the name of every machine.
const HostName = "node"

// kernelSettings are settings of the whole kernel that a kubelet changes. On a machine they are files that it may write.
var kernelSettings = []string{
	"/proc/sys/vm/overcommit_memory",
	"/proc/sys/vm/panic_on_oom",
	"/proc/sys/kernel/panic",
	"/proc/sys/kernel/panic_on_oops",
	"/proc/sys/kernel/keys/root_maxkeys",
	"/proc/sys/kernel/keys/root_maxbytes",
}

// inMemory are the folders that are empty on a machine, and in memory.
var inMemory = []string{"/run", "/var/lib", "/var/log", "/opt"}

// mountAll makes the machine out of the namespaces that this process was started in.
func mountAll(usr string) error {
	groups, err := ownGroups() // while the machine underneath is still in sight
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") },
		func() error { return mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") },
		func() error { return mountGroups(groups) },
		func() error { return mountMemory(inMemory...) },
		func() error { return os.MkdirAll(temporary, 0o777|fs.ModeSticky) },
		func() error { return lieOver("/usr", usr) },
		copyEtc,
		shieldKernel,
		func() error { return unix.Sethostname([]byte(HostName)) },
		loopback,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	return nil
}

func mountMemory(folders ...string) error {
	for _, folder := range folders {
		if err := mount("tmpfs", folder, "tmpfs", unix.MS_NODEV, "mode=755"); err != nil {
			return err
		}
	}
	return nil
}

func mountGroups(groups []group) error {
	if err := mountMemory(groupRoot); err != nil {
		return err
	}
	for _, g := range groups {
		target := filepath.Join(groupRoot, g.folder)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", target, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, g.options()); err != nil {
			return err
		}
	}
	return nil
}

func lieOver(folder, upper string) error {
	return mount("overlay", folder, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+folder)
}

// copyEtc puts a copy of /etc over it, with a host name and a hosts file of the machine's own.
func copyEtc() error {
	etc := filepath.Join(own, "etc")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		return fmt.Errorf("copying /etc: %w: %s", err, out)
	}
	for name, text := range map[string]string{
		"hostname": HostName + "\n",
		"hosts":    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + HostName + "\n",
	} {
		// Where the machine underneath is a container itself these are mounts of their own, but their copies are not.
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return mount(etc, "/etc", "", unix.MS_BIND, "")
}

func shieldKernel() error {
	for _, path := range kernelSettings {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		file := filepath.Join(own, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		if err := mount(file, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func loopback() error {
	link, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("bringing up the loopback interface: %w", err)
	}
	return nil
}
