package clientset

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Gone reports whether the API server says that an object does not exist. That is not the same as not knowing its kind.
func Gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// Unnameable reports whether no Secret can have that name.
func Unnameable(entry string) bool { return len(validation.IsDNS1123Subdomain(entry)) > 0 }

// FindSecret returns the Secret that an entry of a ServiceAccount names; nil if it does not exist. An entry may be any text: one that
// cannot be the name of a Secret is not looked up. allowed is false if the Secret may not be read: RBAC can be narrowed to certain names.
func (c *Clientset) FindSecret(ctx context.Context, namespace, entry string) (secret *corev1.Secret, allowed bool, err error) {
	if Unnameable(entry) {
		return nil, true, nil
	}
	secret, err = c.Secrets(namespace).Get(ctx, entry, metav1.GetOptions{})
	switch {
	case err == nil:
		return secret, true, nil
	case Gone(err):
		return nil, true, nil
	case apierrors.IsForbidden(err):
		return nil, false, nil
	default:
		return nil, false, err
	}
}
