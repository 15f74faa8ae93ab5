package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc (USER_HZ), the same on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuTime returns the processor time that a process has used.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading a process' times: %w", err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the third on
	var total time.Duration
	for _, field := range fields[11:13] { // utime and stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading a process' times: %w", err)
		}
		total += time.Duration(ticks) * clockTick
	}
	return total, nil
}

// cpuTimeOfAll returns the processor time that this process and those it has started have used: unlike the time on the
// clock, it hardly depends on what else the machine does.
func cpuTimeOfAll() (time.Duration, error) {
	total, err := cpuTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return 0, fmt.Errorf("reading which processes run: %w", err)
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return 0, fmt.Errorf("reading which processes run: %w", err)
			}
			one, err := cpuTime(pid)
			if err != nil {
				return 0, err
			}
			total += one
		}
	}
	return total, nil
}

// status returns a number from /proc/PID/status, such as VmRSS (in KiB).
func status(file, name string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("reading a process' status: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		}
	}
	return 0, fmt.Errorf("reading a process' status: %s has no %s", file, name)
}

// resident returns the memory that a process holds, in MiB: now and at its most since the last call.
func resident(pid int) (now, most float64, err error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	if now, err = status(file, "VmRSS"); err != nil {
		return 0, 0, err
	}
	if most, err = status(file, "VmHWM"); err != nil {
		return 0, 0, err
	}
	err = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // forget the most
	return now / 1024, most / 1024, err
}

// wakeUps returns how often the threads of a process have been woken.
func wakeUps(pid int) (float64, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var total float64
	for _, thread := range threads {
		switches, err := status(thread, "voluntary_ctxt_switches")
		if err != nil {
			return 0, err
		}
		total += switches
	}
	return total, nil
}
