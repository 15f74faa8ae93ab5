package install

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// addOnDefinition is the CustomResourceDefinition of the add-on: its fields, and none of ours.
const addOnDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: imagepullsecrets.tcr.tencentcloudcr.com}
spec:
  group: tcr.tencentcloudcr.com
  scope: Cluster
  names: {kind: ImagePullSecret, listKind: ImagePullSecretList, plural: imagepullsecrets, singular: imagepullsecret, shortNames: [ips, ipss]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          apiVersion: {type: string}
          kind: {type: string}
          metadata: {type: object}
          spec:
            type: object
            properties:
              namespaces: {type: string}
              serviceAccounts: {type: string}
              docker: {type: object, properties: {username: {type: string}, password: {type: string}, server: {type: string}}}
          status:
            type: object
            properties:
              secretsDesired: {type: integer}
              secretsSuccess: {type: integer}
              sAsDesired: {type: integer}
              sAsSuccess: {type: integer}
              secretUpdateSuccessful: &updates
                type: array
                items: {type: object, properties: {namespacedName: {type: string}, updatedAt: {type: string, format: date-time}}}
              serviceAccountsModifySuccessful: *updates
`

// TestTakingOver installs over what the add-on leaves: its definition, an object with the status that it wrote, a Secret and entries.
func TestTakingOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.Kubectl("create", "namespace", "team")
	definition, err := yaml.YAMLToJSON([]byte(addOnDefinition)) // kubectl follows no aliases into two places
	require.NoError(t, err)
	w.Apply(string(definition))
	w.Kubectl("wait", cluster.Established, "--timeout=30s", "crd/imagepullsecrets.tcr.tencentcloudcr.com")
	object := w.Create("old")
	w.Kubectl("patch", "ipss", "old", "--subresource=status", "--type=merge", "-p",
		`{"status":{"secretsDesired":1,"secretsSuccess":1,"sAsDesired":1,"sAsSuccess":1,"secretUpdateSuccessful":[{"namespacedName":"team/tcr.ipsold","updatedAt":"2024-01-01T00:00:00Z"}]}}`)
	theirs, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsold"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"old.example.com":{}}}`)},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.Apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: team}, imagePullSecrets: [{name: theirs}, {name: " +
		"tcr.ipsold}]}")
	w.helm = helmPaths[0] // Helm 3 passes over a definition that is there; Helm 4 refuses to install where it is another
	w.runHelm("install", chart)

	t.Run("under the old definition the manager does not start, and says what to do", func(t *testing.T) {
		kubeconfig, _ := w.tokenFor(managerAccount)
		m, err := manager.Start(w.Ctx, w.Cluster, manager.Options{Binary: binary, Kubeconfig: kubeconfig})
		require.NoError(t, err)
		w.Eventually("it ends", func() error {
			select {
			case <-m.Done():
				return nil
			default:
				return errors.New("it runs")
			}
		})
		require.Error(t, m.Stop())
		assert.Regexp(t, `imagepullsecrets\.tcr\.tencentcloudcr\.com lacks spec\.check\.[^;]* and \d+ more; replace them`, m.Log())
		assert.Contains(t, m.Log(), "kubectl apply --server-side --force-conflicts -f deploy/chart/crds/")
		var now struct {
			Metadata struct{ ResourceVersion string }
		}
		require.NoError(t, json.Unmarshal([]byte(w.Kubectl("get", "ipss", "old", "-o", "json")), &now))
		secret, err := w.Client.CoreV1().Secrets("team").Get(w.Ctx, "tcr.ipsold", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, theirs.ResourceVersion, secret.ResourceVersion, "nothing was written")
	})
	t.Run("the one line mends it, and everything is taken over in place", func(t *testing.T) {
		w.documented("take-over")
		w.run()
		for _, w.helm = range helmPaths {
			w.runHelm("upgrade", chart)
		}
		w.Kubectl("wait", "--for=condition=Ready", "--timeout=60s", "ipss/old")
		assert.Equal(t, theirs.UID, w.Holds("team", "old").UID, "it was adopted")
		w.teamLists("builder", "theirs", "tcr.ipsold")
		after, err := w.IPS.Get(w.Ctx, "old", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, object.UID, after.UID)
		assert.Equal(t, after.Generation, after.Status.ObservedGeneration)
	})
}
