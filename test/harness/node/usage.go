//go:build linux

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// containerGroups is the memory hierarchy's part that has a group for each container, named by its ID.
const containerGroups = "/sys/fs/cgroup/memory/k8s.io"

// Usage is what a container has used of the node since it started.
type Usage struct {
	MemoryLimit int64 // bytes
	MemoryPeak  int64 // bytes, with the kernel's and with cached files
	Memory      int64 // bytes that are in use now and not on any disk
	CPU         time.Duration
}

// UsageOf returns the usage of a container that runs, given its ID as in a pod's status.
func UsageOf(containerID string) (Usage, error) {
	id := strings.TrimPrefix(containerID, "containerd://")
	memory := filepath.Join(containerGroups, id)
	var u Usage
	for path, value := range map[string]*int64{
		filepath.Join(memory, "memory.limit_in_bytes"):                      &u.MemoryLimit,
		filepath.Join(memory, "memory.max_usage_in_bytes"):                  &u.MemoryPeak,
		filepath.Join("/sys/fs/cgroup/cpuacct/k8s.io", id, "cpuacct.usage"): (*int64)(&u.CPU),
	} {
		number, err := readNumber(path)
		if err != nil {
			return Usage{}, fmt.Errorf("reading the usage of container %s: %w", id, err)
		}
		*value = number
	}
	text, err := os.ReadFile(filepath.Join(memory, "memory.stat"))
	if err != nil {
		return Usage{}, fmt.Errorf("reading the usage of container %s: %w", id, err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "total_rss "); ok {
			if u.Memory, err = strconv.ParseInt(value, 10, 64); err != nil {
				return Usage{}, fmt.Errorf("reading the usage of container %s: %w", id, err)
			}
		}
	}
	return u, nil
}

// PeakMemory returns how many bytes the whole machine has used at most, with all its files.
func PeakMemory() (int64, error) {
	peak, err := readNumber("/sys/fs/cgroup/memory/memory.max_usage_in_bytes")
	if err != nil {
		return 0, fmt.Errorf("reading the usage of the machine: %w", err)
	}
	return peak, nil
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
