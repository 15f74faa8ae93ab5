//go:build linux

package node

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/e2e/machine"
)

const hang = 2 * time.Minute

func TestMain(m *testing.M) {
	machine.Main()
	os.Exit(m.Run())
}

func TestNode(t *testing.T) {
	machine.Run(t, func(t *testing.T) {
		n, err := Start(t.Context(), os.Stderr)
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				dir, err := n.KeepLogs("node")
				t.Log("logs are kept in ", dir, err)
			}
			assert.NoError(t, n.Stop())
		})
		r, err := n.StartRegistry(t.Context(), "user", "first")
		require.NoError(t, err)
		status, err := r.Login(t.Context(), "user", "second")
		require.NoError(t, err)
		assert.Equal(t, http.StatusUnauthorized, status)
		image, err := Workload(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.Push(t.Context(), "docker/app:1", image, "user", "first"))
		require.NoError(t, n.Import(t.Context(), "local.invalid/app:1", image))

		pods := n.client.CoreV1().Pods("default")
		_, err = pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "local"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "local.invalid/app:1"}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		running := func() bool {
			pod, err := pods.Get(t.Context(), "local", metav1.GetOptions{})
			return err == nil && pod.Status.Phase == corev1.PodRunning
		}
		require.Eventually(t, running, hang, 100*time.Millisecond)
	})
}
