// Package binaries builds the programs of a Kubernetes control plane from the modules that
// Kubernetes is released as, once, and keeps them in a cache outside the checkout. It
// imports nothing but the standard library, so that a fresh machine soon runs it and reads
// what it does.
package binaries

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Kubernetes is where the programs of one version of Kubernetes are.
type Kubernetes struct {
	Version      string // of Kubernetes, as in v1.36.3
	ControlPlane string // path of etcd, kube-apiserver and kube-controller-manager in one
	Kubectl      string // path of kubectl
}

// Build returns the binaries of a version of Kubernetes from the cache. It builds
// them first where they are not there yet, which takes minutes, and tells progress
// how far it is. Of several processes that need them at once one builds and the others
// wait. The empty version is the one in harness/kubernetes/go.mod.
//
// It needs the go command, and the checkout around the working folder.
func Build(ctx context.Context, version string, progress io.Writer) (Kubernetes, error) {
	dir, version, err := build(ctx, version, progress, "controlplane", "kubectl")
	if err != nil {
		return Kubernetes{}, fmt.Errorf("building the control plane: %w", err)
	}
	return Kubernetes{
		Version:      version,
		ControlPlane: filepath.Join(dir, "controlplane"),
		Kubectl:      filepath.Join(dir, "kubectl"),
	}, nil
}

// BuildNode returns, as Build does, the path of kubelet, kube-proxy and kube-scheduler in
// one binary.
func BuildNode(ctx context.Context, version string, progress io.Writer) (path string, err error) {
	dir, _, err := build(ctx, version, progress, "node")
	if err != nil {
		return "", fmt.Errorf("building a node: %w", err)
	}
	return filepath.Join(dir, "node"), nil
}

// build returns the folder of the programs, and their version.
func build(ctx context.Context, version string, progress io.Writer, programs ...string) (dir, built string, err error) {
	working, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	source, err := findSource(working)
	if err != nil {
		return "", "", err
	}
	goVersion, platform, err := goEnvironment(ctx, source)
	if err != nil {
		return "", "", err
	}
	r, err := newRecipe(os.DirFS(source), version, goVersion, platform)
	if err != nil {
		return "", "", err
	}
	r.programs = programs
	key, err := r.key(os.DirFS(source))
	if err != nil {
		return "", "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(cache, programs[0], key)
	return dir, r.version, once(ctx, dir, progress, func(dir string) error { return compile(ctx, r, source, dir, progress) })
}

// goEnvironment returns the version of Go that compiles in a folder, and its target.
func goEnvironment(ctx context.Context, dir string) (version, platform string, err error) {
	out, err := goCommand(ctx, dir, "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", "", fmt.Errorf("asking go for its version: %w\n%s", err, exit.Stderr)
		}
		return "", "", fmt.Errorf("asking go for its version: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 3 {
		return "", "", fmt.Errorf("asking go for its version: must be three lines, is %q", out)
	}
	return fields[0], fields[1] + "-" + fields[2], nil
}

func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	// Interrupted, go removes its temporary files; killed, it leaves them.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// once makes the folder dir, whole or not at all, and only where it does not exist.
// While one process fills it the others wait.
func once(ctx context.Context, dir string, progress io.Writer, fill func(dir string) error) error {
	exists := func() bool { _, err := os.Stat(dir); return err == nil }
	if exists() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, dir+".lock", progress)
	if err != nil {
		return err
	}
	defer unlock()
	if exists() {
		return nil
	}
	// The lock is held, so an unfinished folder has no owner any more.
	unfinished := dir + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	if err := fill(unfinished); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	return os.Rename(unfinished, dir)
}

// lock takes the lock of a file among processes. It ends with its holder.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close()
			return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
		}
		if !waited {
			say(progress, "Waiting for another process that builds the same.")
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// compile builds the binaries of a recipe into a folder.
func compile(ctx context.Context, r recipe, source, dir string, progress io.Writer) error {
	linkerFlags, err := r.linkerFlags()
	if err != nil {
		return err
	}
	what := strings.Join(r.programs, " and ")
	say(progress, "Building %s of Kubernetes %s with %s, once, into %s.", what, r.version, r.goVersion, filepath.Dir(dir))
	say(progress, "With nothing of it compiled yet that takes two cores up to 5 minutes.")
	flags := []string{"-mod=readonly", "-modfile=" + r.modFile, "-trimpath", "-ldflags=" + linkerFlags}
	var targets []string
	for _, program := range r.programs {
		targets = append(targets, "./cmd/"+program)
	}

	// What go list calls stale is what go build is going to name while it builds.
	list := append([]string{"list", "-deps", "-f={{if .Stale}}{{.ImportPath}}{{end}}"}, flags...)
	m := &meter{progress: progress, began: time.Now()}
	stale := &bytes.Buffer{}
	if err := m.run(goCommand(ctx, source, append(list, targets...)...), stale); err != nil {
		return fmt.Errorf("listing packages: %w", err)
	}
	m.stale = map[string]bool{}
	for path := range strings.FieldsSeq(stale.String()) {
		m.stale[path] = true
	}
	command := append([]string{"build", "-v", "-o=" + dir + string(filepath.Separator)}, flags...)
	if err := m.run(goCommand(ctx, source, append(command, targets...)...), nil); err != nil {
		return fmt.Errorf("compiling Kubernetes %s: %w", r.version, err)
	}
	say(progress, "Built %s in %s.", what, time.Since(m.began).Round(time.Second))
	return nil
}

// meter reads what go commands say on standard error, and reports how far they are.
type meter struct {
	progress   io.Writer
	began      time.Time
	stale      map[string]bool // packages to compile
	compiled   int
	downloaded int
}

// run runs a go command. What it says beside its progress is in the error.
func (m *meter) run(cmd *exec.Cmd, stdout io.Writer) error {
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = stdout, writer
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = writer.Close()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(reader)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		// A line beyond the scanner's limit must not block the command.
		_, _ = io.Copy(io.Discard, reader)
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var rest strings.Builder
	for open := true; open; {
		select {
		case line, ok := <-lines:
			if open = ok; ok && !m.count(line) {
				rest.WriteString(line + "\n")
			}
		case <-tick.C:
			m.report()
		}
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("%w\n%s", err, rest.String())
	}
	return nil
}

// count takes a line of standard error, and returns whether it told of progress.
func (m *meter) count(line string) bool {
	switch {
	case m.stale[line]:
		m.compiled++
	case strings.HasPrefix(line, "go: downloading "):
		m.downloaded++
	default:
		return false
	}
	return true
}

func (m *meter) report() {
	elapsed := time.Since(m.began).Round(time.Second)
	switch {
	case m.stale == nil:
		say(m.progress, "  %s: downloaded %d modules", elapsed, m.downloaded)
	case m.compiled == len(m.stale):
		say(m.progress, "  %s: compiled %d of %d packages, linking", elapsed, m.compiled, len(m.stale))
	default:
		say(m.progress, "  %s: compiled %d of %d packages", elapsed, m.compiled, len(m.stale))
	}
}

// say tells progress a line. A line that nobody gets is no reason to stop.
func say(progress io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, format+"\n", args...)
}
