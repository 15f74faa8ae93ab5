//go:build linux

// Package machine runs a test on a machine of its own, as far as a Linux kernel can give one without virtualization: its
// own processes, mounts, network, host name and control groups, an /etc that is a copy and /run, /var/lib, /var/log, /opt
// that are empty and in memory, and over /usr the Debian packages that test/harness/machine/install unpacks. Whatever the test
// starts, mounts, configures or writes there goes away with it, however it ends; the machine underneath never sees it.
//
// What is shared: the kernel, the file systems that are not named above (so the Go caches and the checkout), and /dev.
package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
)

// Three processes stand between a test and its body. The keeper outlives the test, ends the machine once the test is gone
// and removes the control groups, which nothing else would. The init is the first process of the machine: with it
// everything in there ends. The third runs the body.
const (
	stageVariable = "TCR_ASSISTANT_MACHINE_STAGE"
	groupVariable = "TCR_ASSISTANT_MACHINE_GROUP"
	tempVariable  = "TCR_ASSISTANT_MACHINE_TMPDIR"
	aloneVariable = "TCR_ASSISTANT_MACHINE_ALONE"
	keeperStage   = "keeper"
	initStage     = "init"
	insideStage   = "inside"
	usrVariable   = "TCR_ASSISTANT_MACHINE_USR"
	groupPrefix   = "tcr-assistant-machine-"
	exitFailed    = 125
)

// Main plays the parts of a machine's own processes where this process is one of them, and returns otherwise. A test
// package that uses Run calls it first in TestMain.
func Main() {
	switch os.Getenv(stageVariable) {
	case keeperStage:
		os.Exit(outcome(keep()))
	case initStage:
		os.Exit(outcome(boot()))
	}
}

// Inside reports whether this process is on a machine of its own.
func Inside() bool { return os.Getenv(stageVariable) == insideStage }

// OutsideTempDir returns the folder for temporary files of the machine underneath: what is written there stays.
func OutsideTempDir() string { return os.Getenv(tempVariable) }

// Run runs the body of a test on a machine of its own. The body is called in another process: all that it shares with its
// caller is the environment and the arguments. What it prints is the test's output. The test fails if the body fails, or if
// there are Traces of it on the machine underneath afterwards.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if Inside() {
		body(t)
		return
	}
	usr, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if err := arrive(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		left, err := depart()
		for _, change := range left {
			t.Errorf("left behind, by this test or one that had a machine at the same time: %s", change)
		}
		if err != nil {
			t.Error(err)
		}
	}()
	command, alive, err := start(t, usr, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alive.Close() }()
	if err := command.Wait(); err != nil {
		t.Errorf("on a machine of its own: %v; its output is above", err)
	}
}

// machines are those of this process's tests, which may run side by side: what they leave behind is looked for once all are gone.
var machines struct {
	sync.Mutex
	running int
	before  Traces
	lock    io.Closer
}

// arrive notes that a test is about to have a machine. It waits until no other process of this user has any.
func arrive() error {
	machines.Lock()
	defer machines.Unlock()
	if machines.running == 0 {
		lock, err := lockMachines()
		if err != nil {
			return err
		}
		before, err := Look()
		if err != nil {
			return errors.Join(err, lock.Close())
		}
		machines.lock, machines.before = lock, before
	}
	machines.running++
	return nil
}

// depart notes that a test's machine is gone. It returns what all have left behind, where it was the last one.
func depart() (left []string, err error) {
	machines.Lock()
	defer machines.Unlock()
	machines.running--
	if machines.running > 0 {
		return nil, nil
	}
	after, err := Look()
	return after.Since(machines.before), errors.Join(err, machines.lock.Close())
}

// lockMachines waits until no other process of this user has a machine, and keeps others from having one: it would see their Traces.
func lockMachines() (io.Closer, error) {
	if os.Getenv(aloneVariable) != "" {
		return io.NopCloser(nil), nil // the test that started this one holds the lock
	}
	cache, err := binaries.CacheDir()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(cache, "machine.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	}
	return file, nil
}

// Alone keeps other processes from having machines until this test ends, for one that looks for Traces by itself. It is not to run
// beside others.
func Alone(t *testing.T) {
	t.Helper()
	lock, err := lockMachines()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	t.Setenv(aloneVariable, "1")
}

// start starts the keeper. The machine ends when alive is closed.
func start(t *testing.T, usr string, output io.Writer) (command *exec.Cmd, alive io.Closer, err error) {
	t.Helper()
	if err := supported(); err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding this program: %w", err)
	}
	var pattern []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	command = exec.Command(self, "-test.run="+strings.Join(pattern, "/"), "-test.count=1", "-test.v", "-test.timeout="+remaining(t).String())
	command.Env = append(os.Environ(),
		stageVariable+"="+keeperStage,
		groupVariable+"="+fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), time.Now().UnixNano()),
		tempVariable+"="+os.TempDir(),
		usrVariable+"="+usr)
	command.Stdout, command.Stderr = output, output
	// Ctrl-C reaches the test, and through it the keeper.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err = command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("starting a machine: %w", err)
	}
	return command, alive, nil
}

func remaining(t *testing.T) time.Duration {
	if deadline, ok := t.Deadline(); ok {
		return max(time.Second, time.Until(deadline)-5*time.Second)
	}
	return 0 // none
}

// packages returns the folder to lie over /usr.
func packages() (string, error) {
	cache, err := binaries.CacheDir()
	if err != nil {
		return "", err
	}
	usr := filepath.Join(cache, "debian", "usr")
	if _, err := os.Stat(usr); err != nil {
		return "", fmt.Errorf("finding the Debian packages of a node: %w: run \"make node\"", err)
	}
	return usr, nil
}

// supported returns what is missing.
func supported() error {
	if os.Geteuid() != 0 {
		return errors.New("this test runs on a machine of its own: run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN")
	}
	groups, err := ownGroups()
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return fmt.Errorf("finding control groups in %s: this test knows version 1 of them only, with one hierarchy for each controller below it",
			groupRoot)
	}
	for _, variable := range []string{"GOROOT", "GOCACHE", "GOMODCACHE", "GOMOD"} {
		path, err := exec.Command("go", "env", variable).Output()
		if err != nil {
			return fmt.Errorf("asking go for its %s: %w", variable, err)
		}
		if folder := hiding(strings.TrimSpace(string(path))); folder != "" {
			return fmt.Errorf("this test hides %s from itself, and needs %s, which is %s: put it elsewhere", folder, variable,
				strings.TrimSpace(string(path)))
		}
	}
	return nil
}

// hiding returns which of the folders that are empty on a machine a path is in, if any.
func hiding(path string) string {
	for _, folder := range inMemory {
		if strings.HasPrefix(path, folder+"/") {
			return folder
		}
	}
	return ""
}

// keep runs the machine until it ends by itself or whoever started the keeper is gone, and returns its exit code.
func keep() (code int, err error) {
	// The kernel kills init when the thread ends that started it.
	runtime.LockOSThread()
	groups, err := makeGroups(os.Getenv(groupVariable))
	defer func() { err = errors.Join(err, removeGroups(groups)) }()
	if err != nil {
		return 0, err
	}
	command := again(initStage)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
	}
	if err := startIn(groups, command); err != nil {
		return 0, fmt.Errorf("starting a machine: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = command.Process.Kill()
	}()
	var status *exec.ExitError
	if err := command.Wait(); errors.As(err, &status) && status.Exited() {
		return status.ExitCode(), nil
	} else if err != nil {
		return 0, fmt.Errorf("running a machine: %w", err)
	}
	return 0, nil
}

// boot makes the machine, runs the test on it and, as every first process must, collects the orphans. It returns the test's
// exit code.
func boot() (code int, err error) {
	if err := mountAll(os.Getenv(usrVariable)); err != nil {
		return 0, fmt.Errorf("making a machine: %w", err)
	}
	command := again(insideStage)
	command.Env = append(command.Env, "TMPDIR="+temporary)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("starting the test: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for the test: %w", err)
		case pid == command.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == command.Process.Pid:
			return 0, fmt.Errorf("the test ended by signal %s", status.Signal())
		}
	}
}

// again returns the command that runs this process anew as another stage.
func again(stage string) *exec.Cmd {
	command := exec.Command(os.Args[0], os.Args[1:]...)
	command.Env = append(os.Environ(), stageVariable+"="+stage)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return command
}

// outcome returns the exit code of a stage: that of the stage below it, or one of its own for an error, which it prints.
func outcome(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		return exitFailed
	}
	return code
}

// temporary is the machine's folder for temporary files.
const temporary = "/run/tmp"

// own is where the machine keeps what it put in the place of something else.
var own = filepath.Join("/run", "machine")
