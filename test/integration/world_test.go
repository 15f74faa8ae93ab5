// Package integration holds what the product promises against a real etcd, kube-apiserver and kube-controller-manager.
package integration

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

// hang is how long anything may take before it counts as never.
const hang = 60 * time.Second

// samplePath is the file that the documentation tells users to create.
const samplePath = "../../deploy/allinone/imagepullsecret-sample.yaml"

// binary is the controller-manager under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tcr-assistant-integration-")
		if err == nil {
			defer os.RemoveAll(dir)
			binary, err = manager.Build(context.Background(), dir, "controller-manager")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if flag.Lookup("test.run").Value.String() == "" {
			code = max(code, reportPermissions())
		}
		return code
	}())
}

// world is a control plane with the product installed.
type world struct {
	*cluster.Cluster
	t        *testing.T
	ctx      context.Context
	client   kubernetes.Interface
	ips      *typed.Client
	managers []*manager.Manager // all that were ever started, for their logs
	refusals bool               // the test has requests refused: by taking permissions away, or by restarting the API server, which for a moment knows of no roles
}

// newWorld starts a control plane and installs the product, without running it.
func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	w := &world{Cluster: cluster.StartT(t, cluster.Options{Log: io.Discard}), t: t, ctx: ctx}
	require.NoError(t, manager.Install(ctx, w.Cluster))
	t.Cleanup(func() { w.noteRequests() })
	var err error
	w.client, err = kubernetes.NewForConfig(w.RESTConfig())
	require.NoError(t, err)
	httpClient, err := rest.HTTPClientFor(w.RESTConfig())
	require.NoError(t, err)
	w.ips, err = typed.NewClient(w.RESTConfig(), httpClient)
	require.NoError(t, err)
	return w
}

// run starts a manager and waits until it is ready.
func (w *world) run() *manager.Manager {
	w.t.Helper()
	m := w.start(manager.Options{})
	ctx, cancel := context.WithTimeout(w.ctx, hang)
	defer cancel()
	require.NoError(w.t, m.Ready(ctx))
	return m
}

// start starts a manager. The test stops it when it ends, if it has not done so itself.
func (w *world) start(options manager.Options) *manager.Manager {
	w.t.Helper()
	options.Binary = binary
	m, err := manager.Start(w.ctx, w.Cluster, options)
	require.NoError(w.t, err)
	w.managers = append(w.managers, m)
	w.t.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			if err := m.Stop(); err != nil {
				w.t.Errorf("the manager did not end in order: %v\n%s", err, m.Log())
			}
		}
		if w.t.Failed() {
			w.t.Logf("a manager's log ends with:\n%s", tail(m.Log(), 60))
		}
	})
	return m
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// kubectl runs kubectl, which must succeed, and returns what it prints.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	stdout, stderr, err := w.Kubectl(w.ctx, args...)
	require.NoError(w.t, err, "kubectl %s: %s", strings.Join(args, " "), stderr)
	return stdout
}

// pipe runs kubectl with input and returns what it warns of or complains about.
func (w *world) pipe(input string, args ...string) (stderr string, err error) {
	command := w.KubectlCommand(w.ctx, args...)
	var errs bytes.Buffer
	command.Stdin, command.Stderr = strings.NewReader(input), &errs
	err = command.Run()
	return errs.String(), err
}

// eventually waits until check returns nil.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	w.within(hang, what, check)
}

// within waits until check returns nil, for the time that is promised.
func (w *world) within(limit time.Duration, what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(w.t, err, "%s, not within %s", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sample returns an ImagePullSecret that selects everything, changed by edit.
func sample(name string, edit ...func(*v1.ImagePullSecretSpec)) *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: "*", ServiceAccounts: "*",
			Docker: v1.DockerCredential{Username: "robot", Password: "password-of-" + name, Server: name + ".example.com"},
		},
	}
	for _, e := range edit {
		e(&object.Spec)
	}
	return object
}

func namespaces(list string) func(*v1.ImagePullSecretSpec) {
	return func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = list }
}

func serviceAccounts(list string) func(*v1.ImagePullSecretSpec) {
	return func(spec *v1.ImagePullSecretSpec) { spec.ServiceAccounts = list }
}

func password(value string) func(*v1.ImagePullSecretSpec) {
	return func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = value }
}

// create creates an ImagePullSecret.
func (w *world) create(name string, edit ...func(*v1.ImagePullSecretSpec)) *v1.ImagePullSecret {
	w.t.Helper()
	created, err := w.ips.Create(w.ctx, sample(name, edit...), metav1.CreateOptions{})
	require.NoError(w.t, err)
	return created
}

// edit changes the spec of an ImagePullSecret.
func (w *world) edit(name string, edit ...func(*v1.ImagePullSecretSpec)) {
	w.t.Helper()
	w.eventually("editing the ImagePullSecret", func() error {
		object, err := w.ips.Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, e := range edit {
			e(&object.Spec)
		}
		_, err = w.ips.Update(w.ctx, object, metav1.UpdateOptions{})
		return err
	})
}

// namespace creates a namespace and waits for its default ServiceAccount.
func (w *world) namespace(name string) {
	w.t.Helper()
	_, err := w.client.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	w.eventually("the default service account exists", func() error {
		_, err := w.client.CoreV1().ServiceAccounts(name).Get(w.ctx, "default", metav1.GetOptions{})
		return err
	})
}

// account creates a ServiceAccount with entries of its own.
func (w *world) account(namespace, name string, entries ...string) *corev1.ServiceAccount {
	w.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, entry := range entries {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	created, err := w.client.CoreV1().ServiceAccounts(namespace).Create(w.ctx, account, metav1.CreateOptions{})
	require.NoError(w.t, err)
	return created
}

// entries returns what a ServiceAccount lists.
func (w *world) entries(namespace, name string) []string {
	w.t.Helper()
	account, err := w.client.CoreV1().ServiceAccounts(namespace).Get(w.ctx, name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return names(account)
}

func names(account *corev1.ServiceAccount) []string {
	list := []string{}
	for _, entry := range account.ImagePullSecrets {
		list = append(list, entry.Name)
	}
	return list
}

// lists waits until a ServiceAccount lists exactly these entries.
func (w *world) lists(namespace, name string, want ...string) {
	w.t.Helper()
	w.eventually("the service account lists what it should", func() error {
		if have := w.entries(namespace, name); !equal(have, want) {
			return fmt.Errorf("%s/%s lists %q instead of %q", namespace, name, have, want)
		}
		return nil
	})
}

func equal(a, b []string) bool { return strings.Join(a, ",") == strings.Join(b, ",") }

// holds waits until a namespace holds the Secret of an ImagePullSecret as it is now.
func (w *world) holds(namespace, imagePullSecret string) *corev1.Secret {
	w.t.Helper()
	var secret *corev1.Secret
	w.eventually("the namespace holds the current secret", func() (err error) {
		secret, err = w.current(namespace, imagePullSecret)
		return err
	})
	return secret
}

// current returns the Secret of an ImagePullSecret in a namespace, and an error where it is not as it should be.
func (w *world) current(namespace, imagePullSecret string) (*corev1.Secret, error) {
	object, err := w.ips.Get(w.ctx, imagePullSecret, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	secret, err := w.client.CoreV1().Secrets(namespace).Get(w.ctx, pullsecret.SecretName(imagePullSecret), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	switch {
	case secret.Type != corev1.SecretTypeDockerConfigJson:
		return secret, fmt.Errorf("it is of type %s", secret.Type)
	case !bytes.Equal(secret.Data[corev1.DockerConfigJsonKey], pullsecret.Render(object.Spec.Docker)):
		return secret, fmt.Errorf("it holds another credential")
	case !pullsecret.Managed(secret.Labels):
		return secret, fmt.Errorf("it is labelled %v", secret.Labels)
	case len(secret.OwnerReferences) == 0 || !owned(secret, object.UID):
		return secret, fmt.Errorf("it is owned by %v", secret.OwnerReferences)
	}
	return secret, nil
}

func owned(secret *corev1.Secret, uid types.UID) bool {
	for _, owner := range secret.OwnerReferences {
		if owner.UID == uid {
			return true
		}
	}
	return false
}

// lacks waits until a namespace has no Secret of an ImagePullSecret.
func (w *world) lacks(namespace, imagePullSecret string) {
	w.t.Helper()
	w.eventually("the namespace has no secret of it", func() error {
		list, err := w.client.CoreV1().Secrets(namespace).List(w.ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pullsecret.SecretName(imagePullSecret)})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s still holds it", namespace)
		}
		return err
	})
}

// status waits until the status of an ImagePullSecret satisfies check.
func (w *world) status(name string, check func(v1.ImagePullSecretStatus) error) v1.ImagePullSecretStatus {
	w.t.Helper()
	var status v1.ImagePullSecretStatus
	w.eventually("the status says so", func() error {
		object, err := w.ips.Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status = object.Status
		return check(status)
	})
	return status
}

// counts checks the four counts of a status.
func counts(secretsDesired, secretsSuccess, accountsDesired, accountsSuccess int32) func(v1.ImagePullSecretStatus) error {
	return func(status v1.ImagePullSecretStatus) error {
		have := [4]int32{status.SecretsDesired, status.SecretsSuccess, status.SAsDesired, status.SAsSuccess}
		if want := [4]int32{secretsDesired, secretsSuccess, accountsDesired, accountsSuccess}; have != want {
			return fmt.Errorf("counts are %v instead of %v", have, want)
		}
		return nil
	}
}
