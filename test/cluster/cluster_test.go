package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A bound on waits for what takes a second: it only ends a hang.
const hang = time.Minute

func clientOf(t *testing.T, c *Cluster) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	require.NoError(t, err)
	return client
}

func TestCluster(t *testing.T) {
	c := StartT(t, Options{Dir: t.TempDir()})
	t.Run("a namespace gets its default service account", func(t *testing.T) {
		core := clientOf(t, c).CoreV1()
		_, err := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "born"}}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			_, err := core.ServiceAccounts("born").Get(context.Background(), "default", metav1.GetOptions{})
			require.NoError(t, err)
		}, hang, 20*time.Millisecond)
	})
	t.Run("kubectl", func(t *testing.T) {
		out, problems, err := c.Kubectl(t.Context(), "version")
		require.NoError(t, err)
		t.Log(out, problems)
	})
}
