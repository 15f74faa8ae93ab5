package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartT starts a cluster for a test and stops it when the test ends. After a failed test
// the logs are kept (see KeepLogs), and the test says where. Without Options.Log it tells the
// process's standard error what it does.
func StartT(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if opts.Log == nil {
		opts.Log = os.Stderr
	}
	// The test's own context ends before its cleanup, and so before logs could be kept.
	c, err := Start(context.WithoutCancel(t.Context()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.halt(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			if dir, err := c.KeepLogs(t.Name()); err != nil {
				t.Error(err)
			} else {
				t.Logf("the control plane's logs are kept in %s", dir)
			}
		}
		if err := c.remove(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// KeepLogs copies the components' logs and the audit log to a new folder, which outlives
// the cluster, and returns its path. The name of what failed becomes part of it.
func (c *Cluster) KeepLogs(name string) (dir string, err error) {
	name = strings.ReplaceAll(name, string(filepath.Separator), "-")
	if dir, err = os.MkdirTemp("", "tcr-assistant-logs-"+name+"-"); err == nil {
		err = os.CopyFS(dir, os.DirFS(c.LogDir()))
	}
	if err != nil {
		return "", fmt.Errorf("keeping the control plane's logs: %w", err)
	}
	return dir, nil
}
