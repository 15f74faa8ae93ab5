//go:build linux

package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Traces is what a node would leave on the machine underneath if it were not on a machine of its own, by the place where it
// would be seen.
type Traces map[string]string

// settings of the kernel that a node changes: its own, and what networking needs.
var settings = []string{"/proc/sys/vm/*", "/proc/sys/kernel/panic*", "/proc/sys/kernel/keys/*", "/proc/sys/net/ipv4/ip_*",
	"/proc/sys/net/*/conf/*/*", "/proc/sys/net/bridge/*", "/proc/sys/net/netfilter/nf_conntrack_*"}

// Look returns the traces on the machine that it is called on.
func Look() (Traces, error) {
	seen := Traces{}
	for _, look := range []func(Traces) error{lookAtFiles, lookAtSettings, lookAtGroups, lookAtNetwork, lookAtProcesses} {
		if err := look(seen); err != nil {
			return nil, fmt.Errorf("looking for traces: %w", err)
		}
	}
	rules, err := ruleset()
	if err != nil {
		return nil, fmt.Errorf("looking for traces: %w", err)
	}
	seen["nftables"] = rules
	return seen, nil
}

// Since returns what is not as it was before, in words.
func (now Traces) Since(before Traces) []string {
	var changes []string
	for place, was := range before {
		if is, ok := now[place]; !ok {
			changes = append(changes, fmt.Sprintf("%s: gone, was %q", place, was))
		} else if is != was {
			changes = append(changes, fmt.Sprintf("%s: %q, was %q", place, is, was))
		}
	}
	for place, is := range now {
		if _, ok := before[place]; !ok {
			changes = append(changes, fmt.Sprintf("%s: new, is %q", place, is))
		}
	}
	slices.Sort(changes)
	return changes
}

func lookAtFiles(seen Traces) error {
	// All of /etc, and what stands in the folders in which a node keeps its state.
	err := filepath.WalkDir("/etc", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			seen[path] = fmt.Sprint(info.Mode(), " ", info.Size(), " ", info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, folder := range []string{"/run", "/var/lib", "/var/log", "/opt", "/opt/cni"} {
		entries, err := os.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			seen[filepath.Join(folder, entry.Name())] = entry.Type().String()
		}
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return err
	}
	seen["hosts file"] = string(hosts)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		seen["mount "+strings.Fields(line)[4]] += line
	}
	return nil
}

func lookAtSettings(seen Traces) error {
	for _, pattern := range settings {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			// Some settings can only be written, and one only counts.
			if text, err := os.ReadFile(path); err == nil && filepath.Base(path) != "nf_conntrack_count" {
				seen[path] = string(text)
			}
		}
	}
	return nil
}

func lookAtGroups(seen Traces) error {
	groups, err := ownGroups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		entries, err := os.ReadDir(g.dir())
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.IsDir() {
				seen["control group "+filepath.Join(g.dir(), entry.Name())] = ""
			}
		}
	}
	return nil
}

func lookAtNetwork(seen Traces) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		seen["interface "+name] = link.Type() + " " + link.Attrs().Flags.String()
		addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("listing addresses: %w", err)
		}
		for _, address := range addresses {
			seen["address "+name+" "+address.IPNet.String()] = ""
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, route := range routes {
		seen["route "+route.String()] = ""
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing routing rules: %w", err)
	}
	for _, rule := range rules {
		seen["routing rule "+rule.String()] = ""
	}
	for _, path := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		if text, err := os.ReadFile(path); err == nil {
			seen[path] = string(text)
		}
	}
	return nil
}

// lookAtProcesses sees what runs in the control groups of machines.
func lookAtProcesses(seen Traces) error {
	paths, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("/"+groupPrefix)) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "comm")) // it may just have ended
			seen["process "+filepath.Base(filepath.Dir(path))] = string(bytes.TrimSpace(name))
		}
	}
	return nil
}

// ruleset returns the rules of nftables, among which are those of iptables.
func ruleset() (string, error) {
	command := exec.Command("nft", "--stateless", "list", "ruleset")
	if command.Err != nil {
		usr, err := packages()
		if err != nil {
			return "", err
		}
		command = exec.Command(filepath.Join(usr, "sbin", "nft"), command.Args[1:]...)
		libraries, err := filepath.Glob(filepath.Join(usr, "lib", "*-linux-gnu*"))
		if err != nil {
			return "", err
		}
		command.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("listing the rules of nftables: %w: %s", err, out)
	}
	return string(out), nil
}
