package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

const sampleSecret = "tcr.ipsimagepullsecret-sample"

func TestDocumentedWalkThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()

	assert.Equal(t, "imagepullsecret.tcr.tencentcloudcr.com/imagepullsecret-sample created\n", w.Kubectl("create", "-f", samplePath))

	w.Kubectl("create", "namespace", "newns")
	assert.Equal(t, "serviceaccount/kung created\n", w.Kubectl("create", "sa", "kung", "-n", "newns"))
	assert.Equal(t, sampleSecret, w.Kubectl("get", "sa", "kung", "-n", "newns", "-o", "jsonpath={.imagePullSecrets[*].name}"),
		"a service account carries the entry from birth")
	secret := w.Holds("newns", "imagepullsecret-sample")
	w.Lists("newns", "default", sampleSecret)

	t.Run("get ipss shows the columns with true counts", func(t *testing.T) {
		all, err := w.Client.CoreV1().Namespaces().List(w.Ctx, metav1.ListOptions{})
		require.NoError(t, err)
		accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
		require.NoError(t, err)
		n, a := int32(len(all.Items)), int32(len(accounts.Items))
		w.Status("imagepullsecret-sample", counts(n, n, a, a))
		lines := strings.Split(strings.TrimSpace(w.Kubectl("get", "ipss")), "\n")
		require.Len(t, lines, 2)
		assert.Equal(t, []string{"NAME", "NAMESPACES", "SERVICE-ACCOUNTS", "SECRETS-DESIRED", "SECRETS-SUCCESS"}, strings.Fields(lines[0]))
		assert.Equal(t, []string{"imagepullsecret-sample", "*", "*", fmt.Sprint(n), fmt.Sprint(n)}, strings.Fields(lines[1]))
		assert.Equal(t, w.Kubectl("get", "ipss"), w.Kubectl("get", "ips"), "both short names mean the same")
	})
	t.Run("describe ipss shows the status", func(t *testing.T) {
		described := w.Kubectl("describe", "ipss", "imagepullsecret-sample")
		for _, line := range []string{
			`(?m)^  Secrets Desired: +6$`,
			`(?m)^  Secrets Success: +6$`,
			`(?m)^  S As Desired: +\d+$`,
			`(?m)^  S As Success: +\d+$`,
			`(?ms)^  Secret Update Successful:$.*^    Namespaced Name: +newns/tcr.ipsimagepullsecret-sample\n    Updated At: +\d{4}-\d\d-\d\dT.*^  Secrets Desired:`,
			`(?ms)^  Service Accounts Modify Successful:$.*^    Namespaced Name: +newns/default\n    Updated At: +\d{4}-\d\d-\d\dT`,
		} {
			assert.Regexp(t, regexp.MustCompile(line), described)
		}
	})
	t.Run("the secret is byte for byte what kubectl create secret docker-registry writes", func(t *testing.T) {
		object, err := w.IPS.Get(w.Ctx, "imagepullsecret-sample", metav1.GetOptions{})
		require.NoError(t, err)
		assertSameAsKubectl(t, w, object.Spec.Docker.Server, object.Spec.Docker.Username, object.Spec.Docker.Password,
			secret.Data[corev1.DockerConfigJsonKey])
	})
	t.Run("odd characters in a password are written as kubectl writes them", func(t *testing.T) {
		odd := `<&>"\ü 漢` + "\u2028" + `'$(x)%`
		w.Create("odd", password(odd), suite.InNamespaces("newns"))
		secret := w.Holds("newns", "odd")
		assertSameAsKubectl(t, w, "odd.example.com", "robot", odd, secret.Data[corev1.DockerConfigJsonKey])
	})
}

func assertSameAsKubectl(t *testing.T, w *world, server, username, password string, have []byte) {
	t.Helper()
	out := w.Kubectl("create", "secret", "docker-registry", "theirs", "--dry-run=client", "-o", "json",
		"--docker-server="+server, "--docker-username="+username, "--docker-password="+password)
	var theirs corev1.Secret
	require.NoError(t, json.Unmarshal([]byte(out), &theirs))
	assert.Equal(t, string(theirs.Data[corev1.DockerConfigJsonKey]), string(have))
}
