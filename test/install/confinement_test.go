package install

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

// stolen returns a client with the manager's token.
func (w *world) stolen() kubernetes.Interface {
	w.T.Helper()
	_, config := w.tokenFor(managerAccount)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(w.T, err)
	return client
}

// secret returns a Secret such as the manager issues, changed by edit.
func secret(name string, edit ...func(*corev1.Secret)) *corev1.Secret {
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{pullsecret.ManagedByLabel: pullsecret.ManagedByValue}},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}
	for _, e := range edit {
		e(object)
	}
	return object
}

func opaque(s *corev1.Secret) { s.Type, s.Data = corev1.SecretTypeOpaque, nil }

func unlabelled(s *corev1.Secret) { s.Labels = nil }

// TestAStolenTokenWritesNothingElse tries what RBAC alone would let the manager's token do.
func TestAStolenTokenWritesNothingElse(t *testing.T) {
	w := newWorld(t)
	w.home()
	w.team("team")
	_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("database", opaque), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("tcr.ipsforeign", unlabelled), metav1.CreateOptions{})
	require.NoError(t, err)
	w.runHelm("install", chart)
	stolen := w.stolen()
	secrets, accounts := stolen.CoreV1().Secrets("team"), stolen.CoreV1().ServiceAccounts("team")
	account := func(patch string) error {
		_, err := accounts.Patch(w.Ctx, "builder", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	w.Eventually("the policies are in force", func() error {
		_, err := secrets.Create(w.Ctx, secret("probe"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) {
			return errors.Join(errors.New("a secret named probe may be created"), err)
		}
		if err := account(`{"metadata":{"annotations":{"probe":"1"}}}`); !apierrors.IsForbidden(err) {
			return errors.Join(errors.New("an account may be annotated"), err)
		}
		return nil
	})

	write := func(object *corev1.Secret) error {
		_, err := secrets.Create(w.Ctx, object, metav1.CreateOptions{})
		return err
	}
	request := func(edit func(*certificatesv1.CertificateSigningRequest)) error {
		object := &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-webhook"},
			Spec: certificatesv1.CertificateSigningRequestSpec{
				Request: certificateRequest(t), SignerName: "kubernetes.io/kubelet-serving",
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
			},
		}
		edit(object)
		_, err := stolen.CertificatesV1().CertificateSigningRequests().Create(w.Ctx, object, metav1.CreateOptions{})
		return err
	}
	const (
		secretsOnly  = "writes only Secrets of type kubernetes.io/dockerconfigjson"
		oneField     = "changes nothing of a ServiceAccount but its imagePullSecrets"
		ownEntries   = "no entry of imagePullSecrets but those named tcr.ips"
		oneRequest   = "requests only the serving certificate tcr-assistant-webhook"
		notByRBAC    = "cannot create resource"
		notByRBACDel = "cannot delete resource"
	)
	for name, attempt := range map[string]struct {
		err  error
		says string
	}{
		"a Secret of another type": {write(secret("tcr.ipsx", opaque)), secretsOnly},
		"a token of another account": {write(secret("tcr.ipsx", func(s *corev1.Secret) {
			s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "builder"}
		})), secretsOnly},
		"a Secret of another name":    {write(secret("registry")), secretsOnly},
		"a Secret that bears no mark": {write(secret("tcr.ipsx", unlabelled)), secretsOnly},
		"its certificate in another namespace": {write(secret("tcr-assistant-webhook-server-cert", func(s *corev1.Secret) {
			s.Type, s.Data = corev1.SecretTypeTLS, map[string][]byte{corev1.TLSCertKey: nil, corev1.TLSPrivateKeyKey: nil}
		})), secretsOnly},
		"to change a foreign Secret":              {patched(w.Ctx, secrets.Patch, "database", `{"data":{"password":"aGE="}}`), secretsOnly},
		"to delete a foreign Secret":              {secrets.Delete(w.Ctx, "database", metav1.DeleteOptions{}), secretsOnly},
		"to delete a foreign Secret of such name": {secrets.Delete(w.Ctx, "tcr.ipsforeign", metav1.DeleteOptions{}), secretsOnly},
		"to annotate an account":                  {account(`{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"admin"}}}`), oneField},
		"to label an account":                     {account(`{"metadata":{"labels":{"a":"b"}}}`), oneField},
		"to add a finalizer to an account":        {account(`{"metadata":{"finalizers":["example.com/hold"]}}`), oneField},
		"to mount its token":                      {account(`{"automountServiceAccountToken":false}`), oneField},
		"to add a mountable Secret":               {account(`{"secrets":[{"name":"database"}]}`), oneField},
		"to add a foreign entry":                  {account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"database"}]}`), ownEntries},
		"to remove a foreign entry":               {account(`{"imagePullSecrets":[{"name":"tcr.ipsx"}]}`), ownEntries},
		"to create an account":                    {created(w.Ctx, stolen), notByRBAC},
		"to delete an account":                    {accounts.Delete(w.Ctx, "builder", metav1.DeleteOptions{}), notByRBACDel},
		"a certificate of another signer": {request(func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.SignerName = "kubernetes.io/kube-apiserver-client"
		}), oneRequest},
		"a certificate request of another name": {request(func(r *certificatesv1.CertificateSigningRequest) { r.Name = "other" }), oneRequest},
		"a certificate for a client": {request(func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
		}), oneRequest},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, attempt.err)
			assert.True(t, apierrors.IsForbidden(attempt.err), "%v", attempt.err)
			assert.Contains(t, attempt.err.Error(), attempt.says)
		})
	}
	t.Run("what the manager is for is allowed", func(t *testing.T) {
		require.NoError(t, write(secret("tcr.ipsx")))
		require.NoError(t, account(`{"imagePullSecrets":[{"name":"theirs"},{"name":"tcr.ipsx"}]}`))
		require.NoError(t, account(`{"imagePullSecrets":[{"name":"theirs"}]}`))
		require.NoError(t, patched(w.Ctx, secrets.Patch, "tcr.ipsx", `{"data":{".dockerconfigjson":"e30="}}`))
		require.NoError(t, secrets.Delete(w.Ctx, "tcr.ipsx", metav1.DeleteOptions{}))
	})
	t.Run("nobody else is held to it", func(t *testing.T) {
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("anything", opaque), metav1.CreateOptions{})
		require.NoError(t, err)
		w.Kubectl("annotate", "serviceaccount", "builder", "-n", "team", "a=b")
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

func patched(ctx context.Context, patch func(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*corev1.Secret, error), name, body string) error {
	_, err := patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
	return err
}

func created(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.CoreV1().ServiceAccounts("team").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{})
	return err
}

// TestNamedSecrets runs the manager with permission for the Secrets of two credentials alone.
func TestNamedSecrets(t *testing.T) {
	w := newWorld(t)
	w.home()
	w.team("team")
	_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, secret("database", opaque), metav1.CreateOptions{})
	require.NoError(t, err)
	// An entry that nobody can judge must not keep the others from being attached.
	w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: stray, namespace: team}, imagePullSecrets: [{name: tcr.ipsstray}]}")
	values := append(terraform,
		"--set", "rbac.secrets=named",
		"--set", "global.imagePullSecretsCrs[1].name=second",
		"--set", "global.imagePullSecretsCrs[1].dockerUsername=robot",
		"--set", "global.imagePullSecretsCrs[1].dockerPassword=password",
		"--set", "global.imagePullSecretsCrs[1].dockerServer=second.tencentcloudcr.com:5000")
	w.runHelm("install", append([]string{chart}, values...)...)
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
		stolen := w.stolen().CoreV1()
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
		_, apply := stolen.Secrets("team").Patch(w.Ctx, "tcr.ipsthird", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"Secret"}`), metav1.PatchOptions{FieldManager: "x"})
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

func TestWithoutCertificateRequests(t *testing.T) {
	w := newWorld(t)
	w.home()
	w.runHelm("install", chart, "--set", "rbac.certificates=false")
	w.run()
	w.Create("plain")
	w.team("team")
	w.teamLists("builder", "theirs", "tcr.ipsplain")
	assert.Equal(t, "self-signed", w.Kubectl("get", "secret", "tcr-assistant-webhook-server-cert", "-n", manager.Namespace, "-o", `jsonpath={.metadata.annotations.tcr\.tencentcloudcr\.com/certificate-mode}`))
	assert.Empty(t, w.Kubectl("get", "certificatesigningrequests", "-o", "name"))
}
