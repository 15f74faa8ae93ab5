package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// podsProgram is what is measured of pods that are created: with so many ImagePullSecrets, in so many slices, so many pods of each kind
// in each namespace.
type podsProgram struct {
	sizes        []int
	slices, pods int
	fsync        bool // also where etcd waits for the disk
}

var (
	manyPods = podsProgram{sizes: []int{0, 1, 1000}, slices: 15, pods: 50, fsync: true}
	somePods = podsProgram{sizes: []int{0, 1, 200}, slices: 5, pods: 20}
)

// podsSetting is what a control plane for pods is like.
type podsSetting struct {
	byPolicy bool // Secrets are attached by the policy; else by the webhook
	fsync    bool // etcd waits for the disk
}

// settings are those to measure.
func (p podsProgram) settings() []podsSetting {
	all := []podsSetting{{byPolicy: true}, {}}
	if p.fsync {
		all = append(all, podsSetting{byPolicy: true, fsync: true}, podsSetting{fsync: true})
	}
	return all
}

// benchmark names what is measured, and way how Secrets are attached.
func (s podsSetting) benchmark() string {
	if s.fsync {
		return "pods, with fsync"
	}
	return "pods"
}

func (s podsSetting) way() string {
	if s.byPolicy {
		return "policy"
	}
	return "webhook"
}

// What the creation of a pod may take over that of one which the product leaves alone.
const (
	plainPodGoal   = 1.05 // one that lists no pull secrets
	listingPodGoal = 1.3
)

// attachToPodsPolicy is the name of the policy by which the API server attaches Secrets to pods itself.
const attachToPodsPolicy = attachPolicy + "-to-pods"

// Where pods are created, by turns. Whatever else slows one creation down slows down the others as well: they are of one control plane.
const (
	servedNamespace   = "bench-pods-served"
	plainestNamespace = "bench-pods-plainest" // opted out, and looked at by the plainest policy or webhook that adds an entry
	aloneNamespace    = "bench-pods-alone"    // opted out: what the API server compares is a label of the namespace
	alikeNamespace    = "bench-pods-alike"    // as the one before, to tell what is noise
)

var podNamespaces = []string{servedNamespace, plainestNamespace, aloneNamespace, alikeNamespace}

// podsWorld is a control plane with namespaces that the product serves and leaves alone.
type podsWorld struct {
	*world
	podsSetting
	program podsProgram
	report  *report
	manager *manager.Manager
}

// pods measures the creation of pods next to that of pods which the product leaves alone.
func pods(ctx context.Context, r *report, binary string, program podsProgram, setting podsSetting) (err error) {
	one, err := newWorldWith(ctx, binary, cluster.Options{Fsync: setting.fsync})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, one.Stop()) }()
	w := &podsWorld{world: one, podsSetting: setting, program: program, report: r}
	r.Kubernetes = w.Version()
	stop, err := w.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
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
		if err := errors.Join(w.compare(ctx, n, false), w.compare(ctx, n, true)); err != nil {
			return err
		}
	}
	return w.stop(ctx, w.manager)
}

// begin creates the namespaces, installs the plainest policy or webhook, and starts the manager. stop ends that webhook.
func (w *podsWorld) begin(ctx context.Context) (stop func() error, err error) {
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	stop = func() error { return nil }
	if w.byPolicy {
		w.args = []string{"--webhook-mutating=false"} // as the chart has it where the policy attaches
		err = errors.Join(manager.InstallPolicy(ctx, w.Cluster), w.addPlainestPolicy(ctx))
	} else {
		stop, err = w.addPlainestWebhook(ctx)
	}
	if err != nil {
		return nil, err
	}
	if w.manager, err = w.start(ctx); err == nil {
		err = w.manager.Ready(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// prepare creates the namespaces.
func (w *podsWorld) prepare(ctx context.Context) error {
	if err := w.namespaces(ctx, podNamespaces); err != nil {
		return err
	}
	optOut := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1.OptOutLabel, v1.OptOutValue)
	for _, name := range podNamespaces {
		if name == servedNamespace {
			continue
		}
		if _, err := w.client.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType, optOut, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
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
func pod(lists bool) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry-0.example.com/team/app:v1"}}},
	}
	if lists {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "mine"}}
	}
	return pod
}

// served waits until pods of both kinds are given what so many ImagePullSecrets say where the product serves them, what the plainest way
// adds to those that list something, and else nothing.
func (w *podsWorld) served(ctx context.Context, objects int) error {
	secret := pullsecret.SecretName(objectName(0))
	return eventually(ctx, func() error {
		for _, namespace := range podNamespaces {
			for _, lists := range []bool{false, true} {
				created, err := w.client.CoreV1().Pods(namespace).Create(ctx, pod(lists), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				if err != nil {
					return err
				}
				want := pod(lists).Spec.ImagePullSecrets
				switch {
				case namespace == servedNamespace && objects > 0:
					want = append(want, corev1.LocalObjectReference{Name: secret})
				case namespace == plainestNamespace && lists:
					want = append(want, corev1.LocalObjectReference{Name: plainestEntry})
				}
				if !slices.Equal(created.Spec.ImagePullSecrets, want) {
					return fmt.Errorf("with %d objects a pod in %s lists %v instead of %v", objects, namespace, created.Spec.ImagePullSecrets, want)
				}
			}
		}
		return nil
	})
}

// compare creates pods in all namespaces by turns, and reports what that took and how often anybody looked at them. Each slice is a
// comparison of its own.
func (w *podsWorld) compare(ctx context.Context, objects int, lists bool) error {
	name, goal, atMost := "lists nothing, "+w.way(), plainPodGoal, 0.0
	if lists {
		name, goal, atMost = "lists its own, "+w.way(), listingPodGoal, 1
	}
	evaluations, calls, err := w.looks(ctx)
	if err != nil {
		return err
	}
	if _, err := w.slice(ctx, lists); err != nil { // what is only slow at first
		return err
	}
	for range w.program.slices {
		took, err := w.slice(ctx, lists)
		if err != nil {
			return err
		}
		w.report.add(w.benchmark(), name+": p50", objects, milliseconds, took[servedNamespace])
		w.report.add(w.benchmark(), name+": over one left alone", objects, ratio, took[servedNamespace]/took[aloneNamespace]).atMost(goal)
		w.report.add(w.benchmark(), name+": the plainest over one left alone", objects, ratio, took[plainestNamespace]/took[aloneNamespace])
		w.report.add(w.benchmark(), name+": one left alone over another", objects, ratio, took[alikeNamespace]/took[aloneNamespace])
	}
	evaluated, called, err := w.looks(ctx)
	if err != nil {
		return err
	}
	created := float64(w.program.pods * (1 + w.program.slices))
	w.report.add(w.benchmark(), name+": evaluations of the policy for each", objects, count, (evaluated-evaluations)/created).atMost(atMost)
	w.report.add(w.benchmark(), name+": calls of the webhook for each", objects, count, (called-calls)/created).atMost(atMost)
	return nil
}

// slice creates some pods in each namespace, one after the other. The turns are in random order: what one leaves for later, such as
// garbage and news for those who watch pods, falls on all of them. It returns the median in each, in milliseconds.
func (w *podsWorld) slice(ctx context.Context, lists bool) (map[string]float64, error) {
	took := map[string][]float64{}
	turns := slices.Clone(podNamespaces)
	for range w.program.pods {
		rand.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
		for _, namespace := range turns {
			began := time.Now()
			if _, err := w.client.CoreV1().Pods(namespace).Create(ctx, pod(lists), metav1.CreateOptions{}); err != nil {
				return nil, err
			}
			took[namespace] = append(took[namespace], time.Since(began).Seconds()*1000)
		}
	}
	medians := map[string]float64{}
	for namespace, all := range maps.All(took) {
		slices.Sort(all)
		medians[namespace] = percentile(all, 50)
	}
	return medians, nil
}

// looks returns how often the policy was evaluated and the webhook was called for a pod.
func (w *podsWorld) looks(ctx context.Context) (evaluations, calls float64, err error) {
	return w.reviewed(ctx, attachToPodsPolicy, w.manager, "pods")
}
