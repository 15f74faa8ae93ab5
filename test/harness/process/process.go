// Package process starts and kills the components that tests run on, with a log for each.
package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Process is a running component.
type Process struct {
	name string
	log  string // path of the file with all that it printed
	cmd  *exec.Cmd
	// alive is the component's standard input. It is never written to; its end, which
	// comes with the end of this process at the latest, is the component's.
	alive io.Closer
	ended chan struct{}
	kill  func() error
}

// Start starts a component in a working folder; its name is its first argument. The log is
// appended to.
//
// The component's standard input ends with this process, however that ends. It is the
// component's part to end then too.
func Start(binary, name, dir, log string, args []string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer func() { _ = file.Close() }() // the component has its own
	cmd := exec.Command(binary)
	cmd.Args = append([]string{name}, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = file, file
	// Ctrl-C in a terminal goes to the whole foreground group. In a group of its own
	// a component ends only when this process ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{name: name, log: log, cmd: cmd, alive: alive, ended: make(chan struct{})}
	p.kill = sync.OnceValue(func() error {
		select {
		case <-p.ended:
			return fmt.Errorf("stopping %s: it had ended by itself: %s", name, cmd.ProcessState)
		default:
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
		<-p.ended
		return nil
	})
	go func() {
		_ = cmd.Wait() // what it says is in cmd.ProcessState
		close(p.ended)
	}()
	return p, nil
}

// Environ returns the environment for the product's commands: that of the test without what it says to Go's garbage collector, which
// may be told to spare the time of what is started for a test alone.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return name == "GOGC" || name == "GOMEMLIMIT"
	})
}

// Pid is the component's process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the component has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Stop kills the component and returns when it is gone. It loses nothing that a client
// was told was done: what etcd holds is in the kernel's hands. The error says that it had
// ended by itself before.
func (p *Process) Stop() error { return p.kill() }

// Death describes the end of a component that nobody stopped. Call it once that came.
func (p *Process) Death() error {
	return fmt.Errorf("%s ended by itself: %s; %s ends with:\n%s", p.name, p.cmd.ProcessState, p.log, tail(p.log))
}

// tail returns the last lines of a file.
func tail(path string) string {
	const lines = 20
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
