package install

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

const crd = "CustomResourceDefinition /imagepullsecrets.tcr.tencentcloudcr.com"

// terraform are the values of the add-on as its Terraform documentation has them.
var terraform = []string{
	"--set", "global.imagePullSecretsCrs[0].name=image-pull-secret-crs",
	"--set", "global.imagePullSecretsCrs[0].namespaces=*",
	"--set", "global.imagePullSecretsCrs[0].serviceAccounts=*",
	"--set", "global.imagePullSecretsCrs[0].type=docker",
	"--set", "global.imagePullSecretsCrs[0].dockerUsername=100012345678",
	"--set", "global.imagePullSecretsCrs[0].dockerPassword=eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
	"--set", "global.imagePullSecretsCrs[0].dockerServer=fanjiankong-bj.tencentcloudcr.com",
	"--set-string", "global.hosts[0].domain=fanjiankong-bj.tencentcloudcr.com",
	"--set-string", "global.hosts[0].ip=10.16.0.17",
	"--set-string", "global.hosts[0].disabled=false",
	"--set", "global.cluster.region=gz",
	"--set", "global.cluster.longregion=ap-guangzhou",
}

func TestHelm(t *testing.T) {
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w := newWorld(t)
			w.helm = helmPaths[i]
			w.home()
			w.account("team", "builder")
			before := w.objects()

			w.runHelm("install", append([]string{chart}, terraform...)...)
			m := w.run()
			first := w.holds("team", "image-pull-secret-crs")
			w.lists("team", "builder", "theirs", "tcr.ipsimage-pull-secret-crs")

			t.Run("the values arrive as they were written", func(t *testing.T) {
				object, err := w.ips.Get(w.ctx, "image-pull-secret-crs", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "100012345678", object.Spec.Docker.Username)
				assert.Equal(t, "*", object.Spec.Namespaces)
				assert.Equal(t, []string{"10.16.0.17 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
			})
			t.Run("pod security restricted admits the manager", func(t *testing.T) {
				w.eventually("its pods were created", func() error {
					pods, err := w.client.CoreV1().Pods(manager.Namespace).List(w.ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller-manager"})
					if err == nil && len(pods.Items) != 2 {
						err = fmt.Errorf("there are %d", len(pods.Items))
					}
					return err
				})
			})
			t.Run("an upgrade takes effect with no moment without a secret", func(t *testing.T) {
				secrets, err := w.client.CoreV1().Secrets("team").Watch(w.ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion})
				require.NoError(t, err)
				w.runHelm("upgrade", append(append([]string{chart}, terraform...),
					"--set", "global.imagePullSecretsCrs[0].dockerPassword=rotated",
					"--set", "global.imagePullSecretsCrs[1].name=second",
					"--set", "global.imagePullSecretsCrs[1].dockerUsername=robot$second",
					"--set", "global.imagePullSecretsCrs[1].dockerPassword=0123",
					"--set", "global.imagePullSecretsCrs[1].dockerServer=second.tencentcloudcr.com:5000",
					"--set-string", "global.hosts[0].ip=10.16.0.18")...)
				w.holds("team", "second")
				w.lists("team", "builder", "theirs", "tcr.ipsimage-pull-secret-crs", "tcr.ipssecond")
				assert.Equal(t, first.UID, w.holds("team", "image-pull-secret-crs").UID)
				assert.Equal(t, []string{"10.16.0.18 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
				object, err := w.ips.Get(w.ctx, "second", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "0123", object.Spec.Docker.Password)
				secrets.Stop()
				for event := range secrets.ResultChan() {
					assert.NotEqual(t, watch.Deleted, event.Type)
				}
			})
			t.Run("an upgrade that no host is left in removes hosts-updater", func(t *testing.T) {
				w.runHelm("upgrade", chart, "--reuse-values", "--set-json", "global.hosts=[]")
				assert.Empty(t, w.kubectl("get", "daemonsets,configmaps", "-n", manager.Namespace, "-l", "app.kubernetes.io/component=hosts-updater", "-o", "name"))
			})
			t.Run("a rollback takes effect", func(t *testing.T) {
				w.runHelm("rollback", "1")
				w.lacks("team", "second")
				w.lists("team", "builder", "theirs", "tcr.ipsimage-pull-secret-crs")
				object, err := w.ips.Get(w.ctx, "image-pull-secret-crs", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", object.Spec.Docker.Password)
				w.holds("team", "image-pull-secret-crs")
				assert.Equal(t, []string{"10.16.0.17 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
			})
			t.Run("an uninstall leaves nothing", func(t *testing.T) {
				w.create("by-hand")
				w.holds("team", "by-hand")
				w.lists("team", "builder", "theirs", "tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")
				stop := w.runJobs()
				w.runHelm("uninstall")
				assert.Equal(t, 1, stop(), "jobs that ran")
				require.NoError(t, m.Stop())
				assert.Empty(t, w.attached())
				w.leaves(before, crd)
				w.lists("team", "builder", "theirs")
			})
		})
	}
}

// hosts returns what hosts-updater would read.
func (w *world) hosts() []string {
	w.t.Helper()
	config, err := w.client.CoreV1().ConfigMaps(manager.Namespace).Get(w.ctx, "updater-config", metav1.GetOptions{})
	require.NoError(w.t, err)
	parsed, err := hostsd.ParseConfig([]byte(config.Data[hostsd.ConfigFile]))
	require.NoError(w.t, err)
	require.Empty(w.t, parsed.Refused)
	var lines []string
	for _, entry := range parsed.Entries {
		lines = append(lines, entry.String())
	}
	return lines
}

func TestNumbersOfValuesFilesKeepTheirDigits(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
global:
  imagePullSecretsCrs:
  - {name: a, dockerUsername: 100012345678, dockerPassword: 7, dockerServer: a.example.com}
`), 0o600))
	for i, helm := range helms {
		w.helm = helmPaths[i]
		out, err := w.tryHelm("template", "x", chart, "-f", file, "--kube-version", "v1.30.0", "--show-only", "templates/imagepullsecrets.yaml")
		require.NoError(t, err, out)
		assert.Contains(t, out, `username: "100012345678"`, helm.Version)
		assert.Contains(t, out, `password: "7"`, helm.Version)
	}
}

func TestPodSecurityOfTheOtherPods(t *testing.T) {
	w := newWorld(t)
	w.home()
	w.runHelm("install", append([]string{chart}, terraform...)...)
	set, err := w.client.AppsV1().DaemonSets(manager.Namespace).Get(w.ctx, "hosts-updater", metav1.GetOptions{})
	require.NoError(t, err)
	for level, refusal := range map[string]string{
		"restricted": "hostPath", "baseline": "hostPath volumes (volume \"etc\")", "privileged": "",
	} {
		t.Run("hosts-updater under "+level, func(t *testing.T) {
			w.kubectl("label", "--overwrite", "namespace", manager.Namespace, "pod-security.kubernetes.io/enforce="+level)
			_, err := w.client.CoreV1().Pods(manager.Namespace).Create(w.ctx,
				&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: set.Spec.Template.Spec}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if refusal == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, refusal)
			if level == "baseline" {
				assert.NotContains(t, err.Error(), "privileged", "the folder is all that it asks for")
				assert.NotContains(t, err.Error(), "capabilities")
				assert.NotContains(t, err.Error(), "host namespaces")
			}
		})
	}
}
