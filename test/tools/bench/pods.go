package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// podsProgram is what is measured of pods that are created: with so many ImagePullSecrets, so many pods of each kind.
type podsProgram struct {
	sizes []int
	pods  int
}

var (
	manyPods = podsProgram{sizes: []int{0, 1, 1000}, pods: 300}
	somePods = podsProgram{sizes: []int{0, 1, 200}, pods: 60}
)

// What the creation of a pod may take over that in a cluster without the product.
const (
	plainPodGoal   = 1.05 // one that lists no pull secrets
	listingPodGoal = 1.3
)

// attachToPodsPolicy is the name of the policy by which the API server attaches Secrets to pods itself.
const attachToPodsPolicy = attachPolicy + "-to-pods"

// podsNamespace is where pods are created.
const podsNamespace = "bench-pods"

// podsWorld is a world with the product, and one without beside it.
type podsWorld struct {
	*world
	bare    *world
	report  *report
	manager *manager.Manager
	way     string // in which Secrets are attached
}

// pods measures the creation of pods, each next to one in a cluster without the product, by the policy or by the webhook.
func pods(ctx context.Context, r *report, binary string, program podsProgram, byPolicy bool) (err error) {
	w := &podsWorld{report: r, way: "by the webhook"}
	for _, one := range []**world{&w.world, &w.bare} {
		if *one, err = newWorld(ctx, binary); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, (*one).Stop()) }()
		if err := (*one).namespaces(ctx, []string{podsNamespace}); err != nil {
			return err
		}
	}
	r.Kubernetes = w.Version()
	if byPolicy {
		w.way = "by the policy"
		if err := manager.InstallPolicy(ctx, w.Cluster); err != nil {
			return err
		}
	}
	if w.manager, err = w.start(ctx); err != nil {
		return err
	}
	if err := w.manager.Ready(ctx); err != nil {
		return err
	}
	have := 0
	for _, n := range program.sizes {
		for ; have < n; have++ {
			if err := w.serving(ctx, have); err != nil {
				return err
			}
		}
		if err := w.served(ctx, n); err != nil {
			return err
		}
		if err := errors.Join(w.compare(ctx, n, program.pods, false), w.compare(ctx, n, program.pods, true)); err != nil {
			return err
		}
	}
	return w.stop(ctx, w.manager)
}

// serving creates an ImagePullSecret that serves pods: the first in every namespace, each of the others in two that are not there.
func (w *podsWorld) serving(ctx context.Context, i int) error {
	spec := v1.ImagePullSecretSpec{Namespaces: "*", ServiceAccounts: "*", Docker: credential(0), Check: unchecked, Pods: v1.PodsMatchingImages}
	spec.Docker.Server = fmt.Sprintf("registry-%d.example.com", i)
	if i > 0 {
		spec.Namespaces = fmt.Sprintf("team-%d-a,team-%d-b", i, i)
	}
	_, err := w.ips.Create(ctx, &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: objectName(i)}, Spec: spec}, metav1.CreateOptions{})
	return err
}

// pod returns a pod that pulls from the server of the first ImagePullSecret.
func (w *podsWorld) pod(lists bool) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry-0.example.com/team/app:v1"}}},
	}
	if lists {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "mine"}}
	}
	return pod
}

// served waits until pods of both kinds are given what so many ImagePullSecrets say.
func (w *podsWorld) served(ctx context.Context, objects int) error {
	want := corev1.LocalObjectReference{Name: pullsecret.SecretName(objectName(0))}
	return eventually(ctx, func() error {
		for _, lists := range []bool{false, true} {
			pod, err := w.client.CoreV1().Pods(podsNamespace).Create(ctx, w.pod(lists), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil && slices.Contains(pod.Spec.ImagePullSecrets, want) != (objects > 0) {
				err = fmt.Errorf("with %d objects a pod lists %v", objects, pod.Spec.ImagePullSecrets)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// compare creates so many pods in either cluster, by turns, and reports what that took and how often anybody looked at them.
func (w *podsWorld) compare(ctx context.Context, objects, pods int, lists bool) error {
	evaluations, calls, err := w.looks(ctx)
	if err != nil {
		return err
	}
	var took, bare []float64
	for i := range 2 * pods {
		in, times := w.world, &took
		if i%2 == 1 {
			in, times = w.bare, &bare
		}
		began := time.Now()
		if _, err := in.client.CoreV1().Pods(podsNamespace).Create(ctx, w.pod(lists), metav1.CreateOptions{}); err != nil {
			return err
		}
		*times = append(*times, time.Since(began).Seconds()*1000)
	}
	slices.Sort(took)
	slices.Sort(bare)
	evaluated, called, err := w.looks(ctx)
	if err != nil {
		return err
	}
	name, goal, atMost := "pod that lists nothing "+w.way, plainPodGoal, 0.0
	if lists {
		name, goal, atMost = "pod that lists its own "+w.way, listingPodGoal, 1
	}
	w.report.add("pods", name+": p50", objects, milliseconds, percentile(took, 50))
	w.report.add("pods", name+": p50 over one without the product", objects, ratio, percentile(took, 50)/percentile(bare, 50)).atMost(goal)
	w.report.add("pods", name+": evaluations of the policy for each", objects, count, (evaluated-evaluations)/float64(pods)).atMost(atMost)
	w.report.add("pods", name+": calls of the webhook for each", objects, count, (called-calls)/float64(pods)).atMost(atMost)
	return nil
}

// looks returns how often the policy was evaluated and the webhook was called for a pod.
func (w *podsWorld) looks(ctx context.Context) (evaluations, calls float64, err error) {
	return w.reviewed(ctx, attachToPodsPolicy, w.manager, "pods")
}
