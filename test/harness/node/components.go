//go:build linux

package node

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed config
var configs embed.FS

// Paths of what configure writes.
const (
	containerdSocket = "/run/containerd/containerd.sock"
	registryHosts    = "/etc/containerd/certs.d"
	pauseImage       = "node.invalid/pause:1"
)

// configure writes every configuration file, at the place where a node has it or in the node's own folder.
func (n *Node) configure() error {
	values := map[string]string{
		"Address": Address, "ContainerdSocket": containerdSocket, "PauseImage": pauseImage, "PodCIDR": podCIDR,
		"RegistryHosts": registryHosts,
	}
	for name, identity := range map[string][]string{
		"Kubelet":   {"system:node:" + Name, "system:nodes"},
		"Proxy":     {"system:kube-proxy"},
		"Scheduler": {"system:kube-scheduler"},
	} {
		path, err := n.KubeconfigFor(identity[0], identity[1:]...)
		if err != nil {
			return err
		}
		values[name+"Kubeconfig"] = path
	}
	if err := os.MkdirAll(n.logDir(), 0o755); err != nil {
		return err
	}
	for file, target := range map[string]string{
		"containerd.toml": "/etc/containerd/config.toml",
		"cni.json":        "/etc/cni/net.d/10-bridge.conflist",
		"kubelet.yaml":    "/var/lib/kubelet/config.yaml",
		"kube-proxy.yaml": "/var/lib/kube-proxy/config.yaml",
		"scheduler.yaml":  "/var/lib/kube-scheduler/config.yaml",
	} {
		parsed, err := template.New(file).Option("missingkey=error").ParseFS(configs, "config/"+file)
		if err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
		var text strings.Builder
		if err := parsed.Execute(&text, values); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
		if err := write(target, text.String()); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
	}
	n.kubeconfig = values["KubeletKubeconfig"]
	return nil
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (n *Node) startScheduler() error {
	return n.run(n.binary, "kube-scheduler", "--config=/var/lib/kube-scheduler/config.yaml", "--bind-address=127.0.0.1")
}

func (n *Node) startContainerd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := n.run("/usr/bin/containerd", "containerd", "--config=/etc/containerd/config.toml"); err != nil {
		return err
	}
	return n.await(ctx, "containerd", func() error { return ctr(ctx, "version") })
}

// startKubelet starts the kubelet and kube-proxy, and waits for the node to be ready.
func (n *Node) startKubelet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	started := time.Now().Truncate(time.Second) // as the API server does
	if err := n.run(n.binary, "kubelet", "--config=/var/lib/kubelet/config.yaml", "--kubeconfig="+n.kubeconfig,
		"--node-ip="+Address); err != nil {
		return err
	}
	if err := n.run(n.binary, "kube-proxy", "--config=/var/lib/kube-proxy/config.yaml"); err != nil {
		return err
	}
	return n.await(ctx, "the node to be ready", func() error {
		object, err := n.client.CoreV1().Nodes().Get(ctx, Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range object.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && !condition.LastHeartbeatTime.Time.Before(started) {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v", object.Status.Conditions)
	})
}

// ctr runs containerd's own client in the namespace that the kubelet uses.
func ctr(ctx context.Context, args ...string) error {
	args = append([]string{"--address=" + containerdSocket, "--namespace=k8s.io"}, args...)
	if out, err := exec.CommandContext(ctx, "/usr/bin/ctr", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// killContainers kills what runs in containers, and the shims that hold them.
func killContainers() error {
	var pids []int
	err := filepath.WalkDir(containerGroups, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return nil // groups go away meanwhile
		}
		if text, err := os.ReadFile(path); err == nil {
			for field := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), "containerd-shim") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("killing container process %d: %w", pid, err)
		}
	}
	return nil
}
