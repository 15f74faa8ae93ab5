package install

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

// TestHostsUpdaterAsInstalled runs what the DaemonSet says over a hosts file of its own, and ends it as an uninstall does.
func TestHostsUpdaterAsInstalled(t *testing.T) {
	t.Parallel()
	const others, ours = "127.0.0.1 localhost\n", "10.16.0.17 fanjiankong-bj.tencentcloudcr.com"
	w := newWorld(t)
	w.home()
	w.runHelm("install", append([]string{chart}, terraform...)...)
	binary, err := manager.Build(w.Ctx, t.TempDir(), "hosts-updater")
	require.NoError(t, err)
	// runs returns the hosts file as the program leaves it.
	runs := func(t *testing.T) string {
		t.Helper()
		set, err := w.Client.AppsV1().DaemonSets(manager.Namespace).Get(w.Ctx, "hosts-updater", metav1.GetOptions{})
		require.NoError(t, err)
		config, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Get(w.Ctx, "updater-config", metav1.GetOptions{})
		require.NoError(t, err)
		dir := t.TempDir()
		hosts := filepath.Join(dir, "hosts")
		require.NoError(t, os.WriteFile(hosts, []byte(others), 0o644))
		for name, text := range config.Data {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
		container := set.Spec.Template.Spec.Containers[0]
		assert.Equal(t, []string{"/hosts-updater"}, container.Command)
		var args []string
		for _, arg := range container.Args {
			args = append(args, strings.NewReplacer("=/config", "="+dir, "=/host/etc/hosts", "="+hosts, "=:8080", "=127.0.0.1:0").Replace(arg))
		}
		command := exec.CommandContext(w.Ctx, binary, args...)
		command.Env = append(os.Environ(), "NODE_NAME=node")
		require.NoError(t, command.Start())
		ended := false
		t.Cleanup(func() {
			if !ended {
				_ = command.Process.Kill()
				_ = command.Wait() // it was killed
			}
		})
		file := func() string {
			text, err := os.ReadFile(hosts)
			require.NoError(t, err)
			return string(text)
		}
		w.Eventually("the line is there", func() error {
			if !strings.Contains(file(), ours) {
				return errors.New("it is not")
			}
			return nil
		})
		require.NoError(t, command.Process.Signal(syscall.SIGTERM))
		ended = true
		require.NoError(t, command.Wait())
		return file()
	}
	t.Run("it removes its lines when it ends", func(t *testing.T) {
		assert.Equal(t, others, runs(t))
	})
	t.Run("it keeps them where that is wanted", func(t *testing.T) {
		w.runHelm("upgrade", chart, "--reuse-values", "--set", "hostsUpdater.keepLines=true")
		assert.Contains(t, runs(t), ours)
	})
}

// TestSwitches holds what is rendered to the values that no other test turns.
func TestSwitches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		name, set, has, lacks string
	}{
		{"no disruption budget", "manager.podDisruptionBudget.enabled=false", "kind: Deployment", "kind: PodDisruptionBudget"},
		{"a disruption budget", "manager.podDisruptionBudget.maxUnavailable=50%", "maxUnavailable: 50%", ""},
		{"the nodes' network", "manager.hostNetwork=true", "hostNetwork: true", "maxSurge: 1\n      maxUnavailable: 0"},
		{"a network of its own", "manager.hostNetwork=false", "maxSurge: 1\n      maxUnavailable: 0", "hostNetwork"},
		{"no policies for the manager", "admissionPolicies.restrictManager=false", "kind: ClusterRole", "kind: ValidatingAdmissionPolicy"},
		{"no policy that attaches, on any version", "admissionPolicies.attach=false", "kind: ClusterRole", "kind: MutatingAdmissionPolicy"},
		{"the policy that attaches, on any version", "admissionPolicies.attach=true", "kind: MutatingAdmissionPolicyBinding", ""},
		{"a digest", "image.digest=sha256:" + strings.Repeat("a", 64) + ",image.tag=v9", "image: \"tcr-assistant/tcr-assistant@sha256:" + strings.Repeat("a", 64), "v9"},
		{"a tag", "image.repository=registry.example.com/a,image.tag=v9", `image: "registry.example.com/a:v9"`, ""},
		{"a failure policy", "webhook.failurePolicy=Fail", "--webhook-failure-policy=Fail", ""},
		{"a lifetime", "webhook.certDuration=24h", "--cert-duration=24h", ""},
		{"the manager's own lifetime", "webhook.certDuration=", "kind: Deployment", "--cert-duration"},
		{"a signer, in the flag", "webhook.certSigner=example.com/serving", "--cert-signer=example.com/serving", ""},
		{"a signer, in the role", "webhook.certSigner=example.com/serving", "resourceNames: [example.com/serving]", ""},
		{"a signer, in the policy", "webhook.certSigner=example.com/serving", `object.spec.signerName == "example.com/serving"`, "kubelet-serving"},
		{"no certificate requests", "rbac.certificates=false", "kind: ClusterRole", "certificatesigningrequests/approval"},
		{"a deadline for the job of an uninstall", "uninstall.timeoutSeconds=7", "activeDeadlineSeconds: 7", ""},
		{"no job of an uninstall", "uninstall.keepCredentials=true", "kind: ClusterRole", "helm.sh/hook"},
		{"network policies", "networkPolicy.enabled=true", "kind: NetworkPolicy", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := w.tryHelm("template", "x", chart, "--namespace", manager.Namespace, "--kube-version", "v1.30.0", "--set", tc.set)
			require.NoError(t, err, out)
			assert.Contains(t, out, tc.has)
			if tc.lacks != "" {
				assert.NotContains(t, out, tc.lacks)
			}
		})
	}
}
