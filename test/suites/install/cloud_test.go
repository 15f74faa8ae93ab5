package install

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const (
	registryID     = "tcr-demo0001"
	registryRegion = "ap-guangzhou"
)

// clouded is a world with a cloud that has a registry.
type clouded struct {
	*world
	cloud *tencentcloud.Cloud
}

func newClouded(t *testing.T) *clouded {
	t.Helper()
	w := newWorld(t)
	w.home()
	w.team("team")
	cloud, err := tencentcloud.Start(tencentcloud.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cloud.Close()) })
	cloud.AddRegistry(tencentcloud.Registry{ID: registryID, Region: registryRegion, Domain: "demo.tencentcloudcr.com"})
	return &clouded{w, cloud}
}

// keys makes a key of the cloud and a Secret of that name that holds it.
func (w *clouded) keys(name string) tencentcloud.Key {
	w.T.Helper()
	key := w.cloud.AddKey(tencentcloud.Everything)
	w.secret(name, map[string]string{"secretId": key.SecretID, "secretKey": key.SecretKey})
	return key
}

func (w *clouded) secret(name string, data map[string]string) {
	w.T.Helper()
	_, err := w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
	require.NoError(w.T, err)
}

// values writes values with this under global.tcr, and an entry "of-release" for the cloud's registry with this in its tcr.
func (w *clouded) values(cloud, entry map[string]any) []string {
	w.T.Helper()
	return []string{chart, "--values", write(w.T, map[string]any{"global": map[string]any{
		"tcr": cloud,
		"imagePullSecretsCrs": []any{map[string]any{
			"name": "of-release", "tcr": merged(map[string]any{"registryId": registryID, "region": registryRegion}, entry),
		}},
	}})}
}

// runInstalled starts a manager as the Deployment that is installed says, where the cloud is concerned.
func (w *clouded) runInstalled() *manager.Manager {
	w.T.Helper()
	deployment, err := w.Client.AppsV1().Deployments(manager.Namespace).Get(w.Ctx, managerAccount, metav1.GetOptions{})
	require.NoError(w.T, err)
	args, env := w.container(deployment.Spec.Template.Spec)
	args = slices.DeleteFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "--tencentcloud-") })
	kubeconfig, _ := w.tokenFor(managerAccount)
	args = slices.Concat(args, w.permissionArgs(), w.webhookArgs())
	return w.RunManager(manager.Options{Binary: binary, Kubeconfig: kubeconfig, Env: env, Args: args})
}

// issued waits until the release's ImagePullSecret has its credential everywhere, and returns what the cloud has issued for it.
func (w *clouded) issued() tencentcloud.Token {
	w.T.Helper()
	w.Status("of-release", func(status v1.ImagePullSecretStatus) error {
		for _, condition := range status.Conditions {
			if condition.Type == "Ready" && condition.Status == metav1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", status.Conditions)
	})
	w.teamLists("default", "tcr.ipsof-release")
	tokens := w.cloud.Tokens(registryID)
	require.Len(w.T, tokens, 1)
	require.True(w.T, w.cloud.Check(tokens[0].Username, tokens[0].Password))
	return tokens[0]
}

// records returns the names of the Secrets that have records of tokens.
func (w *clouded) records() []string {
	w.T.Helper()
	list, err := w.Client.CoreV1().Secrets(manager.Namespace).List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
	var names []string
	for _, secret := range list.Items {
		if strings.HasPrefix(secret.Name, "tcr-assistant-tokens-") {
			names = append(names, secret.Name)
		}
	}
	return names
}

// TestUninstallRevokesTokens uninstalls where no manager runs any more, with each way to the cloud that the values have.
func TestUninstallRevokesTokens(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		helm int
		// install returns what is written under global.tcr, and in the entry's tcr.
		install func(w *clouded) (cloud, entry map[string]any)
		// used holds what shows that this way was taken.
		used func(w *clouded)
	}{
		{"by keys that the object names", 1, func(w *clouded) (_, _ map[string]any) {
			w.keys("cam")
			w.secret("authority", map[string]string{"ca.crt": string(w.cloud.Authority())})
			return map[string]any{"endpoint": w.cloud.URL(), "caSecretRef": map[string]any{"name": "authority"}, "clusterId": "cls-abcdefgh"},
				map[string]any{"credentialsSecretRef": map[string]any{"name": "cam"}}
		}, func(w *clouded) {
			assert.Contains(w.T, w.issued().Description, "TKE cluster (cls-abcdefgh) dedicated access credential, ImagePullSecret of-release, ")
		}},
		{"by keys of the environment and through a proxy", 0, func(w *clouded) (_, _ map[string]any) {
			w.keys("cam")
			proxy, err := w.cloud.StartProxy()
			require.NoError(w.T, err)
			return map[string]any{
				"httpsProxy": proxy.URL(), "noProxy": "example.com, .example.org", "ca": string(w.cloud.Authority()),
				"credentialsSecretRef": map[string]any{"name": "cam"},
			}, nil
		}, func(w *clouded) { w.issued() }}, // the public name leads to this cloud by the proxy alone
		{"by the node's role", 1, func(w *clouded) (_, _ map[string]any) {
			w.cloud.BindNodeRole("worker", tencentcloud.Everything)
			_, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Create(w.Ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: "authority"}, Data: map[string]string{"ca.crt": string(w.cloud.Authority())},
			}, metav1.CreateOptions{})
			require.NoError(w.T, err)
			return map[string]any{
				"endpoint": w.cloud.URL(), "metadataEndpoint": w.cloud.MetadataURL(), "caConfigMapRef": map[string]any{"name": "authority"},
			}, nil
		}, func(w *clouded) { w.issued() }},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newClouded(t)
			w.helm = helmPaths[way.helm]
			cloud, entry := way.install(w)
			w.runHelm("install", w.values(cloud, entry)...)
			m := w.runInstalled()
			token := w.issued()
			way.used(w)
			require.NotEmpty(t, w.records())
			require.NoError(t, m.Kill())

			stop := w.runJobs()
			w.runHelm("uninstall")
			assert.Equal(t, 1, stop(), "jobs that ran")
			assert.Empty(t, w.cloud.Tokens(registryID), "\n%s", w.jobLog)
			assert.False(t, w.cloud.Check(token.Username, token.Password))
			assert.Empty(t, w.records())
			w.teamLists("default")
			assert.NotContains(t, w.jobLog, token.Password)
		})
	}
}

// TestUninstallGoesOnWithoutTheCloud uninstalls while the cloud is away, and has the next installation revoke what is left.
func TestUninstallGoesOnWithoutTheCloud(t *testing.T) {
	t.Parallel()
	w := newClouded(t)
	w.keys("cam")
	values := w.values(map[string]any{
		"endpoint": w.cloud.URL(), "ca": string(w.cloud.Authority()), "credentialsSecretRef": map[string]any{"name": "cam"},
	}, nil)
	w.runHelm("install", append(values, "--set", "uninstall.timeoutSeconds=20")...)
	m := w.runInstalled()
	token := w.issued()
	require.NoError(t, m.Kill())

	w.cloud.Fail("*", 0, tencentcloud.Failure{Refused: true})
	stop := w.runJobs()
	began := time.Now()
	w.runHelm("uninstall")
	assert.Less(t, time.Since(began), 20*time.Second, "it ends within the job's time, although the cloud does not answer")
	assert.Equal(t, 1, stop(), "jobs that ran")
	assert.Contains(t, w.jobLog, "tokens were not revoked: disable and delete those of this cluster in the registry's console")
	assert.Contains(t, w.jobLog, "revoking the tokens of 1 image pull secrets")
	assert.NotContains(t, w.jobLog, token.Password)
	w.teamLists("default")
	assert.NotEmpty(t, w.records(), "they say what is to be revoked")
	assert.True(t, w.cloud.Check(token.Username, token.Password))

	w.cloud.Recover()
	w.runHelm("install", append(values, "--set", "global.imagePullSecretsCrs=null")...)
	w.runInstalled()
	w.Eventually("the next installation revokes it", func() error {
		if w.cloud.Check(token.Username, token.Password) {
			return errors.New("the registry still takes it")
		}
		return nil
	})
	w.Eventually("nothing is left of it", func() error {
		if records, tokens := w.records(), w.cloud.Tokens(registryID); len(records)+len(tokens) > 0 {
			return fmt.Errorf("there are %v, and %d tokens", records, len(tokens))
		}
		return nil
	})
}

// TestTheRoleOfAnAccountIsInstalled holds what TKE reads of it, on both accounts that call the cloud.
func TestTheRoleOfAnAccountIsInstalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const role = "qcs::cam::uin/100000000001:roleName/tcr-assistant"
	out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.36.0", "--set", "global.tcr.roleArn="+role)
	require.NoError(t, err, out)
	for _, account := range []string{managerAccount, "tcr-assistant-uninstall"} {
		_, rest, found := strings.Cut(out, "kind: ServiceAccount\nmetadata:\n  name: "+account+"\n")
		require.True(t, found, account)
		object, _, _ := strings.Cut(rest, "\n---")
		assert.Contains(t, object, "    tke.cloud.tencent.com/role-arn: \""+role+"\"\n", account)
		assert.Contains(t, object, "    tke.cloud.tencent.com/audience: sts.cloud.tencent.com\n", account)
	}
	out, err = w.tryHelm("template", "x", chart, "--kube-version", "v1.36.0")
	require.NoError(t, err, out)
	assert.NotContains(t, out, "tke.cloud.tencent.com")
}
