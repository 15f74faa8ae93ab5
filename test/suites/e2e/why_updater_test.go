//go:build linux

package e2e

import (
	"fmt"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
)

// overruled is a host of which the node's hosts file has another line above the one of hosts-updater.
const overruled = "overruled.example.com"

// runUpdater runs hosts-updater on the node, for the host that is overruled. It may only read the hosts file, and so leaves the other
// line first.
func (w *whyWorld) runUpdater() {
	w.T.Helper()
	const reference = "updater.test/hosts-updater:1"
	binary, err := manager.Build(w.Ctx, w.T.TempDir(), "hosts-updater")
	require.NoError(w.T, err)
	image, err := node.ImageOf(binary)
	require.NoError(w.T, err)
	require.NoError(w.T, w.node.Import(w.Ctx, reference, image))
	w.Apply(fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: updater-config, namespace: kube-system}
data: {hosts.yaml: "hosts: [{domain: %s, ip: %s}]"}
---
apiVersion: v1
kind: Pod
metadata:
  name: hosts-updater
  namespace: kube-system
  labels: {app.kubernetes.io/name: tcr-assistant, app.kubernetes.io/component: hosts-updater}
spec:
  containers:
  - name: hosts-updater
    image: %s
    imagePullPolicy: Never
    args: [--metrics-bind-address=:8081]
    ports: [{name: metrics, containerPort: 8081}]
    readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 1}
    volumeMounts: [{name: config, mountPath: /config}, {name: etc, mountPath: /host/etc, readOnly: true}]
  volumes: [{name: config, configMap: {name: updater-config}}, {name: etc, hostPath: {path: /etc, type: Directory}}]
`, overruled, node.RegistryAddress, reference))
	w.Eventually("hosts-updater is ready", func() error {
		pod, err := w.Client.CoreV1().Pods("kube-system").Get(w.Ctx, "hosts-updater", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return runs(pod)
	})
}
