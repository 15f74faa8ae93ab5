// Package credential says which credential a Secret gives: a Secret of type kubernetes.io/basic-auth is one itself, and one of type
// kubernetes.io/dockerconfigjson may hold one for a server. It is pure. A message about a flaw of a Secret says what to write instead, and
// never contains the Secret's data. Package reference watches the Secrets themselves.
package credential

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Reasons why a Secret gives no credential.
const (
	ReasonSecretMissing   = "SecretMissing"
	ReasonSecretOtherType = "SecretOtherType" // its type holds no credential
	ReasonServerMissing   = "ServerMissing"   // it has no entry for the server
	ReasonSecretInvalid   = "SecretInvalid"   // it holds no credential, or one that cannot be issued
)

// Reasons lists all of them.
var Reasons = []string{ReasonSecretMissing, ReasonSecretOtherType, ReasonServerMissing, ReasonSecretInvalid}

// Login is what one logs in to a registry with. It must never be printed.
type Login struct{ Username, Password string }

// flaw says what is wrong with a Secret.
type flaw struct{ reason, message string }

func invalid(format string, args ...any) *flaw {
	return &flaw{ReasonSecretInvalid, fmt.Sprintf(format, args...)}
}

// Of returns the credential that the Secret of that name gives for the first of these servers, rendered for all of them. A nil secret means
// that it does not exist.
func Of(name types.NamespacedName, secret *corev1.Secret, servers []string) pullsecret.Credential {
	one, wrong := read(secret, servers[0])
	if wrong != nil {
		return pullsecret.Credential{Unread: wrong.of(name)}
	}
	config := pullsecret.Render(v1.DockerCredential{
		Username: one.Username, Password: one.Password, Server: servers[0], AdditionalServers: servers[1:],
	})
	if pullsecret.Oversized(len(config)) {
		wrong = invalid("holds a password that makes a Secret of more than 1 MiB, which cannot be stored: write a shorter one, or fewer servers")
		return pullsecret.Credential{Unread: wrong.of(name)}
	}
	return pullsecret.Credential{Config: config, Expiry: expiryOf(name, secret, one.Password)}
}

// LoginOf returns what the Secret of that name gives for a server, or why it gives nothing. A nil secret means that it does not exist.
func LoginOf(name types.NamespacedName, secret *corev1.Secret, server string) (Login, *pullsecret.Unread) {
	one, wrong := read(secret, server)
	if wrong != nil {
		return Login{}, wrong.of(name)
	}
	return one, nil
}

func (f *flaw) of(name types.NamespacedName) *pullsecret.Unread {
	return &pullsecret.Unread{Reason: f.reason, Object: name.String(), Message: fmt.Sprintf("secret %s %s", name, f.message)}
}

func read(secret *corev1.Secret, server string) (Login, *flaw) {
	one, wrong := holds(secret, server)
	if wrong == nil {
		wrong = check(one)
	}
	return one, wrong
}

func holds(secret *corev1.Secret, server string) (Login, *flaw) {
	const wanted = "of type kubernetes.io/basic-auth, with username and password, or of type kubernetes.io/dockerconfigjson, with an entry " +
		"for "
	switch {
	case secret == nil:
		return Login{}, &flaw{ReasonSecretMissing, "does not exist, or is of a type that holds no credential: create it, " + wanted + server}
	case secret.Type == corev1.SecretTypeBasicAuth:
		return Login{string(secret.Data[corev1.BasicAuthUsernameKey]), string(secret.Data[corev1.BasicAuthPasswordKey])}, nil
	case secret.Type == corev1.SecretTypeDockerConfigJson:
		return find(secret.Data[corev1.DockerConfigJsonKey], server)
	default:
		return Login{}, &flaw{ReasonSecretOtherType, fmt.Sprintf(
			"is of type %.100s, which cannot be changed: delete it and create it again, %s%s", secret.Type, wanted, server)}
	}
}

// entry is what a .dockerconfigjson holds for a server.
type entry struct {
	Username, Password, Auth     string
	IdentityToken, RegistryToken string
}

// find returns what a .dockerconfigjson holds for a server. Entries for other servers are ignored.
func find(config []byte, server string) (Login, *flaw) {
	var parsed struct {
		Auths map[string]json.RawMessage
	}
	if json.Unmarshal(config, &parsed) != nil {
		return Login{}, invalid("holds no .dockerconfigjson that can be read: write what kubectl create secret docker-registry writes, "+
			"{\"auths\": {%q: {\"username\": …, \"password\": …}}}", server)
	}
	key, found := keyOf(parsed.Auths, server)
	if !found {
		return Login{}, &flaw{ReasonServerMissing,
			fmt.Sprintf("holds no entry for %s: write one under \"auths\", or set spec.docker.server to a server that it has one for", server)}
	}
	var one entry
	if json.Unmarshal(parsed.Auths[key], &one) != nil {
		return Login{}, invalid("holds an entry for %s that can't be read: write {\"username\": …, \"password\": …}", server)
	}
	switch {
	case one.Auth != "":
		return decode(one.Auth, server)
	case one.Username == "" && one.Password == "" && one.IdentityToken+one.RegistryToken != "":
		return Login{}, invalid("holds an identity or registry token for %s, which nodes cannot pull with: write a user name and a password, "+
			"such as those of a robot account", server)
	}
	return Login{one.Username, one.Password}, nil
}

// keyOf returns the key of a server's entry: the server itself, or one of the older spellings of docker login, which kubelets accept, too.
func keyOf(auths map[string]json.RawMessage, server string) (key string, found bool) {
	if _, exact := auths[server]; exact {
		return server, true
	}
	var keys []string
	for key := range auths {
		if at, ok := Kept(key); ok && at.Host == server && slices.Contains([]string{"", "/v1", "/v2"}, at.Path) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return "", false
	}
	return slices.Min(keys), true
}

// Kept returns a key of "auths" as kubelets keep it: without its scheme, and without a path that means the whole registry.
func Kept(key string) (*url.URL, bool) {
	if !strings.HasPrefix(key, "https://") && !strings.HasPrefix(key, "http://") {
		key = "https://" + key
	}
	parsed, err := url.Parse(key)
	if err != nil {
		return nil, false
	}
	if strings.HasPrefix(parsed.Path, "/v1/") || strings.HasPrefix(parsed.Path, "/v2/") {
		parsed.Path = parsed.Path[len("/v1"):]
	}
	if parsed.Path == "/" {
		parsed.Path = ""
	}
	return parsed, true
}

// decode reads the field "auth", which takes precedence over the fields beside it.
func decode(auth, server string) (Login, *flaw) {
	one, err := DecodeAuth(strings.TrimSpace(auth))
	if err != nil {
		return Login{}, invalid("holds an \"auth\" for %s that is no user name and password: write them in base64, with a \":\" between them, "+
			"or leave \"auth\" out and write \"username\" and \"password\"", server)
	}
	return one, nil
}

// DecodeAuth decodes a field "auth" as kubelets do: the padding may be missing. Its errors contain nothing of the value.
func DecodeAuth(auth string) (Login, error) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimSpace(auth), "=") {
		encoding = base64.StdEncoding
	}
	decoded, err := encoding.DecodeString(auth)
	if err != nil {
		return Login{}, errors.New("is no base64")
	}
	username, password, found := strings.Cut(string(decoded), ":")
	if !found {
		return Login{}, errors.New("is not the base64 of a user name, a colon and a password")
	}
	return Login{username, password}, nil
}

// check applies the rules for a credential in a spec.
func check(one Login) *flaw {
	fields := []struct {
		name, value string
		check       func(*field.Path, string) field.ErrorList
	}{
		{"user name", one.Username, pullsecret.CheckUsername},
		{"password", one.Password, pullsecret.CheckPassword},
	}
	for _, field := range fields {
		errs := field.check(nil, field.value)
		switch {
		case len(errs) > 0:
			return invalid("holds a credential whose %s %s", field.name, errs[0].Detail)
		case !utf8.ValidString(field.value):
			return invalid("holds a credential whose %s must be text: it is not valid UTF-8", field.name)
		case strings.HasSuffix(field.value, "\n") || strings.HasSuffix(field.value, "\r"):
			return invalid("holds a credential whose %s must not end in a line break, which registries take as part of it: write it without, such "+
				"as by printf instead of echo", field.name)
		}
	}
	return nil
}
