package pullsecret

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

const (
	// ManagedByLabel is the key of the mark on the Secrets that are ours. Only what bears the mark is ever deleted.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the mark's value.
	ManagedByValue = "tcr-assistant"
)

// Managed reports whether an object with these labels is ours.
func Managed(labels map[string]string) bool { return labels[ManagedByLabel] == ManagedByValue }

// NewSecret returns the Secret that the rule issues, without a namespace: it is the same in each. The ImagePullSecret owns
// it, so that the cluster's garbage collector removes every copy even when nothing of ours runs any more. It does not
// block its owner's deletion: nothing must ever hang.
func (r *Rule) NewSecret() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   r.Secret,
			Labels: map[string]string{ManagedByLabel: ManagedByValue},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1.GroupVersion.String(),
				Kind:       v1.Kind.Kind,
				Name:       r.Name,
				UID:        r.UID,
			}},
		},
		Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: r.Config},
	}
}
