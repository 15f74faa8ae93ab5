package suite

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Edit changes the spec of an ImagePullSecret.
type Edit func(*v1.ImagePullSecretSpec)

// InNamespaces sets the namespaces that are selected, as users write them.
func InNamespaces(list string) Edit {
	return func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = list }
}

// Sample returns an ImagePullSecret that selects everything, changed by edits.
func Sample(name string, edits ...Edit) *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: "*", ServiceAccounts: "*",
			Docker: v1.DockerCredential{Username: "robot", Password: "password-of-" + name, Server: name + ".example.com"},
		},
	}
	for _, edit := range edits {
		edit(&object.Spec)
	}
	return object
}

// Create creates a Sample.
func (w *World) Create(name string, edits ...Edit) *v1.ImagePullSecret {
	w.T.Helper()
	created, err := w.IPS.Create(w.Ctx, Sample(name, edits...), metav1.CreateOptions{})
	require.NoError(w.T, err)
	return created
}

// Namespace creates a namespace and waits for its default ServiceAccount.
func (w *World) Namespace(name string) {
	w.T.Helper()
	_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		metav1.CreateOptions{})
	require.NoError(w.T, err)
	w.Eventually("the default service account exists", func() error {
		_, err := w.Client.CoreV1().ServiceAccounts(name).Get(w.Ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Entries returns the names that a ServiceAccount lists under imagePullSecrets.
func Entries(account *corev1.ServiceAccount) []string {
	names := []string{}
	for _, entry := range account.ImagePullSecrets {
		names = append(names, entry.Name)
	}
	return names
}

// Entries returns what a ServiceAccount lists now.
func (w *World) Entries(namespace, name string) []string {
	w.T.Helper()
	account, err := w.Client.CoreV1().ServiceAccounts(namespace).Get(w.Ctx, name, metav1.GetOptions{})
	require.NoError(w.T, err)
	return Entries(account)
}

// Lists waits until a ServiceAccount lists exactly these entries, in this order.
func (w *World) Lists(namespace, name string, want ...string) {
	w.T.Helper()
	w.Eventually("the service account lists what it should", func() error {
		if have := w.Entries(namespace, name); !slices.Equal(have, want) {
			return fmt.Errorf("%s/%s lists %q instead of %q", namespace, name, have, want)
		}
		return nil
	})
}

// Holds waits until a namespace holds the Secret of an ImagePullSecret as it is now.
func (w *World) Holds(namespace, imagePullSecret string) *corev1.Secret {
	w.T.Helper()
	var secret *corev1.Secret
	w.Eventually("the namespace holds the current secret", func() (err error) {
		secret, err = w.Current(namespace, imagePullSecret)
		return err
	})
	return secret
}

// Current returns the Secret of an ImagePullSecret in a namespace, and an error where it is not as it should be.
func (w *World) Current(namespace, imagePullSecret string) (*corev1.Secret, error) {
	object, err := w.IPS.Get(w.Ctx, imagePullSecret, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	secret, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, pullsecret.SecretName(imagePullSecret), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	owns := func(owner metav1.OwnerReference) bool { return owner.UID == object.UID }
	switch {
	case secret.Type != corev1.SecretTypeDockerConfigJson:
		return secret, fmt.Errorf("it is of type %s", secret.Type)
	case !bytes.Equal(secret.Data[corev1.DockerConfigJsonKey], pullsecret.Render(object.Spec.Docker)):
		return secret, errors.New("it holds another credential")
	case !v1.Managed(secret.Labels):
		return secret, fmt.Errorf("it is labelled %v", secret.Labels)
	case !slices.ContainsFunc(secret.OwnerReferences, owns):
		return secret, fmt.Errorf("it is owned by %v", secret.OwnerReferences)
	}
	return secret, nil
}

// Lacks waits until a namespace has no Secret of an ImagePullSecret.
func (w *World) Lacks(namespace, imagePullSecret string) {
	w.T.Helper()
	w.Eventually("the namespace has no secret of it", func() error {
		list, err := w.Client.CoreV1().Secrets(namespace).List(w.Ctx,
			metav1.ListOptions{FieldSelector: "metadata.name=" + pullsecret.SecretName(imagePullSecret)})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s still holds it", namespace)
		}
		return err
	})
}

// Status waits until the status of an ImagePullSecret satisfies check, and returns it.
func (w *World) Status(name string, check func(v1.ImagePullSecretStatus) error) v1.ImagePullSecretStatus {
	w.T.Helper()
	var status v1.ImagePullSecretStatus
	w.Eventually("the status says so", func() error {
		object, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status = object.Status
		return check(status)
	})
	return status
}
