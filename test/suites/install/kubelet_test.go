package install

import (
	"context"
	"os/exec"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// runJobs does for the pods of jobs in the product's namespace what a kubelet would: it runs what each says, with the token
// of the account that it names, and reports how it ended. It returns a function that ends this and tells how many ran.
func (w *world) runJobs() (stop func() int) {
	w.T.Helper()
	ctx, cancel := context.WithCancel(w.Ctx)
	watcher, err := w.Client.CoreV1().Pods(manager.Namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name"})
	require.NoError(w.T, err)
	var running sync.WaitGroup
	ran := map[types.UID]bool{}
	running.Go(func() {
		for event := range watcher.ResultChan() {
			pod, isPod := event.Object.(*corev1.Pod)
			if !isPod || ran[pod.UID] || pod.Status.Phase != corev1.PodPending {
				continue
			}
			ran[pod.UID] = true
			w.runPod(ctx, pod)
		}
	})
	w.T.Cleanup(cancel)
	return func() int {
		cancel()
		watcher.Stop()
		running.Wait()
		return len(ran)
	}
}

func (w *world) runPod(ctx context.Context, pod *corev1.Pod) {
	container := pod.Spec.Containers[0]
	assert.Equal(w.T, []string{"/controller-manager"}, container.Command)
	kubeconfig, _ := w.tokenFor(pod.Spec.ServiceAccountName)
	out, err := exec.CommandContext(ctx, binary, append(container.Args, "--kubeconfig="+kubeconfig)...).CombinedOutput()
	phase := `{"status":{"phase":"Succeeded"}}`
	if err != nil {
		phase = `{"status":{"phase":"Failed"}}`
		w.T.Logf("pod %s ended: %v\n%s", pod.Name, err, out)
	}
	_, err = w.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, []byte(phase), metav1.PatchOptions{}, "status")
	assert.NoError(w.T, err)
}
