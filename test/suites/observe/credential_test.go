package observe

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
)

// credentials shows credentials of a real registry to Prometheus: a good one that says when it ends, one that is refused, and one that ends
// in seconds.
func (w *world) credentials(t *testing.T) {
	ends := time.Date(2031, 5, 1, 10, 0, 0, 0, time.UTC)
	const life = 365 * 24 * time.Hour
	claims := fmt.Appendf(nil, `{"iat":%d,"exp":%d}`, ends.Add(-life).Unix(), ends.Unix())
	token := "password-of-good." + base64.RawURLEncoding.EncodeToString(claims) + ".x"
	upright, err := registry.Start(w.Ctx, registry.Options{Dir: w.whole.TempDir(), Passwords: map[string]string{"robot": token}})
	require.NoError(t, err)
	w.whole.Cleanup(func() { require.NoError(w.whole, upright.Stop()) })
	w.keep(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "registry-ca"}, Data: map[string][]byte{"ca.crt": upright.Certificates}})
	at := func(spec *v1.ImagePullSecretSpec) {
		spec.Namespaces, spec.Docker.Server, spec.Docker.Password = "newns", upright.Host, token
		spec.Check = &v1.CredentialCheck{CASecretRef: &v1.SecretReference{Name: "registry-ca"}}
	}
	w.Create("good", at)
	w.Create("refused", at, func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = "password-of-nobody" })
	w.asks(`tcr_assistant_credential_valid{image_pull_secret="good"}`, 1)
	w.asks(`tcr_assistant_credential_expiry_timestamp_seconds{image_pull_secret="good"}`, float64(ends.Unix()))
	w.asks(`tcr_assistant_credential_lifetime_seconds{image_pull_secret="good"}`, life.Seconds())
	w.asks(`tcr_assistant_credential_valid{image_pull_secret="refused"}`, 0)
	w.firing("TCRAssistantCredentialRefused", true)
	w.Kubectl("patch", "ipss", "refused", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"docker":{"password":%q}}}`, token))
	w.asks(`tcr_assistant_credential_valid{image_pull_secret="refused"}`, 1)
	w.firing("TCRAssistantCredentialRefused", false)

	w.keep(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "ending", Annotations: map[string]string{v1.ExpiresAtAnnotation: time.Now().Add(15 * time.Second).Format(time.RFC3339)}},
		Type:       corev1.SecretTypeBasicAuth, StringData: map[string]string{"username": "robot", "password": "password-of-ending"},
	})
	w.Create("ending", func(spec *v1.ImagePullSecretSpec) {
		spec.Namespaces = "newns"
		spec.Docker = v1.DockerCredential{Server: "ending.example.com", SecretRef: &v1.SecretReference{Name: "ending"}}
	})
	w.firing("TCRAssistantCredentialEnds", true)
	w.firing("TCRAssistantCredentialEndsSoon", true)
	w.Kubectl("annotate", "--overwrite", "secret", "ending", "-n", manager.Namespace, v1.ExpiresAtAnnotation+"="+time.Now().Add(15*24*time.Hour).UTC().Format(time.RFC3339))
	w.firing("TCRAssistantCredentialEnds", false)
	w.firing("TCRAssistantCredentialEndsSoon", false)
	w.Kubectl("delete", "ipss", "refused", "ending")
	w.Eventually("what is gone is counted no more", func() error {
		samples, err := w.prometheus.Query(w.Ctx, `{__name__=~"tcr_assistant_credential_.*",image_pull_secret=~"refused|ending"}`)
		if err == nil && len(samples) > 0 {
			err = fmt.Errorf("there are %v", samples)
		}
		return err
	})
}

// keep creates a Secret in the manager's namespace.
func (w *world) keep(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	_, err := w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx, secret, metav1.CreateOptions{})
	require.NoError(t, err)
}
