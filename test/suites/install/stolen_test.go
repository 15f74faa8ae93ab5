package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// listed returns the names that the role lists, and fails where it holds anything else.
func (w *world) listed() ([]string, error) {
	role, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, secretsrole.Manager.Name, metav1.GetOptions{})
	if err != nil || len(role.Rules) == 0 {
		return nil, err
	}
	names := role.Rules[0].ResourceNames
	if have, want := fmt.Sprint(role.Rules), fmt.Sprint(secretsrole.Manager.Rules(names)); have != want {
		return nil, fmt.Errorf("it holds %s", have)
	}
	return names, nil
}

// lists waits until the role lists exactly these names.
func (w *world) lists(want ...string) {
	w.T.Helper()
	w.Eventually("the role lists what it should", func() error {
		have, err := w.listed()
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("it lists %.500q instead of %.500q", have, want)
		}
		return err
	})
}

// foreignReads are attempts to read Secrets that are not listed.
func foreignReads(ctx context.Context) []attempt {
	get := func(namespace, name string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
			return err
		}
	}
	list := func(namespace string, options metav1.ListOptions) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets(namespace).List(ctx, options)
			return err
		}
	}
	watch := func(namespace string, options metav1.ListOptions) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			watcher, err := stolen.CoreV1().Secrets(namespace).Watch(ctx, options)
			if err == nil {
				watcher.Stop()
			}
			return err
		}
	}
	fields := func(selector string) metav1.ListOptions { return metav1.ListOptions{FieldSelector: selector} }
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=tcr-assistant"}
	const may = "cannot get resource \"secrets\""
	const mayList = "cannot list resource \"secrets\""
	const mayWatch = "cannot watch resource \"secrets\""
	return []attempt{
		{"get a foreign Secret", get("team", "database"), may},
		{"get one of its own namespace", get(manager.Namespace, "theirs"), may},
		{"get one of kube-system", get("kube-system", "cloud"), may},
		{"get a foreign one of such name", get("team", "tcr.ipsforeign"), may},
		{"get one that is not there", get("team", "tcr.ipsnobody"), may},
		{"get one that is named like all of ours", get("team", "tcr.ips"), may},
		{"list all", list("", metav1.ListOptions{}), mayList},
		{"list those of a namespace", list("team", metav1.ListOptions{}), mayList},
		{"list by a foreign name", list("", fields("metadata.name=database")), mayList},
		{"list by a name of ours that is not listed", list("", fields("metadata.name=tcr.ipsforeign")), mayList},
		{"list all but one", list("", fields("metadata.name!=tcr.ipscentral")), mayList},
		{"list by namespace", list("", fields("metadata.namespace=team")), mayList},
		{"list by type", list("", fields("type=kubernetes.io/dockerconfigjson")), mayList},
		{"list by our label", list("", ours), mayList},
		{"watch all", watch("", metav1.ListOptions{}), mayWatch},
		{"watch those of a namespace", watch("team", metav1.ListOptions{}), mayWatch},
		{"watch by a foreign name", watch("team", fields("metadata.name=database")), mayWatch},
		{"watch by our label", watch("", ours), mayWatch},
	}
}

// foreignWrites are attempts to write Secrets that are not listed, or to make others of those that are.
func foreignWrites(ctx context.Context) []attempt {
	create := func(name string, edit ...func(*corev1.Secret)) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Create(ctx, secret(name, edit...), metav1.CreateOptions{})
			return err
		}
	}
	patch := func(name string, kind types.PatchType, body string) func(kubernetes.Interface) error {
		options := metav1.PatchOptions{}
		if kind == types.ApplyPatchType {
			options.FieldManager = "thief"
		}
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Patch(ctx, name, kind, []byte(body), options)
			return err
		}
	}
	update := func(name string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Update(ctx, secret(name), metav1.UpdateOptions{})
			return err
		}
	}
	remove := func(name string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			return stolen.CoreV1().Secrets("team").Delete(ctx, name, metav1.DeleteOptions{})
		}
	}
	removeAll := func(selector string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			return stolen.CoreV1().Secrets("team").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: selector})
		}
	}
	const secretsOnly = "writes only Secrets of type kubernetes.io/dockerconfigjson"
	return []attempt{
		{"create another type", create("tcr.ipsx", opaque), secretsOnly},
		{"create a token of another account", create("tcr.ipsx", func(s *corev1.Secret) {
			s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "builder"}
		}), secretsOnly},
		{"create another name", create("registry"), secretsOnly},
		{"create one without its mark", create("tcr.ipsx", labelled(nil)), secretsOnly},
		{"patch a foreign Secret", patch("database", types.MergePatchType, `{"data":{"password":"aGE="}}`), "cannot patch"},
		{"apply a foreign Secret", patch("database", types.ApplyPatchType, `{"apiVersion":"v1","kind":"Secret"}`), "cannot patch"},
		{"apply one that is not listed", patch("tcr.ipsthird", types.ApplyPatchType, `{"apiVersion":"v1","kind":"Secret"}`), "cannot patch"},
		{"patch a foreign one of such name", patch("tcr.ipsforeign", types.MergePatchType, `{"data":{}}`), "cannot patch"},
		{"take its mark off one of ours", patch("tcr.ipscentral", types.MergePatchType, `{"metadata":{"labels":null}}`), secretsOnly},
		{"replace a foreign Secret", update("database"), "cannot update"},
		{"replace one of ours", update("tcr.ipscentral"), "cannot update"},
		{"delete a foreign Secret", remove("database"), "cannot delete"},
		{"delete a foreign one of such name", remove("tcr.ipsforeign"), "cannot delete"},
		{"delete all of a namespace", removeAll(""), "cannot deletecollection"},
		{"delete all of one of our names", removeAll("metadata.name=tcr.ipscentral"), "cannot deletecollection"},
	}
}

// widenings are attempts to have the role grant more, or to have more roles.
func widenings(ctx context.Context) []attempt {
	const (
		namesOnly = "lists in its role only Secrets that are named tcr.ips"
		rulesOnly = "changes nothing of the role in which it lists Secrets but its rules"
	)
	patch := func(name string, kind types.PatchType, body any) func(kubernetes.Interface) error {
		options := metav1.PatchOptions{}
		if kind == types.ApplyPatchType {
			options = metav1.PatchOptions{FieldManager: "thief", Force: new(true)}
		}
		return func(stolen kubernetes.Interface) error {
			text, err := json.Marshal(body)
			if err == nil {
				_, err = stolen.RbacV1().ClusterRoles().Patch(ctx, name, kind, text, options)
			}
			return err
		}
	}
	rule := func(edit func(*rbacv1.PolicyRule)) func(kubernetes.Interface) error {
		rules := append(secretsrole.Manager.Rules([]string{"tcr.ipscentral"}), secretsrole.Manager.Rules([]string{"tcr.ipsx"})...)
		edit(&rules[1])
		return patch(secretsrole.Manager.Name, types.MergePatchType, map[string]any{"rules": rules})
	}
	metadata := func(field string, value any) func(kubernetes.Interface) error {
		return patch(secretsrole.Manager.Name, types.MergePatchType, map[string]any{"metadata": map[string]any{field: value}})
	}
	everything := []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	return []attempt{
		{"a rule without names", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = nil }), namesOnly},
		{"a foreign name", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = []string{"database"} }), namesOnly},
		{"a foreign name among its own", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = append(r.ResourceNames, "database") }), namesOnly},
		{"a name almost like its own", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = []string{"tcr.ip"} }), namesOnly},
		{"a blank name", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = []string{""} }), namesOnly},
		{"any name", rule(func(r *rbacv1.PolicyRule) { r.ResourceNames = []string{"*"} }), namesOnly},
		{"another resource", rule(func(r *rbacv1.PolicyRule) { r.Resources = []string{"pods"} }), namesOnly},
		{"another resource beside", rule(func(r *rbacv1.PolicyRule) { r.Resources = append(r.Resources, "configmaps") }), namesOnly},
		{"a subresource", rule(func(r *rbacv1.PolicyRule) { r.Resources = []string{"serviceaccounts/token"} }), namesOnly},
		{"any resource", rule(func(r *rbacv1.PolicyRule) { r.Resources = []string{"*"} }), namesOnly},
		{"another group", rule(func(r *rbacv1.PolicyRule) { r.APIGroups = []string{"apps"} }), namesOnly},
		{"any group", rule(func(r *rbacv1.PolicyRule) { r.APIGroups = []string{"*"} }), namesOnly},
		{"the verb create", rule(func(r *rbacv1.PolicyRule) { r.Verbs = []string{"create"} }), namesOnly},
		{"the verb update", rule(func(r *rbacv1.PolicyRule) { r.Verbs = append(r.Verbs, "update") }), namesOnly},
		{"the verb deletecollection", rule(func(r *rbacv1.PolicyRule) { r.Verbs = []string{"deletecollection"} }), namesOnly},
		{"any verb", rule(func(r *rbacv1.PolicyRule) { r.Verbs = []string{"*"} }), namesOnly},
		{"paths", rule(func(r *rbacv1.PolicyRule) {
			*r = rbacv1.PolicyRule{NonResourceURLs: []string{"*"}, Verbs: []string{"get"}}
		}), namesOnly},
		{"everything", patch(secretsrole.Manager.Name, types.MergePatchType, map[string]any{"rules": everything}), namesOnly},
		{"everything, applied", patch(secretsrole.Manager.Name, types.ApplyPatchType, map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": everything}), namesOnly},
		{"everything, by a JSON patch", patch(secretsrole.Manager.Name, types.JSONPatchType,
			[]any{map[string]any{"op": "add", "path": "/rules", "value": everything}}), namesOnly},
		{"a label by which others take up its rules", metadata("labels", map[string]any{"rbac.authorization.k8s.io/aggregate-to-view": "true"}),
			rulesOnly},
		{"an annotation", metadata("annotations", map[string]any{"a": "b"}), rulesOnly},
		{"a finalizer", metadata("finalizers", []string{"example.com/hold"}), rulesOnly},
		{"an owner", metadata("ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": "Namespace", "name": "team", "uid": "1"}}),
			rulesOnly},
		{"the rules of others", patch(secretsrole.Manager.Name, types.MergePatchType, map[string]any{
			"aggregationRule": map[string]any{"clusterRoleSelectors": []any{map[string]any{}}}}), rulesOnly},
		{"its own role", patch("tcr-assistant-manager-role", types.MergePatchType, map[string]any{"rules": everything}), "cannot patch"},
		{"somebody's role", patch("view", types.MergePatchType, map[string]any{"rules": everything}), "cannot patch"},
		{"to replace the role", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoles().Update(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: secretsrole.Manager.Name},
				Rules: everything}, metav1.UpdateOptions{})
			return err
		}, "cannot update"},
		{"to delete the role", func(stolen kubernetes.Interface) error {
			return stolen.RbacV1().ClusterRoles().Delete(ctx, secretsrole.Manager.Name, metav1.DeleteOptions{})
		}, "cannot delete"},
		{"a new role", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "mine"}},
				metav1.CreateOptions{})
			return err
		}, "cannot create"},
		{"a new role in a namespace", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().Roles("team").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}, metav1.CreateOptions{})
			return err
		}, "cannot create"},
		{"a binding", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "mine"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole",
					Name: secretsrole.Manager.Name}}, metav1.CreateOptions{})
			return err
		}, "cannot create"},
		{"a binding of its own changed", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoleBindings().Patch(ctx, "tcr-assistant-secrets-rolebinding", types.MergePatchType,
				[]byte(`{"subjects":[]}`), metav1.PatchOptions{})
			return err
		}, "cannot patch"},
	}
}

// sheddings are attempts to get rid of the policies.
func sheddings(ctx context.Context) []attempt {
	const name = "tcr-assistant-manager-clusterroles"
	return []attempt{
		{"delete a policy", func(stolen kubernetes.Interface) error {
			return stolen.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, name, metav1.DeleteOptions{})
		}, "cannot delete"},
		{"delete a policy's binding", func(stolen kubernetes.Interface) error {
			return stolen.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, name, metav1.DeleteOptions{})
		}, "cannot delete"},
		{"change a policy", func(stolen kubernetes.Interface) error {
			_, err := stolen.AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(ctx, name, types.MergePatchType,
				[]byte(`{"spec":{"failurePolicy":"Ignore"}}`), metav1.PatchOptions{})
			return err
		}, "cannot patch"},
		{"change a policy's binding", func(stolen kubernetes.Interface) error {
			_, err := stolen.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Patch(ctx, name, types.MergePatchType,
				[]byte(`{"spec":{"validationActions":["Audit"]}}`), metav1.PatchOptions{})
			return err
		}, "cannot patch"},
		{"a policy of its own that changes what is written", func(stolen kubernetes.Interface) error {
			_, err := stolen.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx,
				&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}, metav1.CreateOptions{})
			return err
		}, "cannot create"},
	}
}

// disguises are attempts to act as another.
func disguises(ctx context.Context, w *world) []attempt {
	as := func(who rest.ImpersonationConfig) func(kubernetes.Interface) error {
		return func(kubernetes.Interface) error {
			_, config := w.tokenFor(managerAccount)
			config.Impersonate = who
			other, err := kubernetes.NewForConfig(config)
			if err == nil {
				_, err = other.CoreV1().Secrets("team").Get(ctx, "database", metav1.GetOptions{})
			}
			return err
		}
	}
	token := func(namespace, name string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}
	}
	return []attempt{
		{"as the administrator", as(rest.ImpersonationConfig{UserName: "admin", Groups: []string{"system:masters"}}), "cannot impersonate"},
		{"as another account", as(rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:default"}), "cannot impersonate"},
		{"as itself, of whom the policies do not speak", as(rest.ImpersonationConfig{UserName: manager.User}), "cannot impersonate"},
		{"a token of another account", token("team", "builder"), "cannot create resource \"serviceaccounts/token\""},
		{"a token of its own", token(manager.Namespace, managerAccount), "cannot create resource \"serviceaccounts/token\""},
		{"a certificate of the administrator", func(stolen kubernetes.Interface) error {
			_, err := stolen.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
				ObjectMeta: metav1.ObjectMeta{Name: "mine"},
				Spec: certificatesv1.CertificateSigningRequestSpec{
					Request: certificateRequest(w.T), SignerName: "kubernetes.io/kube-apiserver-client",
					Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
				},
			}, metav1.CreateOptions{})
			return err
		}, "requests only the serving certificate tcr-assistant-webhook"},
		{"a pod of another account", func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Pods("team").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: corev1.PodSpec{
				ServiceAccountName: "builder", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{})
			return err
		}, "cannot create"},
	}
}

// TestAStolenTokenReadsNoForeignSecret tries, with the token of a manager that runs under the roles and policies that are
// installed by default, whatever might lead to a Secret that is not the product's, in another namespace than the manager's.
func TestAStolenTokenReadsNoForeignSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	foreign := map[string]*corev1.Secret{}
	for namespace, theirs := range map[string][]*corev1.Secret{
		"team": {secret("database", opaque), secret("tcr.ipsforeign", labelled(nil))}, manager.Namespace: {secret("theirs", opaque)},
		"kube-system": {secret("cloud", opaque)},
	} {
		for _, object := range theirs {
			created, err := w.Client.CoreV1().Secrets(namespace).Create(w.Ctx, object, metav1.CreateOptions{})
			require.NoError(t, err)
			foreign[created.Name] = created
		}
	}
	w.runHelm("install", chart)
	w.run()
	w.Create("central")
	w.Holds("team", "central")
	w.lists("tcr.ipscentral")
	before := w.Kubectl("get", "clusterroles,clusterrolebindings,roles,rolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}")

	stolen := w.stolen(managerAccount)
	attempts := slices.Concat(foreignReads(w.Ctx), foreignWrites(w.Ctx), widenings(w.Ctx), sheddings(w.Ctx), disguises(w.Ctx, w))
	require.GreaterOrEqual(t, len(attempts), 40)
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			err := a.try(stolen)
			require.Error(t, err)
			assert.True(t, apierrors.IsForbidden(err), "%v", err)
			assert.Contains(t, err.Error(), a.says)
		})
	}
	after := w.Kubectl("get", "clusterroles,clusterrolebindings,roles,rolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}")
	assert.Equal(t, strings.Split(before, "\n"), strings.Split(after, "\n"), "no role, binding or policy was written")
	for name, was := range foreign {
		now, err := w.Client.CoreV1().Secrets(was.Namespace).Get(w.Ctx, name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, was.ResourceVersion, now.ResourceVersion, name)
	}
	t.Run("what it is for is allowed", func(t *testing.T) {
		_, err := stolen.CoreV1().Secrets("").List(w.Ctx, metav1.ListOptions{FieldSelector: "metadata.name=tcr.ipscentral"})
		require.NoError(t, err)
		_, err = stolen.CoreV1().Secrets("team").Get(w.Ctx, "tcr.ipscentral", metav1.GetOptions{})
		require.NoError(t, err)
	})
}
