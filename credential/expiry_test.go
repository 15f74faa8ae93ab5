package credential

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestASecretSaysWhenItsCredentialEnds(t *testing.T) {
	const token = "a.eyJleHAiOjE4MDEzOTY4MDB9.c" // ends at noon of the last of January, 2027
	ends, sooner := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	unread := "the annotation tcr.tencentcloudcr.com/expires-at of secret system/team-a is not an RFC 3339 time: " +
		"write one such as 2027-01-31T12:00:00Z"
	for _, c := range []struct {
		name, annotation, password string
		want                       pullsecret.Expiry
	}{
		{"neither", "", "word", pullsecret.Expiry{}},
		{"the password", "", token, pullsecret.Expiry{At: ends}},
		{"the annotation, whatever the password says", "2027-01-01T00:00:00Z", token, pullsecret.Expiry{At: sooner}},
		{"the annotation, elsewhere in the world", "2027-01-01T08:00:00+08:00", "word", pullsecret.Expiry{At: sooner}},
		{"a date", "2027-01-01", "word", pullsecret.Expiry{Unread: unread}},
		{"anything", "hush", token, pullsecret.Expiry{At: ends, Unread: unread}},
		{"the beginning of all times, which means none", "0001-01-01T00:00:00Z", token, pullsecret.Expiry{At: ends, Unread: unread}},
		{"a year before that", "0001-01-01T00:00:00+14:00", "word", pullsecret.Expiry{Unread: unread}},
		{"blank", " ", "word", pullsecret.Expiry{Unread: unread}},
		{"a year that no status holds", "9999-12-31T23:59:59-01:00", "word", pullsecret.Expiry{Unread: unread}},
	} {
		t.Run(c.name, func(t *testing.T) {
			secret := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"other": "kept away"}}, Type: corev1.SecretTypeBasicAuth,
				Data: map[string][]byte{"username": []byte("robot"), "password": []byte(c.password)},
			}
			if c.annotation != "" {
				secret.Annotations["tcr.tencentcloudcr.com/expires-at"] = c.annotation
			}
			given := Of(types.NamespacedName{Namespace: "system", Name: "team-a"}, Referred(secret), []string{"r.example.com"})
			assert.Nil(t, given.Unread, "the credential is issued, whatever stands there")
			assert.NotNil(t, given.Config)
			assert.Equal(t, c.want, given.Expiry)
			assert.NotContains(t, Referred(secret).Annotations, "other")
		})
	}
}

func TestIssued(t *testing.T) {
	rule := &pullsecret.Rule{}
	_, known := Issued(rule, "r.example.com")
	assert.False(t, known)
	given := Of(types.NamespacedName{}, &corev1.Secret{Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{
		"username": []byte("robot"), "password": []byte("a:b \"c\""),
	}}, []string{"r.example.com", "vpc.example.com:5000"})
	rule = rule.With(given)
	for _, server := range []string{"r.example.com", "vpc.example.com:5000"} {
		one, known := Issued(rule, server)
		assert.True(t, known)
		assert.Equal(t, Login{"robot", "a:b \"c\""}, one)
	}
	_, known = Issued(rule, "elsewhere.example.com")
	assert.False(t, known)
}
