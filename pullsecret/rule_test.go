package pullsecret

import (
	"crypto/sha256"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

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
		assert.True(t, rule.Namespaces.named.Matches("a"))
		assert.False(t, rule.Namespaces.named.Matches("c"))
		assert.True(t, rule.ServiceAccounts.All())
		assert.Equal(t, sha256.Sum256(rule.Config), rule.Sum)
	})
	t.Run("every mistake is told at once", func(t *testing.T) {
		_, errs := Parse(&v1.ImagePullSecret{Spec: v1.ImagePullSecretSpec{
			Namespaces: ",", ServiceAccounts: "A", Docker: v1.DockerCredential{Username: ":"},
		}})
		assert.Len(t, errs, 6, "%v", errs)
	})
}

func TestServerErrorsSayWhatToWrite(t *testing.T) {
	for server, says := range map[string]string{
		"https://registry.example.com/v2": `write "registry.example.com", without "https://"`,
		"registry.example.com/team":       `without a path: write "registry.example.com"`,
		"registry. example.com":           `without blanks: write "registry.example.com"`,
		"::1":                             `an IPv6 address is written in brackets: write "[::1]"`,
		"::1]":                            `in brackets`,
		"[10.0.0.1]":                      `is written in brackets, such as "[2001:db8::1]:5000"`,
	} {
		_, errs := Parse(sample(func(o *v1.ImagePullSecret) { o.Spec.Docker.Server = server }))
		require.Len(t, errs, 1, server)
		assert.Contains(t, errs[0].Error(), says)
	}
}

func TestErrorsRepeatTheBeginningOfALongValue(t *testing.T) {
	long := strings.Repeat("é", 200)
	_, errs := Parse(sample(func(o *v1.ImagePullSecret) {
		o.Name, o.Spec.Namespaces, o.Spec.ServiceAccounts, o.Spec.Docker.Server = long, long, long, "https://"+long
	}))
	require.Len(t, errs, 4)
	for _, err := range errs {
		assert.Less(t, len(err.Error()), 600, "%v", err)
		assert.Contains(t, err.Error(), "éé…")
		assert.True(t, utf8.ValidString(err.Error()))
	}
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
	assert.True(t, v1.Managed(secret.Labels))
	require.Len(t, secret.OwnerReferences, 1)
	owner := secret.OwnerReferences[0]
	assert.Equal(t, rule.UID, owner.UID)
	assert.Nil(t, owner.BlockOwnerDeletion, "nothing must ever hang in deletion")
	assert.Nil(t, owner.Controller)
	assert.Empty(t, secret.Finalizers)
}

// imageDomain is how an image's name begins that names its registry, as container runtimes read it.
var imageDomain = regexp.MustCompile(`^(([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(:[0-9]+)?$`)

// FuzzCheckServer holds that whatever is accepted as a server can stand at the head of an image's name.
func FuzzCheckServer(f *testing.F) {
	for _, seed := range []string{"registry.example.com:5000", "[2001:db8::1]:5000", "[[::1]]", "[::ffff:10.0.0.1]", "a..b", "a:0",
		"https://a/b", "a@b", "*.a", "a\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, server string) {
		if errs := checkServer(field.NewPath("spec"), server); len(errs) == 0 {
			assert.Regexp(t, imageDomain, server)
		}
	})
}
