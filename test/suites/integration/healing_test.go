package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// What container runtimes say of an image that they may not pull, and of one that there is not.
const (
	authorizationFailed = "failed to pull and unpack image %[1]q: failed to resolve reference %[1]q: pull access denied, repository does " +
		"not exist or " +
		"may require authorization: authorization failed: no basic auth credentials"
	notFound = "rpc error: code = NotFound desc = failed to pull and unpack image %[1]q: failed to resolve reference %[1]q: %[1]s: not found"
)

// ours is an image of the server of the ImagePullSecret "demo".
const ours = "demo.example.com/team/app:1"

// evicting has pods evicted that came too early.
func evicting(spec *v1.ImagePullSecretSpec) { spec.Healing = v1.HealingEvict }

// newHealingWorld starts a control plane and installs the product, with the permissions for healing or without.
func newHealingWorld(t *testing.T, permitted bool) *world {
	t.Helper()
	w := &world{World: suite.Start(t), refusals: !permitted}
	settings := []string{fmt.Sprintf("rbac.healing=%t", permitted), "webhook.mutating=true"}
	if webhookless {
		settings[1] = "webhook.enabled=false"
	}
	require.NoError(t, manager.InstallChart(w.Ctx, w.Cluster, settings...))
	t.Cleanup(func() { w.noteRequests() })
	return w
}

// template is a pod of one image.
func template(image string, labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}

// deployment creates a Deployment, and returns its pods once they are there.
func (w *world) deployment(namespace, name, image string, replicas int32, changes ...func(*corev1.PodTemplateSpec)) []corev1.Pod {
	w.T.Helper()
	labels := map[string]string{"app": name}
	object := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(image, labels),
	}}
	for _, change := range changes {
		change(&object.Spec.Template)
	}
	_, err := w.Client.AppsV1().Deployments(namespace).Create(w.Ctx, object, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return w.pods(namespace, name, int(replicas))
}

// job creates a Job with a policy on failures, and returns its pod once it is there.
func (w *world) job(namespace, name string, policy *batchv1.PodFailurePolicy) []corev1.Pod {
	w.T.Helper()
	object := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
		Template: template(ours, map[string]string{"app": name}), PodFailurePolicy: policy, BackoffLimit: new(int32),
	}}
	object.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	_, err := w.Client.BatchV1().Jobs(namespace).Create(w.Ctx, object, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return w.pods(namespace, name, 1)
}

// pods waits until there are so many pods with that label.
func (w *world) pods(namespace, app string, number int) (pods []corev1.Pod) {
	w.T.Helper()
	w.Eventually("there are pods of "+app, func() error {
		list, err := w.Client.CoreV1().Pods(namespace).List(w.Ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err == nil && len(list.Items) != number {
			err = fmt.Errorf("there are %d instead of %d", len(list.Items), number)
		}
		if err == nil {
			pods = list.Items
		}
		return err
	})
	return pods
}

// bare creates a pod that nobody owns.
func (w *world) bare(namespace, name, image string) []corev1.Pod {
	w.T.Helper()
	object := template(image, map[string]string{"app": name})
	pod, err := w.Client.CoreV1().Pods(namespace).Create(w.Ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: object.Labels}, Spec: object.Spec,
	}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return []corev1.Pod{*pod}
}

// fail has pods fail to pull as a kubelet tells of it: in their status, and in events, for so long and that often. They back off.
func (w *world) fail(why string, since time.Duration, failures int32, pods ...corev1.Pod) {
	w.T.Helper()
	for i := range pods {
		pod := &pods[i]
		image := pod.Spec.Containers[0].Image
		message := fmt.Sprintf(why, image)
		event := &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{GenerateName: pod.Name + ".", Namespace: pod.Namespace},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
				FieldPath: "spec.containers{app}"},
			Type: corev1.EventTypeWarning, Reason: "Failed", Message: fmt.Sprintf("Failed to pull image %q: %s", image, message),
			Source:         corev1.EventSource{Component: "kubelet", Host: "node"},
			FirstTimestamp: metav1.NewTime(time.Now().Add(-since)), LastTimestamp: metav1.Now(), Count: failures,
		}
		_, err := w.Client.CoreV1().Events(pod.Namespace).Create(w.Ctx, event, metav1.CreateOptions{})
		require.NoError(w.T, err)
		w.Eventually("the status is written", func() error {
			now, err := w.Client.CoreV1().Pods(pod.Namespace).Get(w.Ctx, pod.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			now.Status.Phase = corev1.PodPending
			now.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: image, State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff",
					Message: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, message)},
			}}}
			_, err = w.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(w.Ctx, now, metav1.UpdateOptions{})
			return err
		})
	}
}

// healed waits until others have taken the place of pods, which list the Secret.
func (w *world) healed(pods ...corev1.Pod) []corev1.Pod {
	w.T.Helper()
	old := map[types.UID]bool{}
	for _, pod := range pods {
		old[pod.UID] = true
	}
	namespace, app := pods[0].Namespace, pods[0].Labels["app"]
	var heirs []corev1.Pod
	w.Eventually("others take the place of the pods of "+app, func() error {
		heirs = w.pods(namespace, app, len(pods))
		for _, pod := range heirs {
			if old[pod.UID] {
				return fmt.Errorf("pod %s is still there", pod.Name)
			}
			if !slices.Contains(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: "tcr.ipsdemo"}) {
				return fmt.Errorf("pod %s lacks the entry", pod.Name)
			}
		}
		return nil
	})
	return heirs
}

// untouched fails where a pod is not there any more.
func (w *world) untouched(pods ...corev1.Pod) {
	w.T.Helper()
	for _, pod := range pods {
		now, err := w.Client.CoreV1().Pods(pod.Namespace).Get(w.Ctx, pod.Name, metav1.GetOptions{})
		if assert.NoError(w.T, err) {
			assert.Equal(w.T, pod.UID, now.UID, pod.Name)
			assert.Nil(w.T, now.DeletionTimestamp, pod.Name)
		}
	}
}

// evictions returns the requests by which pods were evicted.
func (w *world) evictions() []cluster.Request {
	w.T.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && strings.HasSuffix(r.URI, "/eviction")
	})
	require.NoError(w.T, err)
	return requests
}

// unhealed waits until a status lists exactly these pods, each with a reason behind it.
func (w *world) unhealed(name string, want ...string) v1.ImagePullSecretStatus {
	w.T.Helper()
	return w.Status(name, func(status v1.ImagePullSecretStatus) error {
		have := []string{}
		for _, one := range status.Unhealed {
			have = append(have, one.NamespacedName+" "+one.Reason)
		}
		if !slices.Equal(want, have) {
			return fmt.Errorf("it lists %q", have)
		}
		return nil
	})
}

// waited is how long the pods of these tests have waited.
const waited = 10 * time.Minute

func TestPodsThatCameTooEarlyAreHealed(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.Namespace("team")
	w.Namespace("aside")
	w.label("aside", "", v1.OptOutLabel, v1.OptOutValue)
	const crowd = 30 // more than the events that client-go records of one object at once
	ignoring := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	app, job := w.deployment("team", "app", ours, crowd), w.job("team", "ignoring", ignoring)
	bare, counting := w.bare("team", "bare", ours), w.job("team", "counting", nil)
	own := w.deployment("team", "own", ours, 1, func(pod *corev1.PodTemplateSpec) {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "mine"}}
	})
	out := w.deployment("team", "out", ours, 1, func(pod *corev1.PodTemplateSpec) { pod.Labels[v1.OptOutLabel] = v1.OptOutValue })
	aside, missing := w.deployment("aside", "app", ours, 1), w.deployment("team", "missing", ours, 1)
	others := w.deployment("team", "others", "other.example.com/app:1", 1)
	healthy := w.deployment("team", "healthy", ours, 1)
	all := [][]corev1.Pod{app, job, bare, counting, own, out, aside, others}
	w.fail(authorizationFailed, waited, 5, slices.Concat(all...)...)
	w.fail(notFound, waited, 5, missing...)
	m := w.run()
	w.Create("demo", evicting)

	w.healed(app...)
	w.healed(job...)
	status := w.unhealed("demo", "team/bare NoController", "team/"+counting[0].Name+" JobCounts", "team/"+own[0].Name+" PodListsItsOwn")
	w.untouched(slices.Concat(bare, counting, own, out, aside, missing, others, healthy)...)

	w.tellsOfHealing(t, m, status, crowd)
	t.Run("what nobody asks for is not watched", w.stopsHealing)
}

// tellsOfHealing holds what is told of so many pods of a ReplicaSet and one of a Job that were evicted, and of three others.
func (w *world) tellsOfHealing(t *testing.T, m *manager.Manager, status v1.ImagePullSecretStatus, crowd int32) {
	t.Helper()
	t.Run("the status says what to do", func(t *testing.T) {
		condition := meta.FindStatusCondition(status.Conditions, v1.ConditionHealing)
		require.NotNil(t, condition)
		assert.Equal(t, metav1.ConditionTrue, condition.Status)
		assert.Contains(t, condition.Message, "3 pods left alone, see status.unhealed")
		described := w.Kubectl("describe", "ipss", "demo")
		assert.Contains(t, described, "no controller would create it again: delete it and create it again yourself")
		assert.Contains(t, described, "podFailurePolicy")
	})
	t.Run("the owner has an event of each", func(t *testing.T) {
		w.Eventually("there are events", func() error {
			list, err := w.Client.CoreV1().Events("team").List(w.Ctx, metav1.ListOptions{FieldSelector: "reason=EvictedToPull"})
			if err != nil {
				return err
			}
			told := map[string]int32{}
			for _, event := range list.Items {
				told[event.InvolvedObject.Kind] += max(event.Count, 1)
			}
			if told["ReplicaSet"] != crowd || told["Job"] != 1 {
				return fmt.Errorf("they tell of %v", told)
			}
			return nil
		})
	})
	t.Run("so do the metrics", func(t *testing.T) {
		text, err := m.Get(w.Ctx, "/metrics")
		require.NoError(t, err)
		assert.Contains(t, text, fmt.Sprintf(`tcr_assistant_pods_evicted_total{reason="PodOlderThanEntry"} %d`, crowd+1))
		for _, reason := range []string{"NoController", "JobCounts", "PodListsItsOwn"} {
			assert.Contains(t, text, `tcr_assistant_pods_unhealed{reason="`+reason+`"} 1`)
		}
	})
	t.Run("no other pod was evicted", func(t *testing.T) { assert.Len(t, w.evictions(), int(crowd)+1) })
}

// stopsHealing has nobody ask for healing any more.
func (w *world) stopsHealing(t *testing.T) {
	w.T = t
	w.edit("demo", func(spec *v1.ImagePullSecretSpec) { spec.Healing = v1.HealingNever })
	w.Status("demo", func(status v1.ImagePullSecretStatus) error {
		if meta.FindStatusCondition(status.Conditions, v1.ConditionHealing) != nil || len(status.Unhealed) > 0 {
			return errors.New("it still speaks of healing")
		}
		return nil
	})
	w.Eventually("the watch of pods has ended", func() error {
		running, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User && r.Resource == "pods" && r.Running })
		if err == nil && len(running) > 0 {
			err = errors.New(running[0].URI)
		}
		return err
	})
}

func TestAPasswordThatIsPutRightReachesPodsDeepInTheirBackoff(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.Namespace("team")
	w.run()
	w.Create("demo", evicting, password("wrong"))
	w.Lists("team", "default", "tcr.ipsdemo")
	w.Holds("team", "demo")
	deep, early := w.deployment("team", "deep", ours, 2), w.deployment("team", "early", ours, 1)
	scoped := w.deployment("team", "scoped", ours, 1)
	w.fail(authorizationFailed, waited, 3, deep...)
	w.fail(authorizationFailed, 40*time.Second, 1, early...)
	w.fail("failed to authorize: server message: insufficient_scope: authorization failed", waited, 9, scoped...)
	time.Sleep(2 * time.Second) // times in the API are whole seconds: what failed is older than what is written now
	w.untouched(slices.Concat(deep, early, scoped)...)
	w.edit("demo", password("right"))
	heirs := w.healed(deep...)
	w.untouched(slices.Concat(early, scoped)...)

	t.Run("others that are refused, too, are left alone", func(t *testing.T) {
		time.Sleep(2 * time.Second) // so that others are certainly created after all stood
		w.Kubectl("delete", "pods", "-n", "team", "-l", "app=deep")
		heirs = w.healed(heirs...)
		w.fail(authorizationFailed, waited, 9, heirs...)
		w.unhealed("demo", "team/"+min(heirs[0].Name, heirs[1].Name)+" NotHelped", "team/"+max(heirs[0].Name, heirs[1].Name)+" NotHelped")
		w.untouched(heirs...)
		assert.Len(t, w.evictions(), 2)
	})
}

func TestWithoutThePermissionNoPodIsHealed(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, false)
	w.Namespace("team")
	pods := w.deployment("team", "app", ours, 1)
	w.fail(authorizationFailed, waited, 5, pods...)
	m := w.run()
	w.Create("demo", evicting)
	says := func(reason string) func(v1.ImagePullSecretStatus) error {
		return func(status v1.ImagePullSecretStatus) error {
			condition := meta.FindStatusCondition(status.Conditions, v1.ConditionHealing)
			if condition == nil || condition.Reason != reason {
				return fmt.Errorf("the condition is %v", condition)
			}
			return nil
		}
	}
	status := w.Status("demo", says("Forbidden"))
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionHealing)
	assert.Equal(t, metav1.ConditionFalse, condition.Status)
	assert.Contains(t, condition.Message, "the manager may not list and watch pods in all namespaces: set rbac.healing to true")
	assert.Contains(t, m.Log(), "permission is missing")
	w.ready("demo", "Complete")
	w.untouched(pods...)

	t.Run("until it is granted", func(t *testing.T) {
		w.Kubectl("create", "clusterrole", "healer", "--verb=list,watch,create,get", "--resource=pods,pods/eviction,events,jobs.batch")
		w.Kubectl("create", "clusterrolebinding", "healer", "--clusterrole=healer", "--user="+manager.User)
		w.healed(pods...)
		w.Status("demo", says("Watching"))
	})
}
