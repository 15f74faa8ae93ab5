package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// documented runs the commands that docs/install.md gives behind a mark, word for word, where the checkout's folder deploy and a
// values.yaml are.
func (w *world) documented(mark string) {
	w.T.Helper()
	text, err := os.ReadFile("../../../docs/install.md")
	require.NoError(w.T, err)
	_, rest, found := strings.Cut(string(text), "<!-- "+mark+" -->\n```sh\n")
	require.True(w.T, found)
	script, _, found := strings.Cut(rest, "```")
	require.True(w.T, found)
	if !w.AttachesByItself() {
		script = regexp.MustCompile(`(?m)^.*# Kubernetes 1\.36 and later$`).ReplaceAllString(script, "")
	}
	tools := w.T.TempDir()
	require.NoError(w.T, os.Symlink(w.helm, filepath.Join(tools, "helm")))
	deploy, err := filepath.Abs("../../../deploy")
	require.NoError(w.T, err)
	require.NoError(w.T, os.Symlink(deploy, filepath.Join(tools, "deploy")))
	require.NoError(w.T, os.WriteFile(filepath.Join(tools, "values.yaml"), []byte(`image: {repository: registry.example.com/tcr-assistant}
global:
  imagePullSecretsCrs: [{name: rendered, dockerUsername: robot, dockerPassword: password, dockerServer: a.example.com}]
`), 0o600))
	command := exec.CommandContext(w.Ctx, "sh", "-ec", script)
	command.Dir = tools
	command.Env = append(w.KubectlCommand(w.Ctx).Env, "PATH="+filepath.Dir(w.KubectlPath())+":"+tools+":"+os.Getenv("PATH"),
		"KUBECONFIG="+w.Kubeconfig(),
		"HELM_CACHE_HOME="+tools, "HELM_CONFIG_HOME="+tools, "HELM_DATA_HOME="+tools)
	out, err := command.CombinedOutput()
	require.NoError(w.T, err, "%s", out)
}

// removeEntries runs the command that the documentation gives, word for word.
func (w *world) removeEntries() {
	w.T.Helper()
	w.documented("remove-entries")
}

// populate creates what an uninstall has to remove: a credential of the release, one made by hand, and accounts that list both.
func (w *world) populate(release string) {
	w.T.Helper()
	w.Create("by-hand")
	for _, namespace := range []string{"default", "kube-node-lease", "kube-public", "kube-system", "team"} {
		w.Holds(namespace, "by-hand")
	}
	w.teamLists("builder", "theirs", "tcr.ipsby-hand", "tcr.ips"+release)
	w.teamLists("default", "tcr.ipsby-hand", "tcr.ips"+release)
}

// collectorKnows waits until the cluster's garbage collector knows of ImagePullSecrets, as it does in any cluster within a minute
// of the CRD's creation. It would never hear of the end of a kind that it did not know.
func (w *world) collectorKnows() {
	w.T.Helper()
	w.collectorLooks()
	w.Create("passing")
	owner, err := w.IPS.Get(w.Ctx, "passing", metav1.GetOptions{})
	require.NoError(w.T, err)
	_, err = w.Client.CoreV1().ConfigMaps("team").Create(w.Ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "passing", OwnerReferences: []metav1.OwnerReference{{APIVersion: "tcr.tencentcloudcr.com/v1", Kind: "ImagePullSecret",
			Name: owner.Name, UID: owner.UID}},
	}}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	w.Kubectl("delete", "imagepullsecret", "passing")
	w.Eventually("the garbage collector removes what it owned", func() error {
		_, err := w.Client.CoreV1().ConfigMaps("team").Get(w.Ctx, "passing", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = assert.AnError
		}
		return fmt.Errorf("it may still be there: %w", err)
	})
	w.teamLists("builder", "theirs")
}

func TestUninstallByHelm(t *testing.T) {
	t.Parallel()
	t.Run("a dead manager makes no difference", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.home()
		w.team("team")
		before := w.objects()
		w.runHelm("install", append([]string{chart}, terraform...)...)
		w.collectorLooks()
		m := w.run()
		w.populate("image-pull-secret-crs")
		require.NoError(t, m.Kill())
		// Somebody else's Secret of such a name, and the entry that they made, are none of our business.
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsforeign"}},
			metav1.CreateOptions{})
		require.NoError(t, err)
		w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: stranger, namespace: team}, imagePullSecrets: [{name: " +
			"tcr.ipsforeign}, {name: tcr.ipsgone}]}")

		stop := w.runJobs()
		w.runHelm("uninstall")
		assert.Equal(t, 1, stop(), "jobs that ran")
		w.teamLists("builder", "theirs")
		w.teamLists("default")
		w.teamLists("stranger", "tcr.ipsforeign")
		w.leaves(before, append(slices.Clone(crds), "Secret team/tcr.ipsforeign", "ServiceAccount team/stranger")...)
	})
	t.Run("where no node runs the job it ends, has deleted nothing, and goes on without it", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.home()
		w.team("team")
		before := w.objects()
		w.runHelm("install", append([]string{chart, "--set", "uninstall.timeoutSeconds=3"}, terraform...)...)
		w.collectorLooks()
		m := w.run()
		w.populate("image-pull-secret-crs")
		require.NoError(t, m.Stop())
		out, err := w.tryHelm("uninstall", "tcr-assistant", "--namespace", manager.Namespace)
		require.Error(t, err)
		assert.Contains(t, out, "tcr-assistant-uninstall")
		w.Kubectl("get", "deployment", "tcr-assistant-controller-manager", "-n", manager.Namespace)
		assert.Contains(t, w.Kubectl("get", "job", "tcr-assistant-uninstall", "-n", manager.Namespace, "-o",
			"jsonpath={.status.conditions[*].reason}"), "DeadlineExceeded", "it stays, to be looked at")
		assert.Equal(t, "86400", w.Kubectl("get", "job", "tcr-assistant-uninstall", "-n", manager.Namespace, "-o",
			"jsonpath={.spec.ttlSecondsAfterFinished}"), "for a day")
		w.runHelm("uninstall", "--no-hooks")
		w.Kubectl("delete", "job", "tcr-assistant-uninstall", "-n", manager.Namespace)
		w.leaves(before, append(slices.Clone(crds), "ImagePullSecret /by-hand", "Secret team/tcr.ipsby-hand",
			"Secret default/tcr.ipsby-hand", "Secret kube-node-lease/tcr.ipsby-hand", "Secret kube-public/tcr.ipsby-hand",
			"Secret kube-system/tcr.ipsby-hand", "Secret "+manager.Namespace+"/tcr.ipsby-hand")...)
		w.Kubectl("delete", "-f", filepath.Join(chart, "crds"))
		w.removeEntries()
		assert.Empty(t, w.attached())
		w.teamLists("builder", "theirs")
		w.leaves(before)
	})
	t.Run("credentials stay where that is wanted, and are taken up again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.home()
		w.team("team")
		w.runHelm("install", append([]string{chart}, terraform...)...)
		m := w.run()
		w.populate("image-pull-secret-crs")
		secret := w.Holds("team", "image-pull-secret-crs")
		w.runHelm("upgrade", chart, "--reuse-values", "--set", "uninstall.keepCredentials=true")
		require.NoError(t, m.Stop())
		w.runHelm("uninstall")
		w.Eventually("the release's objects are gone", func() error {
			if left := w.Kubectl("get", "clusterroles,validatingwebhookconfigurations,mutatingwebhookconfigurations,csr", "-o",
				"name"); strings.Contains(left, "tcr-assistant") {
				return assert.AnError
			}
			return nil
		})
		assert.Equal(t, secret.UID, w.Holds("team", "image-pull-secret-crs").UID)
		w.Holds("team", "by-hand")
		w.teamLists("builder", "theirs", "tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")

		w.runHelm("install", append([]string{chart, "--set", "global.imagePullSecretsCrs[0].dockerPassword=again"}, terraform...)...)
		w.run()
		assert.Equal(t, secret.UID, w.Holds("team", "image-pull-secret-crs").UID)
	})
}

// manifests are the files of an installation without Helm, as arguments of kubectl.
func (w *world) manifests() []string {
	w.T.Helper()
	if w.AttachesByItself() {
		return []string{"-f", allInOne, "-f", "../../../deploy/chart/files/mutating-admission-policy.yaml"}
	}
	return []string{"-f", allInOne}
}

func TestUninstallByKubectl(t *testing.T) {
	t.Parallel()
	t.Run("in order, it leaves nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.team("team")
		before := w.objects()
		manifests := w.manifests()
		w.Kubectl(append([]string{"apply"}, manifests...)...)
		w.collectorLooks()
		m := w.run()
		w.Create("of-release")
		w.populate("of-release")
		w.Kubectl("delete", "imagepullsecrets", "--all")
		w.Eventually("the manager has removed all of it", func() error {
			left := w.Kubectl("get", "secrets", "-A", "-l", "app.kubernetes.io/managed-by=tcr-assistant", "--field-selector",
				"type=kubernetes.io/dockerconfigjson", "-o", "name")
			if attached := w.attached(); left != "" || attached != nil {
				return fmt.Errorf("left: %s %v", left, attached)
			}
			return nil
		})
		w.teamLists("builder", "theirs")
		w.Kubectl(append([]string{"delete"}, manifests...)...)
		require.NoError(t, m.Stop())
		w.leaves(before)
	})
	t.Run("in one stroke, it leaves entries, and one command removes them", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.team("team")
		before := w.objects()
		manifests := w.manifests()
		w.Kubectl(append([]string{"apply"}, manifests...)...)
		m := w.run()
		w.collectorKnows()
		w.Create("of-release")
		w.populate("of-release")
		require.NoError(t, m.Kill())
		w.Kubectl(append([]string{"delete"}, manifests...)...)
		w.leaves(before)
		assert.NotEmpty(t, w.attached())
		w.removeEntries()
		assert.Empty(t, w.attached())
		w.teamLists("builder", "theirs")
	})
	t.Run("after its namespace", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.team("team")
		before := w.objects()
		w.home()
		w.runHelm("install", chart)
		m := w.run()
		w.collectorKnows()
		w.Create("of-release")
		w.populate("of-release")
		w.Kubectl("delete", "namespace", manager.Namespace, "--timeout=60s")
		require.NoError(t, m.Stop())
		w.Kubectl(append([]string{"delete", "--ignore-not-found"}, w.manifests()...)...)
		w.removeEntries()
		assert.Empty(t, w.attached())
		w.teamLists("builder", "theirs")
		w.leaves(before)
	})
}

// TestKeptCredentials ends an installation without Helm by the lines of the documentation, which keep all credentials and nothing else.
func TestKeptCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.team("team")
	before := w.objects()
	w.Kubectl(append([]string{"apply"}, w.manifests()...)...)
	m := w.run()
	w.collectorKnows()
	w.Create("kept")
	w.teamLists("builder", "theirs", "tcr.ipskept")
	uid := w.Holds("team", "kept").UID
	w.documented("keep-credentials")
	require.NoError(t, m.Stop())
	var kept []string
	for _, namespace := range []string{"default", "kube-node-lease", "kube-public", "kube-system", "team"} {
		kept = append(kept, "Secret "+namespace+"/tcr.ipskept")
	}
	w.leaves(before, append(append(kept, "ImagePullSecret /kept"), crds...)...)
	assert.Equal(t, uid, w.Holds("team", "kept").UID)
	w.teamLists("builder", "theirs", "tcr.ipskept")
}

// TestRenderedManifests installs by the lines of the documentation for those who render the chart: a namespace first, then the
// definitions, then what needs them.
func TestRenderedManifests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.documented("render")
	w.run()
	w.team("team")
	w.Holds("team", "rendered")
}
