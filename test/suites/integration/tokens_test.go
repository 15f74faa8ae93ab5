package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// ofRegistry has the cloud issue the credential, asked with the keys in a Secret "cam".
func ofRegistry(spec *v1.ImagePullSecretSpec) {
	spec.Docker = v1.DockerCredential{}
	spec.TCR = &v1.RegistryInstance{
		RegistryID: "tcr-demo0001", Region: "ap-guangzhou", CredentialsSecretRef: &v1.SecretReference{Name: "cam"},
	}
}

// startCloud starts a cloud with a registry, and returns it with what tells a manager of it.
func (w *world) startCloud() (cloud *standin.Cloud, args []string) {
	w.T.Helper()
	cloud, err := standin.Start(standin.Options{})
	require.NoError(w.T, err)
	w.T.Cleanup(func() { assert.NoError(w.T, cloud.Close()) })
	cloud.AddRegistry(standin.Registry{ID: "tcr-demo0001", Region: "ap-guangzhou", Domain: "demo.tencentcloudcr.com"})
	key := cloud.AddKey(standin.Everything)
	w.put(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cam", Namespace: manager.Namespace},
		StringData: map[string]string{"secretId": key.SecretID, "secretKey": key.SecretKey},
	})
	authority := filepath.Join(w.T.TempDir(), "ca.crt")
	require.NoError(w.T, os.WriteFile(authority, cloud.Authority(), 0o600))
	return cloud, []string{"--tencentcloud-endpoint=" + cloud.URL(), "--tencentcloud-ca-file=" + authority}
}

// letsIn returns an error unless the registry takes what the Secret in a namespace holds for its domain in private networks.
func (w *world) letsIn(cloud *standin.Cloud, namespace, secret string) error {
	found, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, secret, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var config struct {
		Auths map[string]struct{ Username, Password string }
	}
	if err := json.Unmarshal(found.Data[corev1.DockerConfigJsonKey], &config); err != nil {
		return fmt.Errorf("reading the Secret: %w", err)
	}
	one := config.Auths["demo-vpc.tencentcloudcr.com"]
	if !cloud.Check(one.Username, one.Password) {
		return errors.New("the registry refuses what the Secret holds")
	}
	return nil
}

func TestTheCloudIssuesTheCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud, args := w.startCloud()
	w.RunManager(manager.Options{Binary: binary, Args: args})
	w.Namespace("team")
	w.Create("issued", ofRegistry)
	w.Eventually("the registry takes it", func() error { return w.letsIn(cloud, "team", "tcr.ipsissued") })
	w.ready("issued", "Complete")
	status := w.Status("issued", func(status v1.ImagePullSecretStatus) error {
		if !meta.IsStatusConditionTrue(status.Conditions, v1.ConditionCredentialIssued) {
			return errors.New("it is not said to be issued")
		}
		return nil
	})
	assert.Equal(t, "TCR/tcr-demo0001", status.Credential.Source)
	assert.True(t, status.Credential.ExpiresAt.After(time.Now()))

	w.Kubectl("delete", "ipss", "issued")
	w.Eventually("its token is revoked", func() error {
		if left := len(cloud.Tokens("tcr-demo0001")); left > 0 {
			return fmt.Errorf("the registry has %d tokens", left)
		}
		return nil
	})
	w.Eventually("no record is left", func() error {
		all, err := records.New(w.Client.CoreV1().Secrets(manager.Namespace)).All(w.Ctx)
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("there are %d", len(all))
		}
		return err
	})
}
