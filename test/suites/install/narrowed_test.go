package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/permissions"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// nothingWasRefused holds that the manager asked for nothing that it was not permitted.
func (w *world) nothingWasRefused() {
	w.T.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User })
	require.NoError(w.T, err)
	for _, refused := range permissions.Refused(requests) {
		w.T.Errorf("the manager may not %s %s", refused.Verb, refused.URI)
	}
}

// TestTheRoleFollowsTheImagePullSecrets runs the manager under the roles that are installed by default.
func TestTheRoleFollowsTheImagePullSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	w.runHelm("install", append([]string{chart}, terraform...)...)
	w.collectorLooks()
	m := w.run()

	t.Run("an object of the values and one made by hand are served alike", func(t *testing.T) {
		w.Create("by-hand")
		w.Holds("team", "image-pull-secret-crs")
		w.Holds("team", "by-hand")
		w.teamLists("builder", "theirs", "tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")
		w.lists("tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")
		w.Kubectl("delete", "secret", "tcr.ipsby-hand", "-n", "team")
		w.Holds("team", "by-hand")
		w.Kubectl("patch", "ipss", "by-hand", "--type=merge", "-p", `{"spec":{"docker":{"password":"rotated"}}}`)
		w.Holds("team", "by-hand")
		w.team("late")
		w.Holds("late", "by-hand")
		w.Kubectl("patch", "ipss", "by-hand", "--type=merge", "-p", `{"spec":{"namespaces":"team"}}`)
		w.Lacks("late", "by-hand")
	})
	t.Run("a name goes with the last of it", func(t *testing.T) {
		w.Kubectl("delete", "ipss", "by-hand")
		w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs")
		w.lists("tcr.ipsimage-pull-secret-crs")
		w.Lacks("team", "by-hand")
	})
	t.Run("an entry that nobody stands behind goes, and somebody else's stays", func(t *testing.T) {
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("tcr.ipsforeign", labelled(nil)), metav1.CreateOptions{})
		require.NoError(t, err)
		w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: stray, namespace: team}, imagePullSecrets: [{name: tcr.ipsstray}, " +
			"{name: tcr.ipsforeign}]}")
		w.teamLists("stray", "tcr.ipsforeign", "tcr.ipsimage-pull-secret-crs")
		w.lists("tcr.ipsimage-pull-secret-crs") // those were borrowed
	})
	t.Run("none of it was refused", func(t *testing.T) {
		w.nothingWasRefused()
		assert.NotContains(t, m.Log(), "namespace was not brought in line")
		assert.NotContains(t, m.Log(), "level=WARN")
	})
	t.Run("what is deleted while nobody leads goes with the next leader", func(t *testing.T) {
		w.Create("orphan")
		w.Holds("team", "orphan")
		w.lists("tcr.ipsimage-pull-secret-crs", "tcr.ipsorphan")
		require.NoError(t, m.Kill())
		w.Kubectl("delete", "ipss", "orphan")
		m = w.run()
		w.teamLists("builder", "theirs", "tcr.ipsimage-pull-secret-crs")
		w.lists("tcr.ipsimage-pull-secret-crs")
	})
	t.Run("what others make of the role is taken back", func(t *testing.T) {
		for name, act := range map[string]func(){
			"emptied": func() {
				w.Kubectl("patch", "clusterrole", secretsrole.Manager.Name, "--type=merge", "-p", `{"rules":[]}`)
			},
			"widened": func() {
				w.Kubectl("patch", "clusterrole", secretsrole.Manager.Name, "--type=merge", "-p",
					`{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`)
			},
			"made anew": func() {
				w.Kubectl("delete", "clusterrole", secretsrole.Manager.Name)
				w.Kubectl("create", "-f", w.file("role.yaml",
					"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: tcr-assistant-secrets-role}}"))
			},
		} {
			t.Run(name, func(t *testing.T) {
				act()
				w.lists("tcr.ipsimage-pull-secret-crs")
				w.Kubectl("patch", "secret", "tcr.ipsimage-pull-secret-crs", "-n", "team", "--type=merge", "-p",
					`{"data":{".dockerconfigjson":"e30="}}`)
				w.Holds("team", "image-pull-secret-crs")
			})
		}
	})
	t.Run("with the last object goes the rule", func(t *testing.T) {
		w.Kubectl("delete", "ipss", "--all")
		w.lists()
		role, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, secretsrole.Manager.Name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Empty(t, role.Rules)
	})
}

// file writes a file for kubectl and returns its path.
func (w *world) file(name, text string) string {
	w.T.Helper()
	path := filepath.Join(w.T.TempDir(), name)
	require.NoError(w.T, os.WriteFile(path, []byte("---\n"+text+"\n"), 0o600))
	return path
}

// roles returns the ClusterRoles of the all-in-one manifests.
func roles(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(allInOne)
	require.NoError(t, err)
	parts := slices.DeleteFunc(strings.Split(string(text), "\n---\n"),
		func(part string) bool { return !strings.Contains(part, "\nkind: ClusterRole\n") })
	require.Len(t, parts, 4)
	return strings.Join(parts, "\n---\n")
}

// TestTheRoleOutlastsWhoeverAppliesItOnceMore has each tool apply the manifests again, and looks at every version of the role
// that there was meanwhile.
func TestTheRoleOutlastsWhoeverAppliesItOnceMore(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]func(w *world, again bool){
		"Helm 3": func(w *world, again bool) {
			w.helm = helmPaths[0]
			w.runHelm(map[bool]string{false: "install", true: "upgrade"}[again], chart)
		},
		"Helm 4": func(w *world, again bool) {
			w.helm = helmPaths[1]
			w.runHelm(map[bool]string{false: "install", true: "upgrade"}[again], chart)
		},
		"Helm 3, and then Helm 4": func(w *world, again bool) {
			w.helm = helmPaths[0]
			if again {
				w.helm = helmPaths[1]
			}
			w.runHelm(map[bool]string{false: "install", true: "upgrade"}[again], chart)
		},
		"kubectl apply":               func(w *world, _ bool) { w.Kubectl("apply", "-f", allInOne) },
		"kubectl apply --server-side": func(w *world, _ bool) { w.Kubectl("apply", "--server-side", "-f", allInOne) },
		"kubectl auth reconcile and apply, as Argo CD does": func(w *world, again bool) {
			if again {
				w.Kubectl("auth", "reconcile", "-f", w.file("roles.yaml", roles(w.T)))
			}
			w.Kubectl("apply", "-f", allInOne)
		},
		"kubectl apply, and then --server-side": func(w *world, again bool) {
			if w.Kubectl("apply", "-f", allInOne); again {
				w.Kubectl("apply", "--server-side", "--force-conflicts", "-f", allInOne)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if strings.HasPrefix(name, "Helm") {
				w.home()
			}
			install(w, false)
			w.run()
			w.Create("central")
			w.Holds("default", "central")
			w.lists("tcr.ipscentral")
			ctx, cancel := context.WithCancel(w.Ctx)
			defer cancel()
			watcher, err := w.Client.RbacV1().ClusterRoles().Watch(ctx,
				metav1.ListOptions{FieldSelector: "metadata.name=" + secretsrole.Manager.Name})
			require.NoError(t, err)
			for range 3 {
				install(w, true)
			}
			w.Kubectl("annotate", "clusterrole", secretsrole.Manager.Name, "the=last")
			for event := range watcher.ResultChan() {
				role, is := event.Object.(*rbacv1.ClusterRole)
				require.True(t, is, "%v", event)
				require.Equal(t, fmt.Sprint(secretsrole.Manager.Rules([]string{"tcr.ipscentral"})), fmt.Sprint(role.Rules))
				if role.Annotations["the"] == "last" {
					break
				}
			}
		})
	}
	t.Run("one that replaces it is put right", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Kubectl("apply", "-f", allInOne)
		m := w.run()
		w.Create("central")
		w.Holds("default", "central")
		for range 3 {
			w.Kubectl("replace", "-f", w.file("role.yaml",
				"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: tcr-assistant-secrets-role}}"))
			w.lists("tcr.ipscentral")
			w.Kubectl("patch", "ipss", "central", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"docker":{"password":"%d"}}}`, time.Now().UnixNano()))
			w.Holds("default", "central")
		}
		assert.NotContains(t, m.Log(), "level=WARN", "nothing of it is told as a failure")
	})
}

// TestFromOneModeToAnother upgrades with a manager that is replaced as a Deployment replaces it: afterwards.
func TestFromOneModeToAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	mode := func(mode string) []string {
		return append([]string{chart, "--set", "rbac.secrets=" + mode}, terraform...)
	}
	w.runHelm("install", mode("all")...)
	w.collectorLooks()
	m := w.run()
	w.Create("by-hand")
	w.Holds("team", "by-hand")
	uid := w.Holds("team", "by-hand").UID
	for i, next := range []string{"narrowed", "all", "narrowed", "named", "narrowed", "all"} {
		t.Run(fmt.Sprintf("%d, to %s", i, next), func(t *testing.T) {
			w.runHelm("upgrade", mode(next)...)
			require.NoError(t, m.Stop())
			m = w.run()
			namespace := fmt.Sprintf("after-%d", i)
			w.team(namespace)
			w.Holds(namespace, "image-pull-secret-crs")
			_, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, secretsrole.Manager.Name, metav1.GetOptions{})
			if next != "narrowed" {
				require.Error(t, err, "the role goes with its mode")
			} else {
				require.NoError(t, err)
				w.lists("tcr.ipsby-hand", "tcr.ipsimage-pull-secret-crs")
			}
			if next != "named" {
				w.Holds(namespace, "by-hand")
				w.Kubectl("patch", "ipss", "by-hand", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"docker":{"password":"%d"}}}`, i))
				assert.Equal(t, uid, w.Holds("team", "by-hand").UID, "it is the same one")
			}
		})
	}
}

// TestAThousandComeAndGo creates and deletes a thousand ImagePullSecrets.
func TestAThousandComeAndGo(t *testing.T) {
	t.Parallel()
	const many = 1000
	w := newWorld(t)
	w.home()
	w.Kubectl("create", "namespace", "team")
	w.runHelm("install", chart)
	w.collectorLooks()
	w.run()
	before, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, secretsrole.Manager.Name, metav1.GetOptions{})
	require.NoError(t, err)
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprintf("some-%04d", i)
	}
	each := func(act func(name string) error) {
		var acting sync.WaitGroup
		for part := range slices.Chunk(names, many/8) {
			acting.Go(func() {
				for _, name := range part {
					assert.NoError(t, act(name))
				}
			})
		}
		acting.Wait()
	}
	each(func(name string) error {
		_, err := w.IPS.Create(w.Ctx, suite.Sample(name, suite.InNamespaces("team")), metav1.CreateOptions{})
		return err
	})
	issued := func(want int) {
		w.Eventually("the namespace holds as many Secrets as there are objects", func() error {
			list, err := w.Client.CoreV1().Secrets("team").List(w.Ctx,
				metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeDockerConfigJson)})
			if err == nil && len(list.Items) != want {
				err = fmt.Errorf("it holds %d", len(list.Items))
			}
			return err
		})
	}
	issued(many)
	listed, err := w.listed()
	require.NoError(t, err)
	assert.Len(t, listed, many)
	each(func(name string) error { return w.IPS.Delete(w.Ctx, name, metav1.DeleteOptions{}) })
	w.lists()
	issued(0)
	after, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, secretsrole.Manager.Name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, before.Rules, after.Rules)
	assert.Equal(t, before.Labels, after.Labels)
	assert.Equal(t, before.Annotations, after.Annotations)
	w.nothingWasRefused()
	writes, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Resource == "clusterroles" && r.Verb == "patch"
	})
	require.NoError(t, err)
	assert.Less(t, len(writes), many/5, "many names are one write")
}

// TestARoleThatIsNotBound says what is missing, and goes on once it is there.
func TestARoleThatIsNotBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.runHelm("install", chart)
	binding, err := w.Client.RbacV1().ClusterRoleBindings().Get(w.Ctx, "tcr-assistant-secrets-rolebinding", metav1.GetOptions{})
	require.NoError(t, err)
	w.Kubectl("delete", "clusterrolebinding", binding.Name)
	w.run()
	w.Create("central")
	w.Eventually("the status says so", func() error {
		object, err := w.IPS.Get(w.Ctx, "central", metav1.GetOptions{})
		if err == nil && !strings.Contains(fmt.Sprint(object.Status.Failures), "is it bound to the manager's service account?") {
			err = fmt.Errorf("it says %v", object.Status.Failures)
		}
		return err
	})
	binding.ObjectMeta = metav1.ObjectMeta{Name: binding.Name}
	_, err = w.Client.RbacV1().ClusterRoleBindings().Create(w.Ctx, binding, metav1.CreateOptions{})
	require.NoError(t, err)
	w.Holds("default", "central")
	w.Kubectl("wait", "--for=condition=Ready", "--timeout=60s", "ipss/central")
	_, err = w.Client.RbacV1().ClusterRoles().Patch(w.Ctx, secretsrole.Manager.Name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	w.lists("tcr.ipscentral")
}
