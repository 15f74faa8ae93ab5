//go:build linux

package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
)

// TestPodsThatListSecretsOfTheirOwn has pods that list another registry's Secret run the private image, by the webhook, and by the
// admission policy while no manager runs.
func TestPodsThatListSecretsOfTheirOwn(t *testing.T) {
	t.Parallel()
	machine.Run(t, func(t *testing.T) {
		w := newWhyWorld(t)
		w.Apply(imagePullSecret("serving", "webhook,policy", node.RegistryHost, "right") + "  pods: MatchingImages\n")
		for _, namespace := range []string{"webhook", "policy"} {
			w.Namespace(namespace)
			w.Holds(namespace, "serving")
		}
		t.Run("by the webhook", func(t *testing.T) { w.servesPods(t, "webhook") })
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
		require.NoError(t, w.manager.Stop())
		w.Kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")
		t.Run("by the policy, while no manager runs", func(t *testing.T) { w.servesPods(t, "policy") })
	})
}

// servesPods runs a pod, and a Deployment as public charts have them, that list another registry's Secret. What attaches may need a
// moment to be in force.
func (w *whyWorld) servesPods(t *testing.T, namespace string) {
	w.T = t
	w.secret(namespace, "theirs", corev1.SecretTypeDockerConfigJson, `{"auths":{"theirs.example.com":{"username":"u","password":"hush"}}}`)
	want := []corev1.LocalObjectReference{{Name: "theirs"}, {Name: "tcr.ipsserving"}}
	w.Eventually("such a pod is given the entry", func() error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Image: image}}, ImagePullSecrets: want[:1],
		}}
		created, err := w.Client.CoreV1().Pods(namespace).Create(w.Ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && len(created.Spec.ImagePullSecrets) < len(want) {
			err = errors.New("it is not")
		}
		return err
	})
	require.NoError(t, w.create(namespace, image, listing("theirs")))
	w.Kubectl("wait", "pod/app", "--for=condition=Ready", "--namespace="+namespace, "--timeout="+hang.String())
	w.Apply(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: app, namespace: ` + namespace + `},
  spec: {selector: {matchLabels: {app: app}}, template: ` + strings.Replace(lasting, "spec: {", "spec: {imagePullSecrets: [{name: theirs}], ", 1) + `}}`)
	w.Kubectl("rollout", "status", "deployment/app", "--namespace="+namespace, "--timeout="+hang.String())
	pods, err := w.Client.CoreV1().Pods(namespace).List(w.Ctx, metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, pods.Items, 2)
	for _, pod := range pods.Items {
		assert.Equal(t, want, pod.Spec.ImagePullSecrets)
	}
}
