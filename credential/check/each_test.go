package check

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func TestEach(t *testing.T) {
	servers := []string{"r.example.com", "vpc.example.com:5000"}
	for _, c := range []struct {
		image string
		want  [2]string
	}{
		{"", [2]string{}},
		{"team/app:v1", [2]string{"team/app:v1", "team/app:v1"}},
		{"vpc.example.com:5000/team/app:v1", [2]string{"", "vpc.example.com:5000/team/app:v1"}},
		{"other.example.com/app", [2]string{"other.example.com/app", "other.example.com/app"}},
	} {
		for i, login := range Each(servers, Login{Image: c.image, Realms: []string{"auth"}}) {
			assert.Equal(t, Login{Server: servers[i], Image: c.want[i], Realms: []string{"auth"}}, login)
		}
	}
}

func TestAuthorities(t *testing.T) {
	for _, c := range []struct {
		secret *corev1.Secret
		reason string
	}{
		{nil, "AuthoritiesMissing"},
		{&corev1.Secret{}, "AuthoritiesInvalid"},
		{&corev1.Secret{Data: map[string][]byte{"ca.crt": []byte("hush")}}, "AuthoritiesInvalid"},
	} {
		roots, unknown := Authorities("system/ca", c.secret)
		assert.Nil(t, roots)
		require.NotNil(t, unknown)
		assert.Equal(t, Unknown, unknown.Verdict)
		assert.Equal(t, c.reason, unknown.Reason)
		assert.Contains(t, unknown.Message, "secret system/ca")
		assert.NotContains(t, unknown.Message, "hush")
	}
}
