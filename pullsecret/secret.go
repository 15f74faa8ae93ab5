package pullsecret

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Owners returns the ImagePullSecrets among an object's owners.
func Owners(object metav1.Object) (owners []types.UID) {
	for _, owner := range object.GetOwnerReferences() {
		if owner.Kind == v1.Kind.Kind && owner.APIVersion == v1.GroupVersion.String() {
			owners = append(owners, owner.UID)
		}
	}
	return owners
}

// ImagePullSecretName returns the name of the ImagePullSecret that issues the Secrets with that name.
func ImagePullSecretName(secret string) string { return strings.TrimPrefix(secret, SecretPrefix) }

// Ours reports whether a Secret is ours to delete: it has our label (managed), and either an ImagePullSecret owns it (owned), or one
// that issues Secrets with that name exists or was just deleted (known). A label alone is easily copied.
func Ours(managed, owned, known bool) bool { return managed && (owned || known) }

// Removable reports whether an entry with that name, which no ImagePullSecret asks for, is ours to remove, given whether a Secret
// with that name exists in the namespace, and whether it is Ours. A Secret that someone else created is theirs to list.
func Removable(entry string, exists, ours bool) bool {
	return strings.HasPrefix(entry, SecretPrefix) && (!exists || ours)
}

// NewSecret returns the Secret that the rule issues, without a namespace: it is the same in each. The ImagePullSecret owns
// it, so that the cluster's garbage collector removes every copy even when no manager runs any more. It does not block its
// owner's deletion: nothing must ever hang.
func (r *Rule) NewSecret() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   r.Secret,
			Labels: v1.ManagedLabels(),
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
