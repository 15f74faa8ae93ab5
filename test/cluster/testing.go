package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartT starts a cluster for a test and stops it when the test ends. After a failed test
// the components' logs and the audit log are kept, and the test says where. Without
// Options.Log it tells the process's standard error what it does.
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
			c.keepLogs(t)
		}
		if err := c.remove(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *Cluster) keepLogs(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tcr-assistant-logs-"+strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(c.LogDir()))
	}
	if err == nil {
		err = os.Rename(c.AuditLog(), filepath.Join(dir, auditLogFile))
	}
	if err != nil {
		t.Errorf("keeping the control plane's logs: %v", err)
		return
	}
	t.Logf("the control plane's logs are kept in %s", dir)
}
