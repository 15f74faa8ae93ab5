package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// RESTConfig returns the configuration of a client that may do everything and is not
// slowed down on the client's side.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.restConfig) }

// Kubeconfig is the path of the file that lets its reader do everything.
func (c *Cluster) Kubeconfig() string { return c.path(adminConfigFile) }

// KubeconfigFor writes a kubeconfig file for another identity, which its client certificate
// names, and returns its path.
func (c *Cluster) KubeconfigFor(user string, groups ...string) (path string, err error) {
	text, err := c.clientConfig(time.Now(), user, groups...)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(c.dir, "*.kubeconfig") // readable by its owner only
	if err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %q: %w", user, err)
	}
	if _, err = file.Write(text); err == nil {
		err = file.Close()
	}
	if err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %q: %w", user, err)
	}
	return file.Name(), nil
}

func (c *Cluster) clientConfig(now time.Time, user string, groups ...string) ([]byte, error) {
	client, err := c.authority.client(now, user, groups...)
	if err != nil {
		return nil, err
	}
	return c.authority.kubeconfig(c.url(c.apiServerPort), user, client)
}

// KubectlPath is the path of a kubectl of the cluster's version.
func (c *Cluster) KubectlPath() string { return c.kubernetes.Kubectl }

// KubectlCommand returns a kubectl command that is ready to run, as the one who may do
// everything unless args hold --kubeconfig. It neither reads nor writes anything in the
// user's home.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.kubernetes.Kubectl, args...)
	cmd.Env = append(cmd.Environ(),
		"KUBECONFIG="+c.Kubeconfig(),
		"KUBECACHEDIR="+c.path(kubectlCacheFolder),
		"KUBERC=off")
	return cmd
}

// Kubectl runs kubectl (see KubectlCommand) and returns what it printed. The error of a
// kubectl that fails wraps its *exec.ExitError and holds what it printed on standard error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, problems bytes.Buffer
	cmd := c.KubectlCommand(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("running kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), problems.String(), err
}
