package suite

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// The registry that a Cloud has, and where its tokens let somebody in.
const (
	RegistryID     = "tcr-demo0001"
	RegistryRegion = "ap-guangzhou"
	RegistryDomain = "demo.tencentcloudcr.com"
)

// keysSecret names the Secret of the keys that managers call a Cloud with.
const keysSecret = "cam"

// Cloud is a cloud with one registry, and a key that may do everything there in a Secret of the manager's namespace.
type Cloud struct {
	*tencentcloud.Cloud
	Key tencentcloud.Key
	// Args tell a manager where the cloud is.
	Args []string
}

// StartCloud starts a cloud whose registry is as some change it. The test stops it when it ends.
func (w *World) StartCloud(changes ...func(*tencentcloud.Registry)) *Cloud {
	w.T.Helper()
	cloud, err := tencentcloud.Start(tencentcloud.Options{})
	require.NoError(w.T, err)
	w.whole.Cleanup(func() { assert.NoError(w.whole, cloud.Close()) })
	registry := tencentcloud.Registry{ID: RegistryID, Region: RegistryRegion, Domain: RegistryDomain}
	for _, change := range changes {
		change(&registry)
	}
	cloud.AddRegistry(registry)
	authority := filepath.Join(w.whole.TempDir(), "cloud.crt")
	require.NoError(w.T, os.WriteFile(authority, cloud.Authority(), 0o600))
	made := &Cloud{Cloud: cloud, Key: cloud.AddKey(tencentcloud.Everything), Args: []string{
		"--tencentcloud-endpoint=" + cloud.URL(), "--tencentcloud-metadata-endpoint=" + cloud.MetadataURL(),
		"--tencentcloud-ca-file=" + authority,
	}}
	_, err = w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: keysSecret},
		StringData: map[string]string{"secretId": made.Key.SecretID, "secretKey": made.Key.SecretKey},
	}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return made
}

// TokensOf returns the registry's tokens that name an object, the oldest first.
func (c *Cloud) TokensOf(object *v1.ImagePullSecret) (tokens []tencentcloud.Token) {
	for _, token := range c.Tokens(RegistryID) {
		if strings.HasSuffix(token.Description, string(object.UID)) {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// Live returns how many of the registry's tokens that name an object let somebody in.
func (c *Cloud) Live(object *v1.ImagePullSecret) (live int) {
	for _, token := range c.TokensOf(object) {
		if token.Enabled {
			live++
		}
	}
	return live
}

// OfRegistry has the cloud issue the credential, asked with the keys of StartCloud, as some change it.
func OfRegistry(changes ...func(*v1.RegistryInstance)) Edit {
	return func(spec *v1.ImagePullSecretSpec) {
		spec.Docker = v1.DockerCredential{}
		spec.TCR = &v1.RegistryInstance{
			RegistryID: RegistryID, Region: RegistryRegion, CredentialsSecretRef: &v1.SecretReference{Name: keysSecret},
		}
		for _, change := range changes {
			change(spec.TCR)
		}
	}
}

// Login is what a Secret holds for a server.
type Login struct{ Username, Password string }

// Login returns what the Secret of an ImagePullSecret in a namespace holds for a server.
func (w *World) Login(namespace, imagePullSecret, server string) (Login, error) {
	secret, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, pullsecret.SecretName(imagePullSecret), metav1.GetOptions{})
	if err != nil {
		return Login{}, err
	}
	return LoginOf(secret, server)
}

// LoginOf returns what a Secret holds for a server.
func LoginOf(secret *corev1.Secret, server string) (Login, error) {
	var config struct{ Auths map[string]Login }
	if err := json.Unmarshal(secret.Data[corev1.DockerConfigJsonKey], &config); err != nil {
		return Login{}, fmt.Errorf("reading secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	login, found := config.Auths[server]
	if !found {
		return Login{}, fmt.Errorf("reading secret %s/%s: it holds nothing for %s", secret.Namespace, secret.Name, server)
	}
	return login, nil
}
