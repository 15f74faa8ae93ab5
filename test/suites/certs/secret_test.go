package certs_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSecretThatIsLostIsReplaced(t *testing.T) {
	r := newRig(t)
	leader, follower := r.start(), r.start()
	leader.lead()
	last := r.converged(nil, leader, follower)
	secrets := r.Client.CoreV1().Secrets(namespace)
	edit := func(change func(*corev1.Secret)) func(*testing.T) {
		return func(t *testing.T) {
			secret := r.secret()
			change(secret)
			_, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
			require.NoError(t, err)
		}
	}

	for _, tc := range []struct {
		name string
		lose func(*testing.T)
	}{
		{"deleted", func(t *testing.T) {
			require.NoError(t, secrets.Delete(t.Context(), secretName, metav1.DeleteOptions{}))
		}},
		{"emptied", edit(func(s *corev1.Secret) { s.Data = map[string][]byte{corev1.TLSCertKey: {}, corev1.TLSPrivateKeyKey: {}} })},
		{"filled with garbage", edit(func(s *corev1.Secret) { s.Data[corev1.TLSCertKey] = []byte("garbage") })},
		{"given a key that is not the certificate's", edit(func(s *corev1.Secret) {
			s.Data[corev1.TLSPrivateKeyKey] = newForeignPair(t, r,
				time.Now()).key
		})},
		{"given a good pair of somebody else", edit(func(s *corev1.Secret) { newForeignPair(t, r, time.Now()).into(s, false) })},
		{"given a good pair of somebody else with our mark", edit(func(s *corev1.Secret) { newForeignPair(t, r, time.Now()).into(s, true) })},
		{"given an expired pair with our mark", edit(func(s *corev1.Secret) {
			newForeignPair(t, r, time.Now().Add(-48*time.Hour)).into(s,
				true)
		})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stop := r.promise(leader, follower)
			tc.lose(t)
			last = r.converged(last, leader, follower)
			stop()
			assert.Equal(t, "kubernetes", last.Issuer.CommonName)
			secret := r.secret()
			assert.Equal(t, corev1.SecretTypeTLS, secret.Type)
			_, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
			assert.NoError(t, err)
		})
	}
}

func TestSecretOfAnAddOnBeforeIsTakenOver(t *testing.T) {
	for _, tc := range []struct {
		name      string
		kind      corev1.SecretType
		immutable bool
	}{
		{"of the right type", corev1.SecretTypeTLS, false},
		{"of another type", corev1.SecretTypeOpaque, false},
		{"that cannot be changed", corev1.SecretTypeTLS, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			left := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName, Labels: map[string]string{"app": "before"}}, Type: tc.kind,
				Immutable: &tc.immutable}
			newForeignPair(t, r, time.Now()).into(left, false)
			_, err := r.Client.CoreV1().Secrets(namespace).Create(t.Context(), left, metav1.CreateOptions{})
			require.NoError(t, err)
			before := r.held()

			p := r.start()
			p.lead()
			r.converged(before, p)
			assert.Equal(t, corev1.SecretTypeTLS, r.secret().Type)
			assert.Equal(t, "tcr-assistant", r.secret().Labels["app.kubernetes.io/managed-by"])
		})
	}
}
