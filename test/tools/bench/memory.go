package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// memoryGoals are MiB of the manager at rest, by the number of namespaces.
var memoryGoals = map[int]float64{200: 28, 1000: 34, 10000: 72}

// memory measures what a manager holds at rest and at its most while it re-issues a credential, in namespaces of two
// ServiceAccounts. sizes grow.
func memory(ctx context.Context, r *report, binary string, sizes []int, idle time.Duration) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()
	if err := w.create(ctx); err != nil {
		return err
	}
	have := 0
	for generation, n := range sizes {
		if err := w.namespaces(ctx, numbered("bench", have, n), "builder"); err != nil {
			return err
		}
		have = n
		if err := w.memoryAt(ctx, r, n, 2*generation, idle); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) memoryAt(ctx context.Context, r *report, n, generation int, idle time.Duration) error {
	// The first brings all in line, and the second finds it so.
	m, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := w.complete(ctx, n); err != nil {
		return err
	}
	_, converging, err := resident(m.Pid())
	if err != nil {
		return err
	}
	if err := w.stop(ctx, m); err != nil {
		return err
	}
	if m, err = w.start(ctx); err != nil {
		return err
	}
	if err := m.Ready(ctx); err != nil {
		return err
	}
	time.Sleep(idle)
	steady, starting, err := resident(m.Pid())
	if err != nil {
		return err
	}
	before, err := cpuTime(m.Pid())
	if err != nil {
		return err
	}
	time.Sleep(idle)
	after, err := cpuTime(m.Pid())
	if err != nil {
		return err
	}
	for change := range 2 {
		if err := w.repassword(ctx, "bench", generation+change+1); err != nil {
			return err
		}
		if err := w.complete(ctx, n); err != nil {
			return err
		}
	}
	own, err := status(fmt.Sprintf("/proc/%d/status", m.Pid()), "RssAnon")
	if err != nil {
		return err
	}
	_, reissuing, err := resident(m.Pid())
	if err != nil {
		return err
	}
	done, err := cpuTime(m.Pid())
	if err != nil {
		return err
	}
	figure := r.add("memory", "at rest", n, mebibytes, steady)
	if goal, set := memoryGoals[n]; set {
		figure.atMost(goal)
	}
	r.add("memory", "after a re-issue, without the pages of the executable", n, mebibytes, own/1024)
	r.add("memory", "most while starting", n, mebibytes, starting)
	r.add("memory", "most while bringing all in line", n, mebibytes, converging)
	r.add("memory", "most while re-issuing", n, mebibytes, reissuing)
	r.add("processor", "at rest, of one core", n, "%", 100*(after-before).Seconds()/idle.Seconds())
	r.add("processor", "per re-issued Secret", n, microseconds, (done-after).Seconds()*1e6/float64(2*n))
	return w.stop(ctx, m)
}

// hostsUpdater measures hosts-updater at rest, with some entries and a hosts file of its own.
func hostsUpdater(ctx context.Context, r *report, binary string, idle time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "tcr-assistant-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hosts, config := filepath.Join(dir, "hosts"), filepath.Join(dir, "hosts.yaml")
	entries := "hosts:\n"
	for i := range 20 {
		entries += fmt.Sprintf("- {domain: bench-%d.tencentcloudcr.com, ip: 10.0.0.%d}\n", i, i+1)
	}
	if err := errors.Join(os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644), os.WriteFile(config, []byte(entries), 0o644)); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, binary, "--config="+config, "--hosts-file="+hosts, "--metrics-bind-address=127.0.0.1:0")
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting hosts-updater: %w", err)
	}
	defer func() {
		err = errors.Join(err, command.Process.Signal(syscall.SIGTERM), command.Wait())
	}()
	time.Sleep(2 * time.Second)
	before, err := wakeUps(command.Process.Pid)
	if err != nil {
		return err
	}
	time.Sleep(idle)
	after, err := wakeUps(command.Process.Pid)
	if err != nil {
		return err
	}
	now, _, err := resident(command.Process.Pid)
	if err != nil {
		return err
	}
	r.add("hosts-updater", "memory at rest", 0, mebibytes, now)
	r.add("hosts-updater", "wake-ups at rest", 0, perMinute, (after-before)/idle.Minutes())
	return nil
}
