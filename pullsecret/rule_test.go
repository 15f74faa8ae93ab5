package pullsecret

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func sample(edit ...func(*v1.ImagePullSecret)) *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "sample", UID: "1", Generation: 1},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: "*", ServiceAccounts: "*",
			Docker: v1.DockerCredential{Username: "robot", Password: "hidden-password", Server: "registry.example.com"},
		},
	}
	for _, e := range edit {
		e(object)
	}
	return object
}

func TestParse(t *testing.T) {
	t.Run("a good spec becomes a rule", func(t *testing.T) {
		rule, errs := Parse(sample(func(o *v1.ImagePullSecret) { o.Spec.Namespaces = "a,b" }))
		require.Empty(t, errs)
		assert.Equal(t, "tcr.ipssample", rule.Secret)
		assert.True(t, rule.Namespaces.Matches("a"))
		assert.False(t, rule.Namespaces.Matches("c"))
		assert.True(t, rule.ServiceAccounts.All())
		assert.Equal(t, sha256.Sum256(rule.Config), rule.Sum)
	})
	docker := func(edit func(*v1.DockerCredential)) func(*v1.ImagePullSecret) {
		return func(o *v1.ImagePullSecret) { edit(&o.Spec.Docker) }
	}
	server := func(value string) func(*v1.ImagePullSecret) {
		return docker(func(d *v1.DockerCredential) { d.Server = value })
	}
	for name, test := range map[string]struct {
		edit       func(*v1.ImagePullSecret)
		path, says string
	}{
		"a blank user name":               {docker(func(d *v1.DockerCredential) { d.Username = " " }), "spec.docker.username", "write the registry's user name"},
		"a colon in the user name":        {docker(func(d *v1.DockerCredential) { d.Username = "robot:hidden-in-name" }), "spec.docker.username", `must not hold ":"`},
		"no password":                     {docker(func(d *v1.DockerCredential) { d.Password = "" }), "spec.docker.password", "password or token"},
		"no server":                       {server(""), "spec.docker.server", "write the registry's host"},
		"a server with a scheme":          {server("https://registry.example.com/v2"), "spec.docker.server", `write "registry.example.com", without "https://"`},
		"a server with a path":            {server("registry.example.com/team"), "spec.docker.server", `without a path: write "registry.example.com"`},
		"a server with user info":         {server("robot:hidden-in-server@registry.example.com"), "spec.docker.server", "without user info"},
		"a scheme and user info":          {server("https://robot:hidden-in-server@registry.example.com"), "spec.docker.server", "without user info"},
		"a blank in the server":           {server("registry. example.com"), "spec.docker.server", `without blanks: write "registry.example.com"`},
		"a line break behind it":          {server("registry.example.com\n"), "spec.docker.server", "without blanks"},
		"a pattern":                       {server("*.example.com"), "spec.docker.server", "patterns are not supported"},
		"port 0":                          {server("registry:0"), "spec.docker.server", "port from 1 to 65535"},
		"port 65536":                      {server("registry:65536"), "spec.docker.server", "port from 1 to 65535"},
		"a signed port":                   {server("registry:+80"), "spec.docker.server", "port from 1 to 65535"},
		"a port with a leading zero":      {server("registry:080"), "spec.docker.server", "port from 1 to 65535"},
		"no port behind the colon":        {server("registry:"), "spec.docker.server", "port from 1 to 65535"},
		"a bare IPv6 address":             {server("2001:db8::1"), "spec.docker.server", "such as"},
		"an IPv4 address in brackets":     {server("[10.0.0.1]"), "spec.docker.server", "stands in brackets"},
		"an unclosed bracket":             {server("[2001:db8::1"), "spec.docker.server", "stands in brackets"},
		"an address with a zone":          {server("[fe80::1%eth0]"), "spec.docker.server", "stands in brackets"},
		"a label of 64 characters":        {server(strings.Repeat("a", 64) + ".com"), "spec.docker.server", "must be a host"},
		"a host of 254 characters":        {server(strings.Repeat("a.", 126) + "com"), "spec.docker.server", "must be a host"},
		"a name of 247 characters":        {func(o *v1.ImagePullSecret) { o.Name = strings.Repeat("a", 247) }, "metadata.name", "at most 246 characters"},
		"a duplicate namespace":           {func(o *v1.ImagePullSecret) { o.Spec.Namespaces = "a,a" }, "spec.namespaces", "Duplicate value"},
		"a service account in upper case": {func(o *v1.ImagePullSecret) { o.Spec.ServiceAccounts = "A" }, "spec.serviceAccounts", "must be an exact service account name"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			rule, errs := Parse(sample(test.edit))
			require.Len(t, errs, 1, "%v", errs)
			assert.Nil(t, rule)
			assert.Equal(t, test.path, errs[0].Field)
			assert.Contains(t, errs[0].Error(), test.says)
			assert.NotContains(t, errs[0].Error(), "hidden")
		})
	}
	for _, good := range []string{
		"registry", "registry.example.com", "Registry.Example.COM", "registry:5000", "10.0.0.1", "10.0.0.1:65535", "[2001:db8::1]",
		"[2001:db8::1]:443", "[2001:DB8::1]:443", "a-b.c-d:1", strings.Repeat("a", 63) + ".com",
	} {
		t.Run("server "+good+" is accepted", func(t *testing.T) {
			_, errs := Parse(sample(server(good)))
			assert.Empty(t, errs)
		})
	}
	t.Run("every mistake is told at once", func(t *testing.T) {
		_, errs := Parse(&v1.ImagePullSecret{Spec: v1.ImagePullSecretSpec{Namespaces: ",", ServiceAccounts: "A"}})
		assert.Len(t, errs, 6, "%v", errs)
	})
}

func TestRender(t *testing.T) {
	config := Render(v1.DockerCredential{Username: "robot", Password: "a<b>&c", Server: "registry.example.com:5000"})
	assert.Equal(t, `{"auths":{"registry.example.com:5000":{"username":"robot","password":"a\u003cb\u003e\u0026c","auth":"cm9ib3Q6YTxiPiZj"}}}`, string(config))
	assert.True(t, json.Valid(config))
}

func TestNewSecret(t *testing.T) {
	rule, errs := Parse(sample())
	require.Empty(t, errs)
	secret := rule.NewSecret()
	assert.Equal(t, "tcr.ipssample", secret.Name)
	assert.True(t, Managed(secret.Labels))
	require.Len(t, secret.OwnerReferences, 1)
	owner := secret.OwnerReferences[0]
	assert.Equal(t, rule.UID, owner.UID)
	assert.Nil(t, owner.BlockOwnerDeletion, "nothing must ever hang in deletion")
	assert.Nil(t, owner.Controller)
	assert.Empty(t, secret.Finalizers)
}
