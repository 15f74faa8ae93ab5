//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
)

// TestHealing has pods come before their credential, and a password be wrong while pods wait longer and longer.
func TestHealing(t *testing.T) {
	t.Parallel()
	machine.Run(t, func(t *testing.T) {
		w := &healWorld{newWhyWorld(t)}
		w.Kubectl("create", "clusterrole", "healer", "--verb=list,watch,create,get", "--resource=pods,pods/eviction,events,jobs.batch")
		w.Kubectl("create", "clusterrolebinding", "healer", "--clusterrole=healer", "--user="+manager.User)
		w.Namespace("backoff")
		w.heal("backoff", "wrong")
		w.Lists("backoff", "default", "tcr.ipsbackoff")
		w.Holds("backoff", "backoff")
		w.deployment("backoff", "deep", image, 1)
		w.waiting("backoff", 1)
		failing := time.Now()
		t.Run("what came too early runs within a minute", func(t *testing.T) { w.early(t) })
		t.Run("a password that is put right reaches a pod deep in its backoff", func(t *testing.T) { w.deep(t, failing) })
	})
}

// healWorld is a node with pods that are healed.
type healWorld struct{ *whyWorld }

// heal creates an ImagePullSecret for a namespace of its name, which has pods evicted.
func (w *healWorld) heal(name, password string) {
	w.T.Helper()
	w.Apply(imagePullSecret(name, name, node.RegistryHost, password) + "  healing: Evict\n")
}

func (w *healWorld) deployment(namespace, name, image string, replicas int32) {
	w.T.Helper()
	template, selector := podsOf(name, image)
	_, err := w.Client.AppsV1().Deployments(namespace).Create(w.Ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: template},
	}, metav1.CreateOptions{})
	require.NoError(w.T, err)
}

func podsOf(name, image string) (corev1.PodTemplateSpec, *metav1.LabelSelector) {
	labels := map[string]string{"app": name}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		Containers:                    []corev1.Container{{Name: "app", Image: image}},
		TerminationGracePeriodSeconds: new(int64),
	}}, &metav1.LabelSelector{MatchLabels: labels}
}

// workloads creates thirty pods of controllers of each kind.
func (w *healWorld) workloads(namespace string) {
	w.T.Helper()
	w.deployment(namespace, "deployment-a", image, 6)
	w.deployment(namespace, "deployment-b", image, 6)
	template, selector := podsOf("statefulset", image)
	_, err := w.Client.AppsV1().StatefulSets(namespace).Create(w.Ctx,
		&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "statefulset"}, Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(6)), Selector: selector, Template: template, PodManagementPolicy: appsv1.ParallelPodManagement,
		}}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	for i := range 6 {
		name := fmt.Sprintf("daemonset-%d", i)
		template, selector := podsOf(name, image)
		_, err := w.Client.AppsV1().DaemonSets(namespace).Create(w.Ctx, &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template},
		}, metav1.CreateOptions{})
		require.NoError(w.T, err)
	}
	for i := range 6 {
		name := fmt.Sprintf("job-%d", i)
		template, _ := podsOf(name, image)
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		_, err := w.Client.BatchV1().Jobs(namespace).Create(w.Ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
			BackoffLimit: new(int32), Template: template, PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:          batchv1.PodFailurePolicyActionIgnore,
				OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
			}}},
		}}, metav1.CreateOptions{})
		require.NoError(w.T, err)
	}
}

// pods returns the pods of a namespace that are not being deleted.
func (w *healWorld) pods(namespace string) []corev1.Pod {
	w.T.Helper()
	list, err := w.Client.CoreV1().Pods(namespace).List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
}

// waiting waits until so many pods of a namespace wait for their image, and no others are there.
func (w *healWorld) waiting(namespace string, number int) (uids map[types.UID]string) {
	w.T.Helper()
	w.Eventually("pods of "+namespace+" wait for their image", func() error {
		uids = map[types.UID]string{}
		for _, pod := range w.pods(namespace) {
			for _, status := range pod.Status.ContainerStatuses {
				if waiting := status.State.Waiting; waiting != nil && (waiting.Reason == "ErrImagePull" || waiting.Reason == "ImagePullBackOff") {
					uids[pod.UID] = pod.Name
				}
			}
		}
		if len(uids) != number {
			return fmt.Errorf("%d of %d do", len(uids), number)
		}
		return nil
	})
	return uids
}

// run waits until so many pods of a namespace run.
func (w *healWorld) run(namespace string, number int, limit time.Duration) {
	w.T.Helper()
	w.Within(limit, "the pods of "+namespace+" run", func() error {
		running, last := 0, errors.New("there are none")
		for _, pod := range w.pods(namespace) {
			if err := runs(&pod); err != nil {
				last = fmt.Errorf("pod %s: %w", pod.Name, err)
				continue
			}
			running++
		}
		if running != number {
			return fmt.Errorf("%d of %d run: %w", running, number, last)
		}
		return nil
	})
}

// early has pods come before their credential.
func (w *healWorld) early(t *testing.T) {
	w.T = t
	w.Namespace("early")
	w.Namespace("aside")
	w.workloads("early")
	pod, _ := podsOf("bare", image)
	_, err := w.Client.CoreV1().Pods("aside").Create(w.Ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Spec: pod.Spec},
		metav1.CreateOptions{})
	require.NoError(t, err)
	w.deployment("aside", "no-such-host", "nowhere.example.com/app:1", 1)
	w.deployment("aside", "another-registry", "none.example.com/app:1", 1)
	w.waiting("aside", 3)
	early := w.waiting("early", 30)
	w.heal("aside", "right")
	w.Lists("aside", "default", "tcr.ipsaside")
	// Whether there is an image, a registry tells only those whom it knows.
	w.deployment("aside", "no-such-image", node.RegistryHost+"/docker/app:none", 1)
	aside := w.waiting("aside", 4)
	w.heal("early", "right")
	began := time.Now()
	w.run("early", 30, time.Minute)
	t.Logf("thirty pods run after %s", time.Since(began))
	for _, pod := range w.pods("early") {
		assert.NotContains(t, early, pod.UID, "it is another one")
	}
	for _, job := range []string{"job-0", "job-5"} {
		object, err := w.Client.BatchV1().Jobs("early").Get(w.Ctx, job, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Zero(t, object.Status.Failed)
	}
	w.Eventually("the bare pod is told of", func() error {
		object, err := w.IPS.Get(w.Ctx, "aside", metav1.GetOptions{})
		if err == nil && (len(object.Status.Unhealed) != 1 || object.Status.Unhealed[0].NamespacedName != "aside/bare") {
			err = fmt.Errorf("the status lists %v", object.Status.Unhealed)
		}
		return err
	})
	assert.Equal(t, aside, w.waiting("aside", 4), "they are as they were")
}

// deep has a pod wait for so long that it would wait for minutes, before its password is put right.
func (w *healWorld) deep(t *testing.T, failing time.Time) {
	w.T = t
	// A kubelet waits 10, 20, 40 and 80 s: who has failed for longer waits for 160 s once it fails again. Times count in seconds.
	time.Sleep(time.Until(failing.Add(145 * time.Second)))
	w.Eventually("it has failed just now", func() error {
		pods, err := w.Client.CoreV1().Pods("backoff").List(w.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			for _, container := range pod.Status.ContainerStatuses {
				if waiting := container.State.Waiting; waiting == nil || waiting.Reason != "ErrImagePull" {
					return fmt.Errorf("%s is %v", pod.Name, container.State)
				}
			}
		}
		return nil
	})
	time.Sleep(3 * time.Second)
	before := w.waiting("backoff", 1)
	w.heal("backoff", "right")
	began := time.Now()
	w.run("backoff", 1, time.Minute)
	t.Logf("it runs after %s", time.Since(began))
	for _, pod := range w.pods("backoff") {
		assert.NotContains(t, before, pod.UID, "it is another one")
	}
}
