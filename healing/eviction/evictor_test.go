package eviction

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// inWorld runs a test in a world, and in a time, of its own.
func inWorld(t *testing.T, answer func(string) (any, error), test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, answer)) })
}

// instead answers the requests that end in a suffix otherwise than kindly.
func instead(suffix string, answer func() (any, error)) func(string) (any, error) {
	return func(request string) (any, error) {
		if strings.HasSuffix(request, suffix) {
			return answer()
		}
		return kindly(request)
	}
}

// job returns a Job that ignores the disruption of a pod, or counts it.
func job(uid types.UID, ignores bool) *batchv1.Job {
	job := &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: "job", UID: uid}}
	if ignores {
		job.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget}},
		}}}
	}
	return job
}

func TestAPodIsEvictedOnceItHasWaited(t *testing.T) {
	inWorld(t, kindly, func(t *testing.T, w *world) {
		w.sees(w.waiting("team", "app-1", replicas))
		w.sweeps(25 * time.Second)
		assert.Zero(t, w.requests("/eviction"))
		w.sweeps(10 * time.Second)
		assert.Equal(t, 1, w.requests("/namespaces/team/pods/app-1/eviction"))
		assert.Equal(t, map[healing.Reason]int{healing.PodOlderThanEntry: 1}, w.evicted)
	})
}

// TestNobodyDecidesAboutPodsOfOthers has a tenant give the controller of somebody else's pods to pods of its own: who may create pods may
// write there what it likes.
func TestNobodyDecidesAboutPodsOfOthers(t *testing.T) {
	const victim = types.UID("victim")
	ofJob := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: victim}
	t.Run("by a Job of its own", func(t *testing.T) {
		answer := func(request string) (any, error) {
			switch {
			case strings.HasSuffix(request, "/namespaces/attacker/jobs/job"):
				return job("another", false), nil
			case strings.HasSuffix(request, "/namespaces/team/jobs/job"):
				return job(victim, true), nil
			}
			return kindly(request)
		}
		inWorld(t, answer, func(t *testing.T, w *world) {
			w.sees(w.waiting("attacker", "pod", ofJob))
			w.sweeps(40 * time.Second)
			w.sees(w.waiting("team", "pod", ofJob))
			w.sweeps(40 * time.Second)
			assert.Zero(t, w.requests("/namespaces/attacker/pods/pod/eviction"))
			assert.Equal(t, 1, w.requests("/namespaces/team/pods/pod/eviction"))
		})
	})
	t.Run("by pods that come late", func(t *testing.T) {
		inWorld(t, kindly, func(t *testing.T, w *world) {
			for i := range 2 {
				w.sees(w.waiting("attacker", fmt.Sprint(i), replicas, func(pod *corev1.Pod) { pod.CreationTimestamp = metav1.Now() }))
				w.sweeps(time.Second)
			}
			w.sees(w.waiting("team", "app-1", replicas))
			w.sweeps(40 * time.Second)
			assert.Equal(t, 1, w.requests("/namespaces/team/pods/app-1/eviction"))
		})
	})
}

func TestAJobOfAnotherGroupIsAControllerLikeAnyOther(t *testing.T) {
	inWorld(t, kindly, func(t *testing.T, w *world) {
		w.sees(w.waiting("team", "pod", metav1.OwnerReference{APIVersion: "batch.volcano.sh/v1alpha1", Kind: "Job", Name: "job", UID: "1"}))
		w.sweeps(40 * time.Second)
		assert.Zero(t, w.requests("/jobs/"))
		assert.Equal(t, 1, w.requests("/eviction"))
	})
}

func TestAJobThatCannotBeReadIsNotAskedForEverySecond(t *testing.T) {
	for name, err := range map[string]error{
		"it is gone":             apierrors.NewNotFound(schema.GroupResource{Group: "batch", Resource: "jobs"}, "job"),
		"it may not be read":     apierrors.NewForbidden(schema.GroupResource{Group: "batch", Resource: "jobs"}, "job", errors.New(`user "x" cannot get it`)),
		"the API server is away": errors.New("connection refused"),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, instead("/jobs/job", func() (any, error) { return nil, err }), func(t *testing.T, w *world) {
				w.sees(w.waiting("team", "pod", metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: "1"}))
				w.sweeps(5 * time.Minute)
				assert.Zero(t, w.requests("/eviction"))
				assert.NotZero(t, w.requests("/jobs/job"))
				assert.LessOrEqual(t, w.requests("/jobs/job"), 8)
				assert.Equal(t, 1, w.Healing("demo").Unhealed, "somebody is told")
			})
		})
	}
}

// TestAPodThatChangesAllTheTimeLeavesRoomForOthers has the API server answer that a pod is another one by now, whenever it is evicted.
func TestAPodThatChangesAllTheTimeLeavesRoomForOthers(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "app-1", errors.New("the resourceVersion differs"))
	inWorld(t, instead("/app-1/eviction", func() (any, error) { return nil, conflict }), func(t *testing.T, w *world) {
		pod := w.waiting("team", "app-1", replicas)
		for i := range 120 {
			pod.ResourceVersion = fmt.Sprint(i + 1)
			w.sees(pod)
			w.sweeps(time.Second)
		}
		assert.NotZero(t, w.requests("/eviction"))
		assert.LessOrEqual(t, w.requests("/eviction"), 6)
		assert.Zero(t, w.Healing("demo").Unhealed, "nobody has to do anything")
	})
}

// evictedByAPI is what the API server writes into a pod before it deletes it.
func evictedByAPI(pod *corev1.Pod) {
	pod.DeletionTimestamp = new(metav1.Now())
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
	})
}

func TestAnEvictionWhoseAnswerIsLostCounts(t *testing.T) {
	for name, lost := range map[string]error{
		"the connection broke":     errors.New("unexpected EOF"),
		"the API server timed out": apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0),
		"it had an error inside":   apierrors.NewInternalError(errors.New("etcdserver: request timed out")),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, instead("/eviction", func() (any, error) { return nil, lost }), func(t *testing.T, w *world) {
				pod := w.waiting("team", "app-1", replicas)
				w.sees(pod)
				w.sweeps(35 * time.Second)
				assert.Equal(t, 1, w.requests("/eviction"))
				assert.Empty(t, w.evicted, "it is not known yet")
				evictedByAPI(pod)
				w.sees(pod)
				assert.Equal(t, map[healing.Reason]int{healing.PodOlderThanEntry: 1}, w.evicted)
				w.remove(healing.Strip(pod))
				assert.Len(t, w.evicted, 1, "once")
			})
		})
	}
	t.Run("once, though it is tried again before the pod is seen to go", func(t *testing.T) {
		var w *world
		var pod *corev1.Pod
		tries := 0
		answer := instead("/eviction", func() (any, error) {
			if tries++; tries == 1 {
				return nil, errors.New("unexpected EOF")
			}
			evictedByAPI(pod)
			w.sees(pod) // before the answer
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "app-1")
		})
		inWorld(t, answer, func(t *testing.T, this *world) {
			w, pod = this, this.waiting("team", "app-1", replicas)
			w.sees(pod)
			w.sweeps(time.Minute)
			assert.Equal(t, 2, tries)
			assert.Equal(t, map[healing.Reason]int{healing.PodOlderThanEntry: 1}, w.evicted)
		})
	})
	t.Run("one that is answered counts once, though the pod is seen to go before", func(t *testing.T) {
		var w *world
		var pod *corev1.Pod
		answer := instead("/eviction", func() (any, error) {
			evictedByAPI(pod)
			w.sees(pod)
			return kindly("/eviction")
		})
		inWorld(t, answer, func(t *testing.T, this *world) {
			w, pod = this, this.waiting("team", "app-1", replicas)
			w.sees(pod)
			w.sweeps(time.Minute)
			assert.Equal(t, map[healing.Reason]int{healing.PodOlderThanEntry: 1}, w.evicted)
		})
	})
	t.Run("one that did not happen does not", func(t *testing.T) {
		inWorld(t, instead("/eviction", func() (any, error) { return nil, errors.New("connection refused") }), func(t *testing.T, w *world) {
			pod := w.waiting("team", "app-1", replicas)
			w.sees(pod)
			w.sweeps(35 * time.Second)
			w.remove(healing.Strip(pod)) // by somebody else
			assert.Empty(t, w.evicted)
		})
	})
	t.Run("neither does that of somebody else", func(t *testing.T) {
		refuses := func() (any, error) {
			return nil, apierrors.NewTooManyRequests("a webhook says so", 1)
		}
		inWorld(t, instead("/eviction", refuses), func(t *testing.T, w *world) {
			pod := w.waiting("team", "app-1", replicas)
			w.sees(pod)
			w.sweeps(35 * time.Second)
			evictedByAPI(pod)
			w.sees(pod)
			assert.Empty(t, w.evicted)
		})
	})
}

// deep has a pod with the entry be seen failing for twenty minutes, and its Secret be written then.
func (w *world) deep() {
	pod := w.waiting("team", "app-1", replicas, func(pod *corev1.Pod) {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "tcr.ipsdemo"}}
	})
	w.sees(pod)
	w.sweeps(20 * time.Minute)
	backs := pod.Status.ContainerStatuses[0].State.Waiting
	pod.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: refused}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Subresource: "status", Time: new(metav1.Now())}}
	w.sees(pod)
	w.sweeps(10 * time.Second)
	pod.Status.ContainerStatuses[0].State.Waiting = backs
	w.sees(pod)
	w.sweeps(10 * time.Second)
	w.written = time.Now()
}

func TestEventsDecideAboutAPodDeepInItsBackoff(t *testing.T) {
	t.Run("one of which they tell nothing else is evicted", func(t *testing.T) {
		inWorld(t, kindly, func(t *testing.T, w *world) {
			w.deep()
			w.sweeps(5 * time.Second)
			assert.Equal(t, 1, w.requests("/eviction"))
		})
	})
	t.Run("one that has failed since stays, though nobody watched", func(t *testing.T) {
		var said []corev1.Event
		tells := func() (any, error) {
			return corev1.EventList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}, Items: said}, nil
		}
		inWorld(t, instead("/events", tells), func(t *testing.T, w *world) {
			w.deep()
			said = []corev1.Event{{
				Reason: "Failed", Message: `Failed to pull image "demo.example.com/app:1": ` + refused,
				FirstTimestamp: metav1.NewTime(time.Now().Add(-time.Minute)), LastTimestamp: metav1.NewTime(time.Now().Add(2 * time.Second)),
			}}
			w.sweeps(10 * time.Minute)
			assert.Zero(t, w.requests("/eviction"))
		})
	})
	for name, err := range map[string]error{
		"the API server is away":  errors.New("connection refused"),
		"they may not be read":    apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", errors.New(`user "x" cannot list them`)),
		"there are too many asks": apierrors.NewTooManyRequests("wait", 1),
	} {
		t.Run("one stays while "+name, func(t *testing.T) {
			away := false
			sometimes := func(request string) (any, error) {
				if away && strings.HasSuffix(request, "/events") {
					return nil, err
				}
				return kindly(request)
			}
			inWorld(t, sometimes, func(t *testing.T, w *world) {
				w.deep()
				away = true
				before := w.requests("/events")
				w.sweeps(5 * time.Minute)
				assert.Zero(t, w.requests("/eviction"))
				assert.NotEqual(t, before, w.requests("/events"))
			})
		})
	}
}

func TestNoMoreIsReadOfEventsThanThereIsRoomFor(t *testing.T) {
	huge := func() (any, error) {
		return corev1.EventList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}, Items: []corev1.Event{{
			Reason: "Failed", Message: `Failed to pull image "demo.example.com/app:1": ` + refused + strings.Repeat("a", maxEventBytes),
		}}}, nil
	}
	inWorld(t, instead("/events", huge), func(t *testing.T, w *world) {
		w.sees(w.waiting("team", "app-1", replicas, func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].State.Waiting.Message = "" }))
		w.sweeps(time.Minute)
		assert.NotZero(t, w.requests("/events"))
		assert.Zero(t, w.requests("/eviction"))
		assert.Contains(t, w.log.String(), "the answer is larger than what is read of it")
	})
}

// TestNoTenantKeepsOthersWaiting has one namespace hold thousands of pods that nothing is to be told of, or that all want to be evicted.
func TestNoTenantKeepsOthersWaiting(t *testing.T) {
	const crowd = 1500
	for name, change := range map[string]func(*corev1.Pod){
		"pods that say nothing": func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].State.Waiting.Message = "" },
		"pods that may go":      func(*corev1.Pod) {},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, kindly, func(t *testing.T, w *world) {
				for i := range crowd {
					w.sees(w.waiting("crowd", fmt.Sprint(i), replicas, change))
				}
				w.sweeps(2 * time.Minute)
				w.sees(w.waiting("team", "app-1", replicas))
				w.sweeps(50 * time.Second)
				assert.Equal(t, 1, w.requests("/namespaces/team/pods/app-1/eviction"))
			})
		})
	}
}

func TestEventsThatTellNothingAreReadLessAndLessOften(t *testing.T) {
	inWorld(t, kindly, func(t *testing.T, w *world) {
		w.sees(w.waiting("team", "app-1", replicas, func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].State.Waiting.Message = "" }))
		w.sweeps(time.Hour)
		assert.GreaterOrEqual(t, w.requests("/events"), 10)
		assert.LessOrEqual(t, w.requests("/events"), 16)
	})
}

// TestLookingAtPodsTakesASmallPartOfTheTime has it take a second to look at a namespace.
func TestLookingAtPodsTakesASmallPartOfTheTime(t *testing.T) {
	inWorld(t, kindly, func(t *testing.T, w *world) {
		for i := range 100 {
			w.sees(w.waiting("team", fmt.Sprint(i), replicas, func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = fmt.Sprint(i) }))
		}
		view := w.View
		w.View = func(name string) (plan.Namespace, bool) {
			time.Sleep(time.Second)
			return view(name)
		}
		began := time.Now()
		wait := w.sweep(t.Context())
		assert.Equal(t, share*time.Second, wait+time.Since(began), "of a hundred accounts the namespace is looked at once")
	})
}
