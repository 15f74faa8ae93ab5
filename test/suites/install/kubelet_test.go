package install

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
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
	args, env := w.container(pod.Spec)
	kubeconfig, _ := w.tokenFor(pod.Spec.ServiceAccountName)
	command := exec.CommandContext(ctx, binary, append(args, "--kubeconfig="+kubeconfig)...)
	command.Env = append(process.Environ(), env...)
	out, err := command.CombinedOutput()
	w.jobLog += string(out)
	phase := `{"status":{"phase":"Succeeded"}}`
	if err != nil {
		phase = `{"status":{"phase":"Failed"}}`
		w.T.Logf("pod %s ended: %v\n%s", pod.Name, err, out)
	}
	_, err = w.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, []byte(phase), metav1.PatchOptions{}, "status")
	assert.NoError(w.T, err)
}

// container returns the arguments and the environment of the first container of a pod, with what is mounted into it, as a kubelet would
// give them to it.
func (w *world) container(pod corev1.PodSpec) (args, env []string) {
	w.T.Helper()
	container := pod.Containers[0]
	assert.Equal(w.T, []string{"/controller-manager"}, container.Command)
	args = slices.Clone(container.Args)
	for _, mount := range container.VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name || volume.Projected != nil { // the token is that of tokenFor
				continue
			}
			dir := w.mounted(volume)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], mount.MountPath, dir)
			}
		}
	}
	apiServer, err := url.Parse(w.RESTConfig().Host)
	require.NoError(w.T, err)
	for _, variable := range container.Env {
		value := strings.ReplaceAll(variable.Value, "$(KUBERNETES_SERVICE_HOST)", apiServer.Hostname())
		if from := variable.ValueFrom; from != nil {
			secret, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) && *from.SecretKeyRef.Optional {
				continue
			}
			require.NoError(w.T, err)
			value = string(secret.Data[from.SecretKeyRef.Key])
		}
		env = append(env, variable.Name+"="+value)
	}
	return args, env
}

// mounted returns a folder with what a volume holds.
func (w *world) mounted(volume corev1.Volume) string {
	w.T.Helper()
	dir, files := w.T.TempDir(), map[string][]byte{}
	if source := volume.ConfigMap; source != nil {
		object, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Get(w.Ctx, source.Name, metav1.GetOptions{})
		require.NoError(w.T, err)
		for key, text := range object.Data {
			files[key] = []byte(text)
		}
	} else {
		object, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, volume.Secret.SecretName, metav1.GetOptions{})
		require.NoError(w.T, err)
		files = object.Data
	}
	for name, text := range files {
		require.NoError(w.T, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return dir
}
