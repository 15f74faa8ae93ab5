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
		{"R.example.com/app", [2]string{"R.example.com/app", ""}},
		{"other.example.com/app", [2]string{"other.example.com/app", "other.example.com/app"}}, // which Run refuses
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
		says   string
	}{
		{nil, "AuthoritiesMissing", "does not exist: create it, with the PEM certificates of the registry's authorities under ca.crt"},
		{&corev1.Secret{}, "AuthoritiesInvalid", "holds no certificate under ca.crt: write the PEM certificates of the registry's authorities there"},
		{&corev1.Secret{Data: map[string][]byte{"ca.crt": []byte("hush")}}, "AuthoritiesInvalid", "holds no certificate under ca.crt: write"},
	} {
		roots, unknown := Authorities("system/ca", c.secret)
		assert.Nil(t, roots)
		require.NotNil(t, unknown)
		assert.Equal(t, Unknown, unknown.Verdict)
		assert.Equal(t, c.reason, unknown.Reason)
		assert.Contains(t, unknown.Message, "secret system/ca "+c.says)
		assert.NotContains(t, unknown.Message, "hush")
	}
}
