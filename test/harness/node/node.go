//go:build linux

// Package node brings up a Kubernetes cluster of one real node: a control plane of test/harness/cluster, kube-scheduler, kubelet,
// kube-proxy and containerd, and beside it a DNS server that knows no name and a private registry. It configures the whole
// machine that it runs on, so it runs only on one that machine.Run has made.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// Name of the node.
const Name = machine.HostName

// Addresses on the node's network, which nobody else is on. Pods have addresses of their own.
const (
	Address         = "10.200.0.10" // of the node
	RegistryAddress = "10.200.0.20" // of the registry, the "private" one
	gateway         = "10.200.0.1"  // where nobody is
	podCIDR         = "10.244.0.0/24"
)

// patience bounds how long one component may take to come up, on a busy machine too.
const patience = 2 * time.Minute

// Node is a running cluster of one node.
type Node struct {
	// Cluster is the control plane.
	*cluster.Cluster

	client     kubernetes.Interface
	binary     string // kubelet, kube-proxy and kube-scheduler
	kubeconfig string // of the kubelet
	dir        string
	dns        *nowhere
	guarded    *http.Server // nil without a guarded registry
	running    map[string]*process.Process
}

// Start brings up the cluster and returns once the node is ready. It tells progress what it does.
func Start(ctx context.Context, progress io.Writer) (n *Node, err error) {
	if !machine.Inside() {
		return nil, errors.New("starting a node: this is not a machine of its own, see machine.Run")
	}
	began := time.Now()
	n = &Node{dir: "/run/node", running: map[string]*process.Process{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a node: %w", err), n.Stop())
		}
	}()
	if n.binary, err = binaries.BuildNode(ctx, "", progress); err != nil {
		return n, err
	}
	if err := network(); err != nil {
		return n, err
	}
	if n.dns, err = serveNowhere(Address); err != nil {
		return n, err
	}
	if n.Cluster, err = cluster.Start(ctx, cluster.Options{Log: progress, APIServerArgs: []string{
		"--bind-address=0.0.0.0",
		"--advertise-address=" + Address,
		// The Service kubernetes gets its endpoint: pods reach the API server through it.
		"--endpoint-reconciler-type=lease",
	}}); err != nil {
		return n, err
	}
	if n.client, err = kubernetes.NewForConfig(n.RESTConfig()); err != nil {
		return n, err
	}
	if err := n.configure(); err != nil {
		return n, err
	}
	if err := n.startScheduler(); err != nil {
		return n, err
	}
	if err := n.startContainerd(ctx); err != nil {
		return n, err
	}
	pause, err := Workload(ctx)
	if err != nil {
		return n, err
	}
	if err := n.Import(ctx, pauseImage, pause); err != nil {
		return n, err
	}
	if err := n.startKubelet(ctx); err != nil {
		return n, err
	}
	_, _ = fmt.Fprintf(progress, "Started node %s in %s.\n", Name, time.Since(began).Round(100*time.Millisecond))
	return n, nil
}

// Boot starts what Crash killed, and returns once the node is ready.
func (n *Node) Boot(ctx context.Context) error {
	if err := n.startContainerd(ctx); err != nil {
		return err
	}
	return n.startKubelet(ctx)
}

// Crash kills the kubelet, kube-proxy, the container runtime and every container, all at once as far as can be. The
// control plane and the scheduler go on.
func (n *Node) Crash() error {
	return errors.Join(n.kill("kubelet"), n.kill("kube-proxy"), n.kill("containerd"), killContainers())
}

// Stop ends the cluster. What it has left on the machine goes with the machine. Stopping again does nothing.
func (n *Node) Stop() error {
	var errs []error
	for name := range n.running {
		errs = append(errs, n.kill(name))
	}
	errs = append(errs, killContainers())
	if n.Cluster != nil {
		errs = append(errs, n.Cluster.Stop())
	}
	if n.guarded != nil {
		errs = append(errs, n.guarded.Close())
	}
	if n.dns != nil {
		errs = append(errs, n.dns.close())
	}
	return errors.Join(errs...)
}

// KeepLogs copies the logs of every component to a new folder outside of the machine, and returns its path.
func (n *Node) KeepLogs(name string) (dir string, err error) {
	if dir, err = os.MkdirTemp(machine.OutsideTempDir(), "tcr-assistant-logs-"+name+"-"); err != nil {
		return "", fmt.Errorf("keeping logs: %w", err)
	}
	for _, from := range []string{n.logDir(), "/var/log/pods", n.LogDir()} {
		if err := os.CopyFS(filepath.Join(dir, filepath.Base(from)), os.DirFS(from)); err != nil {
			return "", fmt.Errorf("keeping logs: %w", err)
		}
	}
	return dir, nil
}

func (n *Node) logDir() string { return filepath.Join(n.dir, "components") }

// run starts a component, given its binary and its name, which is its first argument.
func (n *Node) run(binary, name string, args ...string) error {
	p, err := process.Start(binary, name, n.dir, filepath.Join(n.logDir(), name+".log"), args)
	if err == nil {
		n.running[name] = p
	}
	return err
}

func (n *Node) kill(name string) error {
	p, ok := n.running[name]
	if !ok {
		return nil
	}
	delete(n.running, name)
	return p.Stop()
}

// await asks until ready returns no error, or a component ends, or ctx does.
func (n *Node) await(ctx context.Context, what string, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		for _, p := range n.running {
			select {
			case <-p.Ended():
				return p.Death()
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last: %w", what, context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
