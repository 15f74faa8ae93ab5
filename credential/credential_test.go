package credential_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const server = "r.example.com:5000"

var name = types.NamespacedName{Namespace: "system", Name: "demo"}

func basic(username, password string) *corev1.Secret {
	return &corev1.Secret{Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte(username),
		"password": []byte(password)}}
}

func docker(config string) *corev1.Secret {
	return &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{".dockerconfigjson": []byte(config)}}
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestSecretsThatGiveACredential(t *testing.T) {
	robot := `{"username":"robot","password":"hidden"}`
	for name, secret := range map[string]*corev1.Secret{
		"basic-auth":       basic("robot", "hidden"),
		"dockerconfigjson": docker(`{"auths":{"r.example.com:5000":` + robot + `}}`),
		"with entries for others, whatever they hold": docker(`{"auths":{"a":{"auth":"%"},"b":[],"r.example.com":{"username":"x","password":"y"},"r.example.com:5000":` + robot + `},"credsStore":"x"}`),
		"with auth alone": docker(`{"auths":{"r.example.com:5000":{"auth":"` + encoded("robot:hidden") + `"}}}`),
		"with auth without padding": docker(`{"auths":{"r.example.com:5000":{"auth":"` +
			strings.TrimRight(encoded("robot:hidden"), "=") + `"}}}`),
		"where auth differs, it counts": docker(`{"auths":{"r.example.com:5000":{"username":"old","password":"old","auth":"` +
			encoded("robot:hidden") + `"}}}`),
		"with an identity token beside a password": docker(`{"auths":{"r.example.com:5000":{"username":"robot","password":"hidden","identitytoken":"t"}}}`),
		"under a URL":                               docker(`{"auths":{"https://r.example.com:5000":` + robot + `}}`),
		"under a URL of version 1":                  docker(`{"auths":{"https://r.example.com:5000/v1/":` + robot + `}}`),
		"under a URL of version 2":                  docker(`{"auths":{"http://r.example.com:5000/v2/":` + robot + `}}`),
		"under a slash":                             docker(`{"auths":{"r.example.com:5000/":` + robot + `}}`),
		"under two spellings, the exact one counts": docker(`{"auths":{"https://r.example.com:5000":{"username":"x","password":"y"},"r.example.com:5000":` + robot + `}}`),
	} {
		t.Run(name, func(t *testing.T) {
			servers := []string{server, "r-vpc.example.com"}
			found := credential.Of(types.NamespacedName{}, secret, servers)
			require.Nil(t, found.Unread)
			want := pullsecret.Render(v1.DockerCredential{Username: "robot", Password: "hidden", Server: server, AdditionalServers: servers[1:]})
			assert.Equal(t, string(want), string(found.Config))
		})
	}
	t.Run("a password may hold colons and every sign", func(t *testing.T) {
		found := credential.Of(name, docker(`{"auths":{"r.example.com:5000":{"auth":"`+encoded(`robot:a:b "\ü`)+`"}}}`), []string{server})
		require.Nil(t, found.Unread)
		assert.Equal(t, string(pullsecret.Render(v1.DockerCredential{Username: "robot", Password: `a:b "\ü`, Server: server})),
			string(found.Config))
	})
}

func TestSecretsThatGiveNone(t *testing.T) {
	for name, test := range map[string]struct {
		secret       *corev1.Secret
		reason, says string
	}{
		"missing": {nil, "SecretMissing",
			"does not exist, or is of a type that holds no credential: create it, of type kubernetes.io/basic-auth, with username and password, " +
				"or of type kubernetes.io/dockerconfigjson, with an entry for r.example.com:5000"},
		"of another type": {&corev1.Secret{Type: corev1.SecretTypeOpaque,
			Data: map[string][]byte{"username": []byte("robot"), "password": []byte("hidden")}}, "SecretOtherType",
			"is of type Opaque, which cannot be changed: delete it and create it again"},
		"of a type as long as can be": {&corev1.Secret{Type: corev1.SecretType(strings.Repeat("x", 100000))}, "SecretOtherType",
			"is of type xxxx"},
		"basic-auth without a user":     {basic("", "hidden"), "SecretInvalid", "user name must not be blank"},
		"basic-auth with a blank user":  {basic(" ", "hidden"), "SecretInvalid", "user name must not be blank"},
		"basic-auth with no password":   {basic("robot", ""), "SecretInvalid", "password must not be empty"},
		"a colon in the user name":      {basic("robot:hidden", "x"), "SecretInvalid", `user name must not hold ":"`},
		"a line break in the end":       {basic("robot", "hidden\n"), "SecretInvalid", "password must not end in a line break"},
		"a user name with a line break": {basic("robot\r\n", "hidden"), "SecretInvalid", "user name must not end in a line break"},
		"a password that is no text":    {basic("robot", "hidden\xff"), "SecretInvalid", "not valid UTF-8"},
		"a user name too long":          {basic(strings.Repeat("hidden", 1000), "x"), "SecretInvalid", "user name may not be more than 4096"},
		"a password too long": {basic("robot", strings.Repeat("hidden", 50000)), "SecretInvalid",
			"password may not be more than 262144"},
		"more than can be stored": {basic("robot", strings.Repeat("<", 262144)), "SecretInvalid", "more than 1 MiB"},
		"nothing":                 {docker(""), "SecretInvalid", "no .dockerconfigjson that can be read"},
		"garbage":                 {docker("hidden"), "SecretInvalid", "no .dockerconfigjson that can be read"},
		"a list of auths":         {docker(`{"auths":["hidden"]}`), "SecretInvalid", "no .dockerconfigjson that can be read"},
		"no auths":                {docker(`{}`), "ServerMissing", "holds no entry for r.example.com:5000"},
		"others alone": {docker(`{"auths":{"r.example.com":{"username":"robot","password":"hidden"},"r.example.com:5000/team":{}}}`),
			"ServerMissing", "holds no entry for r.example.com:5000"},
		"a text as entry": {docker(`{"auths":{"r.example.com:5000":"hidden"}}`), "SecretInvalid",
			"an entry for r.example.com:5000 that can't be read"},
		"an empty entry": {docker(`{"auths":{"r.example.com:5000":{}}}`), "SecretInvalid", "user name must not be blank"},
		"auth that is no base64": {docker(`{"auths":{"r.example.com:5000":{"auth":"hidden%"}}}`), "SecretInvalid",
			`holds an "auth" for r.example.com:5000 that is no user name and password`},
		"auth without a colon": {docker(`{"auths":{"r.example.com:5000":{"auth":"` + encoded("hidden") + `"}}}`), "SecretInvalid",
			`holds an "auth"`},
		"an identity token": {docker(`{"auths":{"r.example.com:5000":{"identitytoken":"hidden"}}}`), "SecretInvalid",
			"holds an identity or registry token"},
		"a registry token": {docker(`{"auths":{"r.example.com:5000":{"registrytoken":"hidden"}}}`), "SecretInvalid",
			"holds an identity or registry token"},
	} {
		t.Run(name, func(t *testing.T) {
			found := credential.Of(types.NamespacedName{Namespace: "system", Name: "demo"}, test.secret, []string{server})
			assert.Nil(t, found.Config)
			require.NotNil(t, found.Unread)
			assert.Equal(t, test.reason, found.Unread.Reason)
			assert.Contains(t, credential.Reasons, found.Unread.Reason)
			assert.Equal(t, "system/demo", found.Unread.Object)
			assert.Contains(t, found.Unread.Message, "secret system/demo ")
			assert.Contains(t, found.Unread.Message, test.says)
			assert.NotContains(t, fmt.Sprintf("%+v", *found.Unread), "hidden")
			assert.Less(t, len(found.Unread.Message), 1000, "a condition's message has at most 32768 characters")
		})
	}
}

func TestSeenSecretsSupplyTheRulesThatReferToThem(t *testing.T) {
	rule := &pullsecret.Rule{Reference: "team-a", Servers: []string{server, "vpc.example.com"}}
	seen := credential.Seen{Namespace: "manager", Secrets: map[string]*corev1.Secret{"team-a": basic("robot", "hidden")}}
	supplied := seen.Supply(rule)
	assert.Equal(t, credential.Of(seen.Name("team-a"), basic("robot", "hidden"), rule.Servers).Config, supplied.Config)
	assert.Nil(t, supplied.Unread)

	seen.Secrets["team-a"] = nil
	assert.Equal(t, "SecretMissing", seen.Supply(rule).Unread.Reason)
	assert.Equal(t, "manager/team-a", seen.Supply(rule).Unread.Object)
	assert.Same(t, rule, credential.Seen{}.Supply(rule), "nothing is known of what was not looked at")
	inline := &pullsecret.Rule{Servers: []string{server}}
	assert.Same(t, inline, seen.Supply(inline))
}

func TestLoginOfASecretIsWhatIsIssuedOfIt(t *testing.T) {
	login, unread := credential.LoginOf(name, basic("robot", "hidden"), server)
	assert.Nil(t, unread)
	assert.Equal(t, credential.Login{Username: "robot", Password: "hidden"}, login)
	login, unread = credential.LoginOf(name, basic("robot", "hidden\n"), server)
	assert.Empty(t, login)
	assert.Equal(t, "SecretInvalid", unread.Reason)
	assert.NotContains(t, unread.Message, "hidden")
}

func TestAuthIsReadAsKubeletsDo(t *testing.T) {
	padded := encoded("robot:hide")
	for auth, want := range map[string]string{
		padded: "", strings.TrimRight(padded, "="): "", padded + "\n": "", padded + "=": "is no base64", " " + padded: "is no base64",
		"%":              "is no base64",
		encoded("robot"): "is not the base64 of a user name, a colon and a password",
	} {
		login, err := credential.DecodeAuth(auth)
		if want == "" {
			require.NoError(t, err, auth)
			assert.Equal(t, credential.Login{Username: "robot", Password: "hide"}, login)
		} else {
			require.EqualError(t, err, want, auth)
		}
	}
	require.True(t, strings.HasSuffix(padded, "="))
}
