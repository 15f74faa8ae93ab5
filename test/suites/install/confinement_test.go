package install

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// stolen returns a client with the token of an account in the product's namespace.
func (w *world) stolen(account string) kubernetes.Interface {
	w.T.Helper()
	_, config := w.tokenFor(account)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(w.T, err)
	return client
}

// secret returns a Secret such as the manager issues, changed by edit.
func secret(name string, edit ...func(*corev1.Secret)) *corev1.Secret {
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.ManagedByLabel: v1.ManagedByValue}},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}
	for _, e := range edit {
		e(object)
	}
	return object
}

func opaque(s *corev1.Secret) { s.Type, s.Data = corev1.SecretTypeOpaque, nil }

func labelled(labels map[string]string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Labels = labels }
}

func certificate(s *corev1.Secret) {
	s.Type, s.Data = corev1.SecretTypeTLS, map[string][]byte{corev1.TLSCertKey: nil, corev1.TLSPrivateKeyKey: nil}
}

// attempt is a write with a stolen token, and what the refusal must say; blank where it is what the token is for.
type attempt struct {
	name string
	try  func(kubernetes.Interface) error
	says string
}

const servingCertificate = "tcr-assistant-webhook-server-cert"

// What the refusals say; blank where there is none.
const (
	secretsOnly = "writes only Secrets of type kubernetes.io/dockerconfigjson"
	noAccounts  = "neither creates nor deletes ServiceAccounts"
	oneField    = "changes nothing of a ServiceAccount but its imagePullSecrets"
	ownEntries  = "no entry of imagePullSecrets but those named tcr.ips"
	oneRequest  = "requests only the serving certificate tcr-assistant-webhook"
	oneRole     = "writes no role but tcr-assistant-secrets-role"
	allowed     = ""
)

// attempts are one for each thing that the policies look at, in a namespace "team" with an account "builder" that lists
// "theirs" and "others", and foreign Secrets "database" and "tcr.ipsforeign"; one of another type is in the certificate's place.
func attempts(t *testing.T) []attempt {
	ctx := context.WithoutCancel(t.Context())
	return slices.Concat(attemptsOnSecrets(ctx), attemptsOnAccounts(ctx), attemptsOnRequests(ctx, certificateRequest(t)), attemptsOnRoles(ctx))
}

func attemptsOnSecrets(ctx context.Context) []attempt {
	create := func(namespace, name string, edit ...func(*corev1.Secret)) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets(namespace).Create(ctx, secret(name, edit...), metav1.CreateOptions{})
			return err
		}
	}
	change := func(name, patch string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			return err
		}
	}
	remove := func(namespace, name string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			return stolen.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		}
	}
	return []attempt{
		{"a Secret of another type", create("team", "tcr.ipsx", opaque), secretsOnly},
		{"a token of another account", create("team", "tcr.ipsx", func(s *corev1.Secret) {
			s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "builder"}
		}), secretsOnly},
		{"a Secret of another name", create("team", "registry"), secretsOnly},
		{"a Secret that bears no mark", create("team", "tcr.ipsx", labelled(nil)), secretsOnly},
		{"a Secret that bears another label", create("team", "tcr.ipsx", labelled(map[string]string{"a": "b"})), secretsOnly},
		{"a Secret that bears the mark of somebody else", create("team", "tcr.ipsx", labelled(map[string]string{v1.ManagedByLabel: "Helm"})),
			secretsOnly},
		{"its certificate in another namespace", create("team", servingCertificate, certificate), secretsOnly},
		{"another certificate", create(manager.Namespace, "another", certificate), secretsOnly},
		{"a Secret of another type in its certificate's place", create(manager.Namespace, servingCertificate, opaque), secretsOnly},
		{"records of tokens in another namespace", create("team", "tcr-assistant-tokens-0", opaque), secretsOnly},
		{"records of tokens beside those that there are", create(manager.Namespace, "tcr-assistant-tokens-8", opaque), secretsOnly},
		{"records of tokens of another type", create(manager.Namespace, "tcr-assistant-tokens-0"), secretsOnly},
		{"records of tokens that bear no mark", create(manager.Namespace, "tcr-assistant-tokens-0", opaque, labelled(nil)), secretsOnly},
		{"to change a foreign Secret", change("database", `{"data":{"password":"aGE="}}`), secretsOnly},
		{"to change a foreign Secret of such name and to leave it unmarked", change("tcr.ipsforeign", `{"data":{".dockerconfigjson":"e30="}}`),
			secretsOnly},
		{"to delete a foreign Secret", remove("team", "database"), secretsOnly},
		{"to delete a foreign Secret of such name", remove("team", "tcr.ipsforeign"), secretsOnly},
		{"to issue a Secret", create("team", "tcr.ipsx"), allowed},
		{"to keep records of tokens", create(manager.Namespace, "tcr-assistant-tokens-0", opaque), allowed},
		{"to forget records of tokens", remove(manager.Namespace, "tcr-assistant-tokens-0"), allowed},
		{"to change what it issued", change("tcr.ipsx", `{"data":{".dockerconfigjson":"e30="}}`), allowed},
		{"to take its mark off what it issued", change("tcr.ipsx", `{"metadata":{"labels":null}}`), secretsOnly},
		{"to delete what it issued", remove("team", "tcr.ipsx"), allowed},
		{"to clear its certificate's place", remove(manager.Namespace, servingCertificate), allowed},
		{"to write its certificate", create(manager.Namespace, servingCertificate, labelled(nil), certificate), allowed},
		{"to delete its certificate", remove(manager.Namespace, servingCertificate), allowed},
	}
}

func attemptsOnAccounts(ctx context.Context) []attempt {
	account := func(patch string) func(kubernetes.Interface) error {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().ServiceAccounts("team").Patch(ctx, "builder", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			return err
		}
	}
	return []attempt{
		{"to annotate an account", account(`{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"admin"}}}`), oneField},
		{"to label an account", account(`{"metadata":{"labels":{"a":"b"}}}`), oneField},
		{"to add a finalizer to an account", account(`{"metadata":{"finalizers":["example.com/hold"]}}`), oneField},
		{"to give an account an owner",
			account(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"database","uid":"1"}]}}`), oneField},
		{"to mount its token", account(`{"automountServiceAccountToken":false}`), oneField},
		{"to add a mountable Secret", account(`{"secrets":[{"name":"database"}]}`), oneField},
		{"to add a foreign entry", account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"others"},{"name":"database"}]}`), ownEntries},
		{"to add an entry that is named almost like its own",
			account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"others"},{"name":"tcr.ip"}]}`), ownEntries},
		{"to remove a foreign entry", account(`{"imagePullSecrets":[{"name":"others"},{"name":"tcr.ipsx"}]}`), ownEntries},
		{"to move a foreign entry", account(`{"imagePullSecrets":[{"name":"others"},{"name":"theirs"}]}`), ownEntries},
		{"to double a foreign entry", account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"theirs"},{"name":"others"}]}`), ownEntries},
		{"to attach", account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"tcr.ipsx"},{"name":"others"}]}`), allowed},
		{"to detach", account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"others"}]}`), allowed},
		{"to create an account", func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().ServiceAccounts("team").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "new"}},
				metav1.CreateOptions{})
			return err
		}, noAccounts},
		{"to delete an account", func(stolen kubernetes.Interface) error {
			return stolen.CoreV1().ServiceAccounts("team").Delete(ctx, "builder", metav1.DeleteOptions{})
		}, noAccounts},
	}
}

func attemptsOnRequests(ctx context.Context, signingRequest []byte) []attempt {
	request := func(edit func(*certificatesv1.CertificateSigningRequest)) func(kubernetes.Interface) error {
		object := &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-webhook"},
			Spec: certificatesv1.CertificateSigningRequestSpec{
				Request: signingRequest, SignerName: "kubernetes.io/kubelet-serving",
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment,
					certificatesv1.UsageServerAuth},
			},
		}
		edit(object)
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CertificatesV1().CertificateSigningRequests().Create(ctx, object, metav1.CreateOptions{})
			return err
		}
	}
	return []attempt{
		{"a certificate of another signer", request(func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.SignerName = "kubernetes.io/kube-apiserver-client"
		}), oneRequest},
		{"a certificate request of another name", request(func(r *certificatesv1.CertificateSigningRequest) { r.Name = "other" }), oneRequest},
		{"a certificate for a client", request(func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
		}), oneRequest},
		{"a certificate for a server and a client", request(func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageClientAuth)
		}), oneRequest},
		{"its serving certificate", request(func(*certificatesv1.CertificateSigningRequest) {}), allowed},
	}
}

func attemptsOnRoles(ctx context.Context) []attempt {
	return []attempt{
		{"another role", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoles().Patch(ctx, "tcr-assistant-manager-role", types.MergePatchType, []byte(`{"rules":[]}`),
				metav1.PatchOptions{})
			return err
		}, oneRole},
		{"a role of its own", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().Roles("team").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-secrets-role"}},
				metav1.CreateOptions{})
			return err
		}, oneRole},
		{"to delete the one role", func(stolen kubernetes.Interface) error {
			return stolen.RbacV1().ClusterRoles().Delete(ctx, "tcr-assistant-secrets-role", metav1.DeleteOptions{})
		}, oneRole},
		{"to unbind the one role", func(stolen kubernetes.Interface) error {
			return stolen.RbacV1().ClusterRoleBindings().Delete(ctx, "tcr-assistant-secrets-rolebinding", metav1.DeleteOptions{})
		}, oneRole},
		{"to bind a role", func(stolen kubernetes.Interface) error {
			_, err := stolen.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "another"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}},
				metav1.CreateOptions{})
			return err
		}, oneRole},
	}
}

// TestAStolenTokenWritesNothingElse tries what the tokens of the two accounts may do by the policies alone: roles allow them
// everything.
func TestAStolenTokenWritesNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.Kubectl("create", "namespace", "team")
	for _, theirs := range []*corev1.Secret{secret("database", opaque), secret("tcr.ipsforeign", labelled(nil))} {
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, theirs, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: team}, imagePullSecrets: [{name: theirs}, {name: " +
		"others}]}")
	w.runHelm("install", chart)
	// It exists only during an uninstall otherwise.
	w.Kubectl("create", "serviceaccount", "tcr-assistant-uninstall", "-n", manager.Namespace)

	for _, account := range []string{managerAccount, "tcr-assistant-uninstall"} {
		t.Run(account, func(t *testing.T) {
			w.Kubectl("create", "clusterrolebinding", account+"-everything", "--clusterrole=cluster-admin",
				"--serviceaccount="+manager.Namespace+":"+account)
			_, err := w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx, secret(servingCertificate, opaque), metav1.CreateOptions{})
			require.NoError(t, err)
			stolen := w.stolen(account)
			w.Eventually("roles and policies are in force", func() error {
				dryRun := []string{metav1.DryRunAll}
				_, secret := stolen.CoreV1().Secrets("team").Create(w.Ctx, secret("probe"), metav1.CreateOptions{DryRun: dryRun})
				_, account := stolen.CoreV1().ServiceAccounts("team").Patch(w.Ctx, "builder", types.MergePatchType,
					[]byte(`{"metadata":{"annotations":{"probe":"1"}}}`), metav1.PatchOptions{DryRun: dryRun})
				request := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "probe"},
					Spec: certificatesv1.CertificateSigningRequestSpec{
						Request: certificateRequest(t), SignerName: "example.com/probe", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageAny}}}
				_, certificate := stolen.CertificatesV1().CertificateSigningRequests().Create(w.Ctx, request, metav1.CreateOptions{DryRun: dryRun})
				_, role := stolen.RbacV1().ClusterRoles().Patch(w.Ctx, "view", types.MergePatchType,
					[]byte(`{"metadata":{"annotations":{"probe":"1"}}}`), metav1.PatchOptions{DryRun: dryRun})
				for what, err := range map[string]error{"secrets": secret, "serviceaccounts": account, "certificatesigningrequests": certificate,
					"clusterroles": role} {
					if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'tcr-assistant-manager-"+what+"'") {
						return fmt.Errorf("the policy for %s does not refuse: %w", what, err)
					}
				}
				return nil
			})
			for _, a := range attempts(t) {
				t.Run(a.name, func(t *testing.T) {
					err := a.try(stolen)
					if a.says == "" {
						require.NoError(t, err)
						return
					}
					require.Error(t, err)
					assert.True(t, apierrors.IsForbidden(err), "%v", err)
					assert.Contains(t, err.Error(), a.says)
				})
			}
			w.Kubectl("delete", "csr", "tcr-assistant-webhook")
		})
	}
	t.Run("what a policy cannot judge is refused", func(t *testing.T) {
		policies, err := w.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(w.Ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, policies.Items, 4)
		for _, policy := range policies.Items {
			assert.Equal(t, admissionregistrationv1.Fail, *policy.Spec.FailurePolicy, policy.Name)
		}
	})
	t.Run("nobody else is held to it", func(t *testing.T) {
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("anything", opaque), metav1.CreateOptions{})
		require.NoError(t, err)
		w.Kubectl("annotate", "serviceaccount", "builder", "-n", "team", "a=b")
		w.Kubectl("delete", "serviceaccount", "builder", "-n", "team", "--wait=false")
	})
}

// certificateRequest returns a request such as any signer takes.
func certificateRequest(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody"}}, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestWithoutCertificateRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.runHelm("install", chart, "--set", "rbac.certificates=false")
	w.run()
	w.Create("plain")
	w.team("team")
	w.teamLists("builder", "theirs", "tcr.ipsplain")
	assert.Equal(t, "self-signed", w.Kubectl("get", "secret", "tcr-assistant-webhook-server-cert", "-n", manager.Namespace, "-o",
		`jsonpath={.metadata.annotations.tcr\.tencentcloudcr\.com/certificate-mode}`))
	assert.Empty(t, w.Kubectl("get", "certificatesigningrequests", "-o", "name"))
}
