package install

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestNamedSecrets runs the manager with permission for the Secrets of two credentials alone.
func TestNamedSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("database", opaque), metav1.CreateOptions{})
	require.NoError(t, err)
	// An entry that nobody can judge must not keep the others from being attached.
	w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: stray, namespace: team}, imagePullSecrets: [{name: tcr.ipsstray}]}")
	values := append(terraform,
		"--set", "rbac.secrets=named",
		"--set", "rbac.credentials=false", // no credential is referred to
		"--set", "global.imagePullSecretsCrs[1].name=second",
		"--set", "global.imagePullSecretsCrs[1].dockerUsername=robot",
		"--set", "global.imagePullSecretsCrs[1].dockerPassword=password",
		"--set", "global.imagePullSecretsCrs[1].dockerServer=second.tencentcloudcr.com:5000")
	w.runHelm("install", append([]string{chart}, values...)...)
	w.collectorLooks()
	m := w.run()

	t.Run("it issues, repairs and rotates", func(t *testing.T) {
		w.Holds("team", "image-pull-secret-crs")
		w.Holds("team", "second")
		w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs", "tcr.ipssecond")
		w.teamLists("stray", "tcr.ipsstray", "tcr.ipsimage-pull-secret-crs", "tcr.ipssecond")
		w.Kubectl("delete", "secret", "tcr.ipssecond", "-n", "team")
		w.Holds("team", "second")
		w.runHelm("upgrade", append(append([]string{chart}, values...), "--set", "global.imagePullSecretsCrs[1].dockerPassword=rotated")...)
		w.Holds("team", "second")
		w.team("late")
		w.Holds("late", "second")
	})
	t.Run("an entry that nobody can judge is left alone for good", func(t *testing.T) {
		assert.NotContains(t, m.Log(), "namespace was not brought in line")
	})
	t.Run("it reads and writes no other Secret", func(t *testing.T) {
		stolen := w.stolen(managerAccount).CoreV1()
		byName := func(name string) metav1.ListOptions {
			return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
		}
		_, get := stolen.Secrets("team").Get(w.Ctx, "database", metav1.GetOptions{})
		_, list := stolen.Secrets("").List(w.Ctx, metav1.ListOptions{})
		_, listOne := stolen.Secrets("team").List(w.Ctx, metav1.ListOptions{})
		_, listOther := stolen.Secrets("").List(w.Ctx, byName("database"))
		_, listOwn := stolen.Secrets(manager.Namespace).List(w.Ctx, metav1.ListOptions{})
		_, watch := stolen.Secrets("").Watch(w.Ctx, metav1.ListOptions{})
		_, watchOther := stolen.Secrets("team").Watch(w.Ctx, byName("database"))
		_, post := stolen.Secrets("team").Create(w.Ctx, secret("tcr.ipssecond"), metav1.CreateOptions{})
		_, apply := stolen.Secrets("team").Patch(w.Ctx, "tcr.ipsthird", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"Secret"}`),
			metav1.PatchOptions{FieldManager: "x"})
		_, patch := stolen.Secrets("team").Patch(w.Ctx, "database", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
		remove := stolen.Secrets("team").Delete(w.Ctx, "database", metav1.DeleteOptions{})
		all := stolen.Secrets("team").DeleteCollection(w.Ctx, metav1.DeleteOptions{}, byName("tcr.ipssecond"))
		for name, err := range map[string]error{
			"get": get, "list": list, "list in a namespace": listOne, "list by name": listOther, "list at home": listOwn,
			"watch": watch, "watch by name": watchOther, "create": post, "apply": apply, "patch": patch, "delete": remove, "delete all": all,
		} {
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
		}
	})
	t.Run("a credential that is not among the values is told of, and stops no other", func(t *testing.T) {
		w.Create("unnamed")
		w.Eventually("its status says so", func() error {
			object, err := w.IPS.Get(w.Ctx, "unnamed", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if text := fmt.Sprint(object.Status.Conditions, object.Status.Failures); !strings.Contains(text, "not allowed to list secrets") {
				return fmt.Errorf("it says %s", text)
			}
			return nil
		})
		w.team("later")
		w.Holds("later", "second")
	})
	t.Run("an uninstall leaves nothing", func(t *testing.T) {
		stop := w.runJobs()
		w.runHelm("uninstall")
		assert.Equal(t, 1, stop(), "jobs that ran")
		require.NoError(t, m.Stop())
		w.teamLists("builder", "theirs")
		assert.Equal(t, []string{"team/stray tcr.ipsstray"}, w.attached(), "what nobody can judge stays")
		w.Lacks("team", "second")
	})
}
