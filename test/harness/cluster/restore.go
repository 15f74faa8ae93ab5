package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Snapshot is what etcd held at a moment.
type Snapshot struct{ dir string }

// TakeSnapshot copies what etcd holds, as a backup of its disk does. Nothing is stopped for longer than the copy takes.
func (c *Cluster) TakeSnapshot() (Snapshot, error) {
	dir, err := os.MkdirTemp(c.dir, "etcd-snapshot-")
	if err != nil {
		return Snapshot{}, fmt.Errorf("taking a snapshot of etcd: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.etcd == nil {
		return Snapshot{}, fmt.Errorf("taking a snapshot of etcd: %w", errStopped)
	}
	// While etcd stands still its files are as they would be had it been killed, from which it recovers.
	if err := syscall.Kill(c.etcd.Pid(), syscall.SIGSTOP); err != nil {
		return Snapshot{}, fmt.Errorf("taking a snapshot of etcd: %w", err)
	}
	err = os.CopyFS(dir, os.DirFS(c.path(etcdFolder)))
	if err := errors.Join(err, syscall.Kill(c.etcd.Pid(), syscall.SIGCONT)); err != nil {
		return Snapshot{}, fmt.Errorf("taking a snapshot of etcd: %w", err)
	}
	return Snapshot{dir}, nil
}

// Restore takes the cluster back to a snapshot, as its administrator would: every component is stopped, and started again on
// what etcd held then. It returns once they are healthy. The controller manager runs with its usual flags.
func (c *Cluster) Restore(ctx context.Context, s Snapshot) error {
	if err := errors.Join(c.end(&c.controllerManager), c.end(&c.apiServer), c.end(&c.etcd)); err != nil {
		return fmt.Errorf("restoring etcd: %w", err)
	}
	err := os.RemoveAll(c.path(etcdFolder))
	if err == nil {
		err = os.CopyFS(c.path(etcdFolder), os.DirFS(s.dir))
	}
	if err == nil {
		// Its folder must be nobody else's.
		err = os.Chmod(c.path(etcdFolder), 0o700)
	}
	if err == nil {
		err = c.run(&c.etcd, "etcd", etcdFlags(c.fsync))
	}
	if err == nil {
		err = c.StartAPIServer(ctx)
	}
	if err == nil {
		err = c.RestartControllerManager(ctx)
	}
	if err != nil {
		return fmt.Errorf("restoring etcd: %w", err)
	}
	return nil
}
