package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// crds are what Helm never deletes.
var crds = []string{"CustomResourceDefinition /derivedattachments.tcr.tencentcloudcr.com",
	"CustomResourceDefinition /imagepullsecrets.tcr.tencentcloudcr.com"}

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
	t.Parallel()
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w := newWorld(t)
			w.helm = helmPaths[i]
			w.home()
			w.team("team")
			before := w.objects()

			w.runHelm("install", append([]string{chart}, terraform...)...)
			w.collectorLooks()
			m := w.run()
			first := w.Holds("team", "image-pull-secret-crs")
			w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs")

			t.Run("the values arrive as they were written", func(t *testing.T) {
				object, err := w.IPS.Get(w.Ctx, "image-pull-secret-crs", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "100012345678", object.Spec.Docker.Username)
				assert.Equal(t, "*", object.Spec.Namespaces)
				assert.Equal(t, []string{"10.16.0.17 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
			})
			t.Run("the API server attaches by itself where it can", func(t *testing.T) {
				manifest, err := w.tryHelm("get", "manifest", "tcr-assistant", "--namespace", manager.Namespace)
				require.NoError(t, err)
				assert.Equal(t, w.AttachesByItself(), strings.Contains(manifest, "kind: MutatingAdmissionPolicyBinding"), "on Kubernetes %s",
					w.Version())
			})
			t.Run("pod security restricted admits the manager", func(t *testing.T) {
				w.Eventually("its pods were created", func() error {
					pods, err := w.Client.CoreV1().Pods(manager.Namespace).List(w.Ctx,
						metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller-manager"})
					if err == nil && len(pods.Items) != 2 {
						err = fmt.Errorf("there are %d", len(pods.Items))
					}
					return err
				})
			})
			t.Run("an upgrade takes effect with no moment without a secret", func(t *testing.T) {
				secrets, err := w.Client.CoreV1().Secrets("team").Watch(w.Ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion})
				require.NoError(t, err)
				w.runHelm("upgrade", append(append([]string{chart}, terraform...),
					"--set", "global.imagePullSecretsCrs[0].dockerPassword=rotated",
					"--set", "global.imagePullSecretsCrs[1].name=second",
					"--set", "global.imagePullSecretsCrs[1].dockerUsername=robot$second",
					"--set", "global.imagePullSecretsCrs[1].dockerPassword=0123",
					"--set", "global.imagePullSecretsCrs[1].dockerServer=second.tencentcloudcr.com:5000",
					"--set-string", "global.hosts[0].ip=10.16.0.18")...)
				w.Holds("team", "second")
				w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs", "tcr.ipssecond")
				assert.Equal(t, first.UID, w.Holds("team", "image-pull-secret-crs").UID)
				assert.Equal(t, []string{"10.16.0.18 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
				object, err := w.IPS.Get(w.Ctx, "second", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "0123", object.Spec.Docker.Password)
				secrets.Stop()
				for event := range secrets.ResultChan() {
					assert.NotEqual(t, watch.Deleted, event.Type)
				}
			})
			t.Run("an upgrade that no host is left in removes hosts-updater", func(t *testing.T) {
				w.runHelm("upgrade", chart, "--reuse-values", "--set-json", "global.hosts=[]")
				assert.Empty(t, w.Kubectl("get", "daemonsets,configmaps", "-n", manager.Namespace, "-l", "app.kubernetes.io/component=hosts-updater",
					"-o", "name"))
			})
			t.Run("a rollback takes effect", func(t *testing.T) {
				w.runHelm("rollback", "1")
				w.Lacks("team", "second")
				w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs")
				object, err := w.IPS.Get(w.Ctx, "image-pull-secret-crs", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", object.Spec.Docker.Password)
				w.Holds("team", "image-pull-secret-crs")
				assert.Equal(t, []string{"10.16.0.17 fanjiankong-bj.tencentcloudcr.com"}, w.hosts())
			})
			t.Run("an uninstall leaves nothing", func(t *testing.T) {
				w.Create("by-hand")
				w.Holds("team", "by-hand")
				w.teamLists("builder", "theirs", "tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")
				stop := w.runJobs()
				w.runHelm("uninstall")
				assert.Equal(t, 1, stop(), "jobs that ran")
				require.NoError(t, m.Stop())
				assert.Empty(t, w.attached())
				w.leaves(before, crds...)
				w.teamLists("builder", "theirs")
			})
		})
	}
}

// hosts returns what hosts-updater would read.
func (w *world) hosts() []string {
	w.T.Helper()
	config, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Get(w.Ctx, "updater-config", metav1.GetOptions{})
	require.NoError(w.T, err)
	parsed, err := hostsd.ParseConfig([]byte(config.Data[hostsd.ConfigFile]))
	require.NoError(w.T, err)
	require.Empty(w.T, parsed.Refused)
	var lines []string
	for _, entry := range parsed.Entries {
		lines = append(lines, entry.String())
	}
	return lines
}

// TestTheManifestsAreTheChart holds the all-in-one manifests against what the chart renders, with an image that nobody can own.
func TestTheManifestsAreTheChart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.tryHelm("template", "tcr-assistant", chart, "--namespace", manager.Namespace, "--set", "image.repository="+placeholder,
		"--kube-version", "v1.30.0", "--include-crds", "--no-hooks")
	require.NoError(t, err, out)
	text, err := os.ReadFile(allInOne)
	require.NoError(t, err)
	head, rendered, found := strings.Cut(string(text), "\n---\n")
	require.True(t, found)
	assert.Equal(t, out, rendered, "run \"make manifests\"")

	t.Run("its head says where the image has to be named, by a line that does it", func(t *testing.T) {
		_, line, found := strings.Cut(head, "\n#   sed '")
		require.True(t, found)
		script, _, _ := strings.Cut(line, "'")
		sed := exec.CommandContext(w.Ctx, "sed", script, allInOne)
		edited, err := sed.Output()
		require.NoError(t, err)
		assert.NotContains(t, string(edited[len(head):]), placeholder)
		assert.Contains(t, string(edited), `image: "registry.example.com/tcr-assistant:v0.1.0"`)
	})
	t.Run("nobody can own the name of its image", func(t *testing.T) {
		host, _, _ := strings.Cut(placeholder, "/")
		assert.True(t, strings.HasSuffix(host, ".invalid"), "RFC 6761")
		assert.Contains(t, rendered, `image: "`+placeholder+`:v0.1.0"`)
	})
}

// TestEveryFieldIsKnown has the API server read what is rendered with every switch on, and refuse fields that it does not know.
func TestEveryFieldIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.Kubectl("apply", "-f", filepath.Join(chart, "crds"))
	w.Kubectl("wait", cluster.Established, "--timeout=30s", "-f", filepath.Join(chart, "crds"))
	everything := append([]string{"template", "tcr-assistant", chart, "--namespace", manager.Namespace, "--kube-version", w.Version(),
		"--set", "networkPolicy.enabled=true",
		"--set", "image.digest=sha256:" + strings.Repeat("0", 64),
		"--set", "imagePullSecrets[0]=own",
		"--set", "manager.podAnnotations.a=b",
		"--set", "manager.podLabels.a=b",
		"--set", "manager.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
		"--set", "manager.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=a",
		"--set", "manager.topologySpreadConstraints[0].maxSkew=1",
		"--set", "manager.topologySpreadConstraints[0].topologyKey=a",
		"--set", "manager.topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
		"--set", "manager.extraArgs[0]=--concurrency=16",
		"--set", "webhook.certDuration=24h",
		"--set", "webhook.clientCA=-----BEGIN CERTIFICATE-----",
		"--set", "hostsUpdater.podAnnotations.a=b",
		"--set", "hostsUpdater.podLabels.a=b",
		"--set", "hostsUpdater.seLinuxOptions.type=spc_t",
		"--set", "hostsUpdater.maxUnavailable=1",
		"--set", "hostsUpdater.extraArgs[0]=--resync-period=1m",
		"--set", "manager.runAsUser=null",
		"--set", "uninstall.keepCredentials=true",
	}, terraform...)
	for name, args := range map[string][]string{
		"with credentials kept":        everything,
		"with those of an uninstall":   append(slices.Clone(everything), "--set", "uninstall.keepCredentials=false"),
		"with Secrets by name":         append(slices.Clone(everything), "--set", "rbac.secrets=named"),
		"with all Secrets":             append(slices.Clone(everything), "--set", "rbac.secrets=all"),
		"with none of it and no hosts": {"template", "tcr-assistant", chart, "--namespace", manager.Namespace, "--kube-version", w.Version()},
	} {
		t.Run(name, func(t *testing.T) {
			manifest, err := w.tryHelm(args...)
			require.NoError(t, err, manifest)
			out, err := w.Pipe(manifest, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			assert.NoError(t, err, out)
		})
	}
}

func TestPodSecurityOfTheOtherPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.runHelm("install", append([]string{chart}, terraform...)...)
	set, err := w.Client.AppsV1().DaemonSets(manager.Namespace).Get(w.Ctx, "hosts-updater", metav1.GetOptions{})
	require.NoError(t, err)
	for level, refusal := range map[string]string{
		"restricted": "hostPath", "baseline": "hostPath volumes (volume \"etc\")", "privileged": "",
	} {
		t.Run("hosts-updater under "+level, func(t *testing.T) {
			w.Kubectl("label", "--overwrite", "namespace", manager.Namespace, "pod-security.kubernetes.io/enforce="+level)
			_, err := w.Client.CoreV1().Pods(manager.Namespace).Create(w.Ctx,
				&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: set.Spec.Template.Spec},
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
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
