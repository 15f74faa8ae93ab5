// Package manager installs the product on a control plane and runs its controller-manager against it, as a process of its
// own outside the cluster, with the permissions of the ServiceAccount that it would have inside.
package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

const (
	// Namespace is where the product lives.
	Namespace = "tcr-assistant-system"
	// User is who the manager is to the API server.
	User = "system:serviceaccount:" + Namespace + ":tcr-assistant-controller-manager"
)

// Root returns the folder of the product's module.
func Root(ctx context.Context) (string, error) {
	// This module lies in a folder of the product's.
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("finding the product's module: %w", err)
	}
	return filepath.Dir(filepath.Dir(strings.TrimSpace(string(out)))), nil
}

// Build compiles a command of the product into dir and returns the binary's path.
func Build(ctx context.Context, dir, command string) (string, error) {
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, command)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/"+command)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", command, err, out)
	}
	return binary, nil
}

// CRDs returns the folder of the product's CustomResourceDefinitions, for the options of a cluster.
func CRDs(ctx context.Context) (string, error) {
	root, err := Root(ctx)
	return filepath.Join(root, "deploy", "chart", "crds"), err
}

// Install applies the all-in-one manifests: the namespace, the CRDs, the permissions and the policies that hold the manager
// to them. The Deployment waits for a node that never comes; Start takes its place.
func Install(ctx context.Context, c *cluster.Cluster) error {
	root, err := Root(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"apply", "-f", filepath.Join(root, "deploy", "allinone", "tcr-assistant.yaml")},
		{"wait", cluster.Established, "--timeout=30s", "-f", filepath.Join(root, "deploy", "chart", "crds")},
	} {
		if _, stderr, err := c.Kubectl(ctx, args...); err != nil {
			return fmt.Errorf("installing: kubectl %s: %w: %s", strings.Join(args, " "), err, stderr)
		}
	}
	return nil
}

// Helm is the Helm that renders the chart.
var Helm = binaries.Command{Package: "helm.sh/helm/v4/cmd/helm", Version: "v4.3.1"}

// InstallChart applies what the chart renders for these settings (key=value), as Install applies what it renders for none. The CRDs
// must be there.
func InstallChart(ctx context.Context, c *cluster.Cluster, settings ...string) error {
	root, err := Root(ctx)
	if err != nil {
		return err
	}
	helm, err := Helm.Build(ctx, os.Stderr)
	if err != nil {
		return err
	}
	render := exec.CommandContext(ctx, helm, "template", "tcr-assistant", filepath.Join(root, "deploy", "chart"), "--namespace", Namespace,
		"--no-hooks",
		"--kube-version", c.Version(), "--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
		"--set", strings.Join(append(settings, "image.repository=tcr-assistant.invalid/tcr-assistant"), ","))
	home := filepath.Join(c.Dir(), "helm") // apart from the user's own configuration
	render.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_PLUGINS="+home)
	var problems bytes.Buffer
	render.Stderr = &problems
	manifest, err := render.Output()
	if err != nil {
		return fmt.Errorf("rendering the chart: %w: %s", err, problems.String())
	}
	if _, stderr, err := c.Kubectl(ctx, "create", "namespace", Namespace); err != nil {
		return fmt.Errorf("installing: %w: %s", err, stderr)
	}
	apply := c.KubectlCommand(ctx, "apply", "-f", "-")
	apply.Stdin = bytes.NewReader(manifest)
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("installing: kubectl apply: %w: %s", err, out)
	}
	return nil
}

// InstallPolicy lets the API server attach Secrets by itself. The API server takes it up within
// moments.
func InstallPolicy(ctx context.Context, c *cluster.Cluster) error {
	root, err := Root(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(root, "deploy", "chart", "files", "mutating-admission-policy.yaml")
	if _, stderr, err := c.Kubectl(ctx, "apply", "-f", file); err != nil {
		return fmt.Errorf("installing the admission policy: %w: %s", err, stderr)
	}
	return nil
}

// Manager is a running controller-manager.
type Manager struct {
	// WebhookAddress and MetricsAddress are where it listens.
	WebhookAddress, MetricsAddress string

	command *exec.Cmd
	log     *log
	done    chan struct{} // closed when the process has ended
	err     error         // how it ended
}

// Options say how a manager differs from the usual one.
type Options struct {
	// Binary is what Build returned.
	Binary string
	// Kubeconfig is who it is; empty is the manager's own ServiceAccount.
	Kubeconfig string
	// WebhookURL is what the API server calls it by; empty is its own address.
	WebhookURL string
	// AllSecrets says that its role is for all Secrets, as the chart's value rbac.secrets: all makes it. It does not keep the role
	// that lists them by their names then, as the manifests that Install applies say.
	AllSecrets bool
	// Args come after the usual ones and override them.
	Args []string
	// Env is what its environment holds besides that of the test.
	Env []string
	// Log gets a copy of what it logs; it may be nil.
	Log io.Writer
}

// Start starts a manager. It returns without waiting for it to be ready.
func Start(ctx context.Context, c *cluster.Cluster, options Options) (*Manager, error) {
	if options.Kubeconfig == "" {
		var err error
		if options.Kubeconfig, err = c.KubeconfigFor(User, "system:serviceaccounts", "system:serviceaccounts:"+Namespace,
			"system:authenticated"); err != nil {
			return nil, err
		}
	}
	addresses, err := process.FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	m := &Manager{WebhookAddress: addresses[0], MetricsAddress: addresses[1], log: &log{copy: options.Log}, done: make(chan struct{})}
	if options.WebhookURL == "" {
		options.WebhookURL = "https://" + m.WebhookAddress
	}
	if !options.AllSecrets && !slices.Contains(options.Args, "--cleanup") {
		options.Args = append([]string{"--keep-secrets-role"}, options.Args...)
	}
	m.command = exec.CommandContext(ctx, options.Binary, append([]string{
		"--kubeconfig=" + options.Kubeconfig,
		"--webhook-url=" + options.WebhookURL,
		"--webhook-bind-address=" + m.WebhookAddress,
		"--metrics-bind-address=" + m.MetricsAddress,
		"--shutdown-delay=0s",
		"--log-level=debug",
	}, options.Args...)...)
	m.command.Stdout, m.command.Stderr = m.log, m.log
	m.command.Env = append(process.Environ(), options.Env...)
	m.command.SysProcAttr = process.Attributes()
	if err := m.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the manager: %w", err)
	}
	go func() {
		m.err = m.command.Wait()
		close(m.done)
	}()
	return m, nil
}

// Ready returns nil once the manager says that it is ready, and the reason when it does not within the time that ctx gives
// or ends before.
func (m *Manager) Ready(ctx context.Context) error {
	for {
		answer, err := m.Get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-m.done:
			return fmt.Errorf("the manager ended: %w\n%s", m.err, m.Log())
		case <-ctx.Done():
			return fmt.Errorf("the manager is not ready: %w: %s\n%s", err, answer, m.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Says waits until the manager has logged a text, for the time that ctx gives.
func (m *Manager) Says(ctx context.Context, text string) error {
	for !strings.Contains(m.Log(), text) {
		select {
		case <-m.done:
			return fmt.Errorf("the manager ended: %w\n%s", m.err, m.Log())
		case <-ctx.Done():
			return fmt.Errorf("the manager does not say %q: %w\n%s", text, ctx.Err(), m.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// Get asks the manager's second port.
func (m *Manager) Get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.MetricsAddress+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", path, response.Status)
	}
	return string(body), err
}

// Log is all that the manager has logged.
func (m *Manager) Log() string { return m.log.String() }

// Pid is the manager's process ID.
func (m *Manager) Pid() int { return m.command.Process.Pid }

// Done is closed when the process has ended.
func (m *Manager) Done() <-chan struct{} { return m.done }

// Stop asks the manager to end, as a kubelet would, waits, and returns how it ended: nil after an orderly exit. One that has just
// been started is given the time to say something: before it listens for the signal, that ends any process.
func (m *Manager) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for m.Log() == "" && ctx.Err() == nil {
		select {
		case <-m.done:
			return m.err
		case <-time.After(time.Millisecond):
		}
	}
	return m.end(syscall.SIGTERM)
}

// Kill ends the manager without notice.
func (m *Manager) Kill() error {
	if err := m.end(syscall.SIGKILL); err != nil && !strings.Contains(err.Error(), "signal: killed") {
		return err
	}
	return nil
}

func (m *Manager) end(signal os.Signal) error {
	if err := m.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the manager: %w", err)
	}
	select {
	case <-m.done:
		return m.err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("the manager did not end within a minute"), m.command.Process.Kill())
	}
}

// log keeps what a process writes.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	copy io.Writer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.copy != nil {
		if _, err := l.copy.Write(p); err != nil {
			return 0, err
		}
	}
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
