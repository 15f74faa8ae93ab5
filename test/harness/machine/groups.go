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
	"time"

	"golang.org/x/sys/unix"
)

// groupRoot is where the hierarchies of control groups are mounted.
const groupRoot = "/sys/fs/cgroup"

// group is a control group of version 1.
type group struct {
	folder      string // of the hierarchy below groupRoot
	controllers string // as cpu,cpuacct or name=systemd
	path        string // within the hierarchy
}

func (g group) dir() string { return filepath.Join(groupRoot, g.folder, g.path) }

// options of a mount of the hierarchy.
func (g group) options() string {
	if strings.HasPrefix(g.controllers, "name=") {
		return "none," + g.controllers
	}
	return g.controllers
}

// ownGroups returns the control groups that this process is in, one of each hierarchy that is mounted.
func ownGroups() ([]group, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("reading the control groups of this process: %w", err)
	}
	var groups []group
	for _, g := range parseGroups(string(text)) {
		if _, err := os.Stat(g.dir()); err == nil {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

// parseGroups reads the lines of cgroups(7), leaving out version 2.
func parseGroups(text string) []group {
	var groups []group
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || parts[1] == "" {
			continue
		}
		groups = append(groups, group{folder: strings.TrimPrefix(parts[1], "name="), controllers: parts[1], path: parts[2]})
	}
	return groups
}

// makeGroups makes a new group in each of this process' own, and returns those that it made also where it fails.
func makeGroups(name string) (made []group, err error) {
	parents, err := ownGroups()
	if err != nil {
		return nil, err
	}
	for _, parent := range parents {
		g := parent
		g.path = filepath.Join(parent.path, name)
		if err := os.Mkdir(g.dir(), 0o755); err != nil {
			return made, fmt.Errorf("making a control group: %w", err)
		}
		made = append(made, g)
		// A new group of this one controller has no processor and no memory until it is told which.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			text, err := os.ReadFile(filepath.Join(parent.dir(), file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(g.dir(), file), text, 0o644)
			}
			if err != nil {
				return made, fmt.Errorf("setting up a control group: %w", err)
			}
		}
	}
	return made, nil
}

// startIn starts a command in control groups. Only from within can its namespace of groups be rooted in them, so this
// process goes there and back.
func startIn(groups []group, command *exec.Cmd) (err error) {
	defer func() {
		for _, g := range groups {
			g.path = filepath.Dir(g.path)
			err = errors.Join(err, enter(g))
		}
	}()
	for _, g := range groups {
		if err := enter(g); err != nil {
			return err
		}
	}
	return command.Start()
}

// enter moves this process into a control group.
func enter(g group) error {
	if err := os.WriteFile(filepath.Join(g.dir(), "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("entering control group %s: %w", g.dir(), err)
	}
	return nil
}

// removeGroups removes control groups, and all in them. A group stays busy for a moment after its last process.
func removeGroups(groups []group) error {
	var errs []error
	for _, g := range groups {
		var err error
		for range 200 {
			if err = removeGroup(g.dir()); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeGroup removes a control group after those in it. Its files cannot be removed and need not be.
func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroup(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
