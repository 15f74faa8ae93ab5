// Command demo runs the product's main job on a control plane of its own: it starts one, installs the product, creates the
// sample ImagePullSecret, a namespace and a service account, shows what has become of them, and stays up until Ctrl-C, or until its
// terminal is closed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// entries are the columns that show what a service account holds.
const entries = "custom-columns=NAME:.metadata.name,IMAGE-PULL-SECRETS:.imagePullSecrets[*].name"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	scratch, err := os.MkdirTemp("", "tcr-assistant-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	// Stopping must outlive Ctrl-C: what was started is stopped in order below.
	undying := context.WithoutCancel(ctx)
	c, err := cluster.Start(ctx, cluster.Options{Dir: scratch, Log: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()

	say("Building and starting controller-manager.")
	binary, err := manager.Build(ctx, scratch, "controller-manager")
	if err != nil {
		return err
	}
	if err := errors.Join(manager.Install(ctx, c), manager.InstallPolicy(ctx, c)); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(scratch, "controller-manager.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	m, err := manager.Start(undying, c, manager.Options{Binary: binary, Log: log, Args: []string{"--log-level=info"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := m.Ready(ready); err != nil {
		return err
	}
	if err := walkThrough(ctx, c); err != nil {
		return err
	}

	say("", "Two pods of the Deployment are Pending, as expected: there is no node, and the manager runs as a process.")
	say("", "It stays up until Ctrl-C. The manager's log is "+log.Name()+". To try next, in another terminal:", "")
	kubeconfig, kubectl := filepath.Join(scratch, "kubeconfig"), filepath.Join(scratch, "kubectl")
	if err := errors.Join(os.Symlink(c.Kubeconfig(), kubeconfig), os.Symlink(c.KubectlPath(), kubectl)); err != nil {
		return err
	}
	kubectl = "KUBECONFIG=" + kubeconfig + " " + kubectl
	for _, args := range []string{
		"get ipss -o wide",
		"describe ipss imagepullsecret-sample",
		"create namespace another",
		"-n another get serviceaccounts -o '" + entries + "'",
		"-n another get secrets",
		`patch ipss imagepullsecret-sample --type=merge -p '{"spec":{"namespaces":"default,newns"}}'`,
		`patch ipss imagepullsecret-sample --type=merge -p '{"spec":{"namespaces":"team-*"}}'`,
		"delete ipss imagepullsecret-sample",
	} {
		say("  " + kubectl + " " + args)
	}
	select {
	case <-ctx.Done():
		say("", "Stopping.")
		return nil
	case <-m.Done():
		return fmt.Errorf("the manager ended:\n%s", m.Log())
	}
}

// walkThrough creates what a user would, and shows what comes of it.
func walkThrough(ctx context.Context, c *cluster.Cluster) error {
	root, err := manager.Root(ctx)
	if err != nil {
		return err
	}
	sample := filepath.Join("deploy", "allinone", "imagepullsecret-sample.yaml")
	for _, args := range [][]string{
		{"create", "-f", sample},
		{"wait", "--for=condition=Ready", "--timeout=30s", "ipss/imagepullsecret-sample"},
		{"create", "namespace", "newns"},
		{"create", "serviceaccount", "kung", "-n", "newns"},
		{"get", "serviceaccounts", "-n", "newns", "-o", entries},
		{"get", "secrets", "-n", "newns"},
		{"wait", "--for=jsonpath={.status.secretsDesired}=6", "--timeout=30s", "ipss/imagepullsecret-sample"},
		{"get", "ipss"},
	} {
		say("", "$ kubectl "+strings.Join(args, " "))
		command := c.KubectlCommand(ctx, args...)
		command.Dir = root
		out, err := command.CombinedOutput()
		fmt.Print(string(out))
		if err != nil {
			return fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

func say(lines ...string) {
	for _, line := range lines {
		fmt.Println(line)
	}
}
