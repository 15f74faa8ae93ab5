package healing

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/stretchr/testify/assert"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

const (
	appImage  = "r.example.com/app:1"
	backsOff  = `Back-off pulling image "r.example.com/app:1"`
	unknown   = `failed to pull and unpack image "r.example.com/app:1": pull access denied: authorization failed: no basic auth credentials`
	forbidden = `failed to authorize: server message: insufficient_scope: authorization failed`
)

// pod is one of a ReplicaSet whose image is waited for.
func pod(reason, message string) *corev1.Pod {
	status := metav1.NewTime(created.Add(time.Minute))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "app-1", UID: "1", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(created),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "app", UID: "2", Controller: new(true)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Subresource: "status", Time: &status}, {Time: new(metav1.NewTime(now))}},
		},
		Spec: corev1.PodSpec{
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "theirs"}}, Containers: []corev1.Container{{Name: "app", Image: appImage}},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}},
	}
}

func TestStrip(t *testing.T) {
	whole := Pod{
		Namespace: "team", Name: "app-1", UID: "1", Version: "7", Account: "default", Created: created.Unix(),
		Owner: unique.Make(Owner{"apps/v1", "ReplicaSet", "app", "2"}), Entries: []string{"theirs"}, Waits: []Wait{{Image: appImage, Host: "r.example.com", Refusal: diagnose.RefusedUser}},
	}
	none := Pod{Namespace: "team", Name: "app-1", UID: "1", Owner: nobody}
	for _, c := range []struct {
		name            string
		reason, message string
		change          func(*corev1.Pod)
		want            func(Pod) Pod
	}{
		{"one that backs off", imagePullBackOff, backsOff + ": ErrImagePull: " + unknown, nil, func(p Pod) Pod { return p }},
		{"one that may not", imagePullBackOff, backsOff + ": ErrImagePull: " + forbidden, nil, func(p Pod) Pod { p.Waits[0].Refusal = diagnose.RefusedScope; return p }},
		{"one that does not say why", imagePullBackOff, backsOff, nil, func(p Pod) Pod { p.Waits[0].Refusal = diagnose.RefusalUntold; return p }},
		{"one of which there is no image", imagePullBackOff, "manifest unknown: not found", nil, func(p Pod) Pod { p.Waits[0].Refusal = diagnose.NotRefused; return p }},
		{"one that has just failed", errImagePull, unknown, nil, func(p Pod) Pod { p.Waits[0].Failed = created.Add(time.Minute).Unix(); return p }},
		{"one that its kubelet holds back", errImagePull, "pull QPS exceeded", nil, func(p Pod) Pod { p.Waits[0].Refusal = diagnose.RefusalUntold; return p }},
		{"one that waits for something else", "ContainerCreating", "", nil, func(Pod) Pod { return none }},
		{"one whose image's name is none", "InvalidImageName", "", nil, func(Pod) Pod { return none }},
		{"one that is being deleted", imagePullBackOff, unknown, func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }, func(Pod) Pod { return none }},
		{"the mirror of a static one", imagePullBackOff, unknown, func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		}, func(p Pod) Pod { p.Static = true; return p }},
		{"one that opted out", imagePullBackOff, unknown, func(p *corev1.Pod) {
			p.Labels = map[string]string{v1.OptOutLabel: v1.OptOutValue}
		}, func(p Pod) Pod { p.OptedOut = true; return p }},
		{"a bare one", imagePullBackOff, unknown, func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }, func(p Pod) Pod { p.Owner = nobody; return p }},
		{"one whose debugging container waits, which another one would not have", imagePullBackOff, unknown, func(p *corev1.Pod) {
			p.Status.EphemeralContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
		}, func(Pod) Pod { return none }},
		{"one of an account", imagePullBackOff, unknown, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "robot" }, func(p Pod) Pod { p.Account = "robot"; return p }},
	} {
		t.Run(c.name, func(t *testing.T) {
			given, want := pod(c.reason, c.message), whole
			want.Waits = []Wait{whole.Waits[0]}
			if c.change != nil {
				c.change(given)
			}
			assert.Equal(t, c.want(want), Strip(given))
		})
	}
}

// failed is an event of a kubelet about a pull that failed, times, the last time so long ago.
func failed(message string, count int32, first, last time.Duration) corev1.Event {
	return corev1.Event{
		Reason: "Failed", Message: fmt.Sprintf("Failed to pull image %q: %s", appImage, message), Count: count,
		FirstTimestamp: metav1.NewTime(now.Add(-first)), LastTimestamp: metav1.NewTime(now.Add(-last)),
	}
}

func TestSeen(t *testing.T) {
	stripped := Strip(pod(imagePullBackOff, backsOff))
	told := func(s Seen, pod Pod, events ...corev1.Event) Seen { return s.Told(pod, events, 7, now) }
	t.Run("a pod waits since it was seen first", func(t *testing.T) {
		seen := Seen{}.Watched(stripped, now).Watched(stripped, now.Add(time.Minute))
		assert.Equal(t, Seen{First: now, Since: now}, seen)
	})
	t.Run("and since its events began", func(t *testing.T) {
		seen := told(Seen{First: now, Since: now}, stripped, failed(unknown, 3, time.Hour, time.Minute))
		assert.Equal(t, Seen{
			First: now, Since: now.Add(-time.Hour), Asked: 7, Known: 7, Next: now.Add(firstAsk), Times: 1,
			Pulls: []Pull{{Image: appImage, FailedAt: now.Add(-time.Minute), Failures: 3, Refusal: diagnose.RefusedUser}},
		}, seen)
	})
	t.Run("a try that the kubelet held back tells nothing", func(t *testing.T) {
		seen := told(Seen{Since: now}, stripped, failed("pull QPS exceeded", 1, time.Second, time.Second), failed(unknown, 1, time.Minute, time.Minute))
		assert.Equal(t, diagnose.RefusedUser, seen.pull(appImage).Refusal)
		assert.True(t, seen.pull(appImage).FailedAt.Equal(now.Add(-time.Minute)))
	})
	t.Run("a kubelet tells of it when it begins to pull", func(t *testing.T) {
		pulling := failed(unknown, 3, time.Hour, time.Minute)
		pulling.Reason, pulling.Message = "Pulling", `Pulling image "r.example.com/app:1"`
		assert.Equal(t, Pull{Image: appImage, BegunAt: now.Add(-time.Minute), Refusal: diagnose.RefusalUntold}, told(Seen{Since: now}, stripped, pulling).pull(appImage))
		pulling.Message = `Pulling image "r.example.com/app"`
		assert.Zero(t, told(Seen{Since: now}, stripped, pulling).pull(appImage).BegunAt)
	})
	t.Run("without events nothing is known", func(t *testing.T) {
		assert.Equal(t, Pull{Image: appImage, Refusal: diagnose.RefusalUntold}, told(Seen{Since: now}, stripped).pull(appImage))
	})
	t.Run("a failure that is seen is later than what events tell", func(t *testing.T) {
		fresh, event := Strip(pod(imagePullBackOff, backsOff)), failed(unknown, 3, time.Hour, time.Minute)
		fresh.Waits[0].Failed = now.Unix()
		seen := told(Seen{Since: now}, fresh, event).Watched(fresh, now)
		assert.True(t, seen.pull(appImage).FailedAt.Equal(now))
		assert.True(t, told(seen.Watched(stripped, now), stripped, event).pull(appImage).FailedAt.Equal(now))
	})
	t.Run("events that cannot be read leave what was known as it was", func(t *testing.T) {
		before := told(Seen{Since: now}, stripped, failed(unknown, 3, time.Hour, time.Minute))
		after := before.Untold(8, now)
		assert.Equal(t, before.Pulls, after.Pulls)
		assert.EqualValues(t, 7, after.Known)
		assert.EqualValues(t, 8, after.Asked)
	})
	t.Run("they are read less and less often", func(t *testing.T) {
		var waits []time.Duration
		for seen := (Seen{}); len(waits) < 6; waits = append(waits, seen.Next.Sub(now)) {
			seen = told(seen, stripped)
		}
		assert.Equal(t, []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, lastAsk, lastAsk}, waits)
	})
	t.Run("of images that it no longer waits for nothing is kept", func(t *testing.T) {
		other := stripped
		other.Waits = []Wait{{Image: "another", Failed: 1}}
		assert.Len(t, told(Seen{}, stripped).Watched(other, now).Pulls, 1)
	})
	for waited, wait := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 9 * time.Second: 10 * time.Second, 10 * time.Second: 20 * time.Second, 29 * time.Second: 20 * time.Second,
		30 * time.Second: 40 * time.Second, 310 * time.Second: 300 * time.Second, time.Hour: 300 * time.Second,
	} {
		t.Run(fmt.Sprintf("a pod that has failed for %s tries again after %s", waited, wait), func(t *testing.T) {
			assert.Equal(t, now.Add(wait), Seen{Since: now.Add(-waited)}.nextTry(Pull{FailedAt: now}))
		})
	}
	assert.Equal(t, now.Add(160*time.Second), Seen{Since: now}.nextTry(Pull{FailedAt: now, Failures: 5}))
}

// TestHugePodsAreReadInPart has a pod's author and its registry say as much as they can.
func TestHugePodsAreReadInPart(t *testing.T) {
	huge := pod(imagePullBackOff, "")
	huge.Status.ContainerStatuses = nil
	page := strings.Repeat("<p>manifest unknown, says the \"registry\"</p>", 1<<10)
	for i := range 100 {
		name := fmt.Sprint(i)
		huge.Spec.Containers = append(huge.Spec.Containers, corev1.Container{Name: name, Image: "r.example.com/" + name})
		huge.Status.ContainerStatuses = append(huge.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: imagePullBackOff, Message: backsOff + ": ErrImagePull: " + unknown + page},
		}})
	}
	stripped := Strip(huge)
	assert.Len(t, stripped.Waits, maxWaits)
	assert.Equal(t, Wait{Image: appImage, Host: "r.example.com", Refusal: diagnose.RefusedUser}, stripped.Waits[0])
	assert.Len(t, shortened(page), 2*maxMessage+1)
	assert.True(t, strings.HasPrefix(huge.Status.ContainerStatuses[0].State.Waiting.Message, backsOff+": ErrImagePull: "+unknown+page), "the pod itself stays")
}

func TestAPodThatIsEvictedIsKnown(t *testing.T) {
	given := pod(imagePullBackOff, unknown)
	given.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler"}}
	assert.False(t, Strip(given).Evicted)
	given.Status.Conditions[0].Reason = "EvictionByEvictionAPI"
	assert.True(t, Strip(given).Evicted)
}

func TestCounts(t *testing.T) {
	on := func(action batchv1.PodFailurePolicyAction, kind corev1.PodConditionType, status corev1.ConditionStatus) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: kind, Status: status}}}
	}
	exits := func(action batchv1.PodFailurePolicyAction, operator batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: operator, Values: codes}}
	}
	const ignore, fail, count = batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionCount
	const in, notIn = batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn
	ignores := on(ignore, corev1.DisruptionTarget, corev1.ConditionTrue)
	for name, c := range map[string]struct {
		rules  []batchv1.PodFailurePolicyRule
		counts bool
	}{
		"no policy":                             {nil, true},
		"a policy that ignores":                 {[]batchv1.PodFailurePolicyRule{ignores}, false},
		"without a status, which is True":       {[]batchv1.PodFailurePolicyRule{on(ignore, corev1.DisruptionTarget, "")}, false},
		"of where there was no disruption":      {[]batchv1.PodFailurePolicyRule{on(ignore, corev1.DisruptionTarget, corev1.ConditionFalse)}, true},
		"of something else":                     {[]batchv1.PodFailurePolicyRule{on(ignore, "ConfigIssue", corev1.ConditionTrue)}, true},
		"that counts it first":                  {[]batchv1.PodFailurePolicyRule{on(count, corev1.DisruptionTarget, corev1.ConditionTrue), ignores}, true},
		"that fails the Job on an error first":  {[]batchv1.PodFailurePolicyRule{exits(fail, in, 1, 42), ignores}, false},
		"that fails the Job on a kill first":    {[]batchv1.PodFailurePolicyRule{exits(fail, in, 137), ignores}, true},
		"that fails the Job on all but one":     {[]batchv1.PodFailurePolicyRule{exits(fail, notIn, 0, 1), ignores}, true},
		"that fails it on all but a kill":       {[]batchv1.PodFailurePolicyRule{exits(fail, notIn, 137), ignores}, false},
		"that ignores a kill, and nothing else": {[]batchv1.PodFailurePolicyRule{exits(ignore, in, 137)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			job := &batchv1.Job{}
			if c.rules != nil {
				job.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: c.rules}
			}
			assert.Equal(t, c.counts, Counts(job))
		})
	}
}

func TestFactsOf(t *testing.T) {
	index := pullsecret.NewIndex()
	put := func(name, healing, accounts string) {
		index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "9"}, Spec: v1.ImagePullSecretSpec{
			Healing: healing, ServiceAccounts: accounts, Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "r.example.com"},
		}})
	}
	put("heals", v1.HealingEvict, "*")
	put("never", v1.HealingNever, "*")
	put("elsewhere", v1.HealingEvict, "another")
	rule := index.Rules().Get("heals")
	current := plan.Secret{Name: "tcr.ipsheals", Docker: true, Managed: true, Owners: []types.UID{"9"}, Sum: rule.Sum, Updated: 5}
	namespace := plan.Namespace{Name: "team", Live: true, Accounts: []plan.Account{{Name: "default", Secrets: []string{"tcr.ipsheals"}, Updated: 4}}}.With(current)
	good := func(*pullsecret.Rule) bool { return false }
	want := Facts{
		Entries: []string{"tcr.ipsheals"}, Listed: 4,
		Givers: []Giver{{Name: "heals", Secret: "tcr.ipsheals", Servers: []string{"r.example.com"}, Current: true, Written: 5}},
	}
	assert.Equal(t, want, FactsOf(index.Rules(), namespace, "default", good))

	t.Run("a Secret of another credential is not current", func(t *testing.T) {
		stale := current
		stale.Sum, stale.Version = [32]byte{1}, 1
		assert.False(t, FactsOf(index.Rules(), namespace.With(stale), "default", good).Givers[0].Current)
	})
	t.Run("a credential that is known to be refused is bad", func(t *testing.T) {
		assert.True(t, FactsOf(index.Rules(), namespace, "default", func(*pullsecret.Rule) bool { return true }).Givers[0].Bad)
	})
	t.Run("what spec.pods gives to pods with secrets of their own is known", func(t *testing.T) {
		object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "heals", UID: "9"}, Spec: v1.ImagePullSecretSpec{
			Healing: v1.HealingEvict, Pods: v1.PodsMatchingImages, Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "r.example.com"},
		}}
		given := pullsecret.NewIndex()
		given.Put(object)
		assert.False(t, FactsOf(given.Rules(), namespace, "default", good).Givers[0].Inserted, "whose accounts are kept out is not known")
		given.BarExactly(nil)
		assert.True(t, FactsOf(given.Rules(), namespace, "default", good).Givers[0].Inserted)
		given.Bar("team", "default", true)
		assert.False(t, FactsOf(given.Rules(), namespace, "default", good).Givers[0].Inserted)
	})
	t.Run("a label keeps everything away", func(t *testing.T) {
		out := namespace
		out.OptOut = pullsecret.OptedOut
		assert.True(t, FactsOf(index.Rules(), out, "default", good).OptedOut)
		out = namespace
		out.Accounts = []plan.Account{{Name: "default", OptOut: pullsecret.OptedOut}}
		assert.True(t, FactsOf(index.Rules(), out, "default", good).OptedOut)
	})
	t.Run("a namespace that is being deleted heals nothing", func(t *testing.T) {
		ending := namespace
		ending.Live = false
		assert.Empty(t, FactsOf(index.Rules(), ending, "default", good).Givers)
	})
	t.Run("an account that is not known lists nothing", func(t *testing.T) {
		facts := FactsOf(index.Rules(), namespace, "another", good)
		assert.Empty(t, facts.Entries)
		assert.Len(t, facts.Givers, 2)
	})
}
