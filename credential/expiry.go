package credential

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// expiryOf returns when the credential that a Secret gives expires: as its annotation says, or else as the password does. If the annotation
// cannot be parsed, the password decides. The annotation is never quoted: it may contain anything.
func expiryOf(name types.NamespacedName, secret *corev1.Secret, password string) pullsecret.Expiry {
	expiry := pullsecret.ExpiryOf(password)
	text, annotated := secret.Annotations[v1.ExpiresAtAnnotation]
	if !annotated {
		return expiry
	}
	at, err := time.Parse(time.RFC3339, text)
	if at = at.UTC(); err != nil || at.IsZero() || at.Year() < 1 || at.Year() > 9999 {
		expiry.Unread = fmt.Sprintf("the annotation %s of secret %s is not an RFC 3339 time: write one such as 2027-01-31T12:00:00Z",
			v1.ExpiresAtAnnotation, name)
		return expiry
	}
	return pullsecret.Expiry{At: at}
}

// Referred returns what is kept of a Secret that an ImagePullSecret refers to: all that Of reads of it.
func Referred(secret *corev1.Secret) *corev1.Secret {
	taken := &corev1.Secret{Type: secret.Type, Data: secret.Data}
	if text, annotated := secret.Annotations[v1.ExpiresAtAnnotation]; annotated {
		taken.Annotations = map[string]string{v1.ExpiresAtAnnotation: text}
	}
	return taken
}
