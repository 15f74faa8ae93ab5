//go:build linux

package hostsd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// reexecVar names, in a child process, the test whose body it is to run.
const reexecVar = "HOSTSD_TEST_CHILD"

// isChild reports whether this process is to play the part of a child for the test.
func isChild(t *testing.T) bool { return os.Getenv(reexecVar) == t.Name() }

// child returns the command that runs the same test in a process of its own.
func child(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	requireRoot(t)
	var patterns []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		patterns = append(patterns, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run="+strings.Join(patterns, "/"), "-test.count=1", "-test.v", "-test.timeout=2m")
	cmd.Env = append(append(os.Environ(), reexecVar+"="+t.Name()), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// inMountNamespace runs the test's body in a process with mounts of its own, where a test may
// mount what it likes: nothing of it is seen outside, and all of it ends with the process.
func inMountNamespace(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if isChild(t) {
		body(t)
		return
	}
	cmd := child(t)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	run(t, cmd)
}

// runWithout runs the child as root without the capabilities, a comma-separated list of
// capabilities(7) in setpriv's spelling.
func runWithout(t *testing.T, cmd *exec.Cmd, capabilities string) {
	t.Helper()
	setpriv, err := exec.LookPath("setpriv")
	require.NoError(t, err, "this test drops capabilities: install util-linux")
	self, err := os.Executable()
	require.NoError(t, err)
	less := "-" + strings.ReplaceAll(capabilities, ",", ",-")
	cmd.Args = append([]string{"setpriv", "--bounding-set=" + less, "--inh-caps=" + less}, append([]string{self}, cmd.Args[1:]...)...)
	cmd.Path = setpriv
	run(t, cmd)
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")), "the child ran another test: %s", out)
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems and changes owners: run it as root on Linux, with CAP_SYS_ADMIN")
	}
}

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	require.NoError(t, syscall.Mount(source, target, kind, flags, data), fmt.Sprintf("mounting %s on %s", kind, target))
	if flags&syscall.MS_REMOUNT == 0 {
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(target, syscall.MNT_DETACH)) })
	}
}
