package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

func TestAtMostFivePodsAreEvictedInASecond(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.Namespace("team")
	const number = 30
	pods := w.deployment("team", "app", ours, number)
	w.fail(authorizationFailed, waited, 5, pods...)
	first := w.run()
	w.StartManager(manager.Options{Binary: binary})
	w.Create("demo", evicting)
	w.Eventually("the first replica evicts", func() error {
		if len(w.evictions()) < number/3 {
			return errors.New("it does not yet")
		}
		return nil
	})
	require.NoError(t, first.Kill()) // and the second one goes on
	w.healed(pods...)
	var evictions []cluster.Request
	w.Eventually("every answer is in the audit log, which is written after a pod is gone", func() error {
		if evictions = w.evictions(); len(evictions) < number {
			return fmt.Errorf("there are %d", len(evictions))
		}
		return nil
	})
	slices.SortFunc(evictions, func(a, b cluster.Request) int { return a.Received.Compare(b.Received) })
	evicted := 0
	for i, eviction := range evictions {
		if eviction.Code == 201 {
			evicted++
		}
		if i >= 6 { // so many in a second would be more than what a bucket of one and five a second let through
			assert.Greater(t, eviction.Received.Sub(evictions[i-6].Received), time.Second)
		}
	}
	assert.Equal(t, number, evicted)
}

// status429 is the answer of a webhook that has the API server say that there are too many requests.
func status429() *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusTooManyRequests, Message: "hush",
		Reason: metav1.StatusReasonTooManyRequests}}
}

func TestWhatTheAPIServerDoesNotLetGoIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.Namespace("team")
	pods := w.deployment("team", "app", ours, 1)
	w.fail(authorizationFailed, waited, 5, pods...)
	seen := make(chan policyv1.Eviction, 100)
	stop := w.intruder("team", "pods/eviction", func(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var eviction policyv1.Eviction
		_ = json.Unmarshal(request.Object.Raw, &eviction)
		seen <- eviction
		return status429()
	})
	m := w.run()
	w.Create("demo", evicting)
	status := w.unhealed("demo", "team/"+pods[0].Name+" Blocked")
	of := (<-seen).DeleteOptions.Preconditions
	now, err := w.Client.CoreV1().Pods("team").Get(w.Ctx, pods[0].Name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, &metav1.Preconditions{UID: &now.UID, ResourceVersion: &now.ResourceVersion}, of,
		"no other pod, and none that has changed since")
	assert.NotContains(t, fmt.Sprint(status), "hush")
	w.Eventually("it is tried again", func() error {
		if len(w.evictions()) < 2 {
			return errors.New("it was tried once")
		}
		return nil
	})
	tries := w.evictions()
	assert.GreaterOrEqual(t, tries[1].Received.Sub(tries[0].Received), 10*time.Second)
	w.untouched(pods...)
	stop()
	w.healed(pods...)
	text, err := m.Get(w.Ctx, "/metrics")
	require.NoError(t, err)
	assert.Contains(t, text, `tcr_assistant_pods_evicted_total{reason="PodOlderThanEntry"} 1`)
}

// TestPodsAreHealedAfterTheAPIServerWasAway has the watch of pods end, and pods become others while nobody watches.
func TestPodsAreHealedAfterTheAPIServerWasAway(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.refusals = true // for a moment, an API server that has just started knows of no roles
	w.Namespace("team")
	gone, kept := w.deployment("team", "gone", ours, 1), w.deployment("team", "kept", ours, 1)
	w.run()
	w.Create("demo", evicting)
	w.Lists("team", "default", "tcr.ipsdemo")
	w.Holds("team", "demo")
	require.NoError(t, w.StopAPIServer())
	require.NoError(t, w.StartAPIServer(w.Ctx))
	w.fail(authorizationFailed, waited, 5, slices.Concat(gone, kept)...)
	w.Kubectl("delete", "deployment", "gone", "-n", "team")
	w.healed(kept...)
	for _, eviction := range w.evictions() {
		assert.Contains(t, []int{http.StatusCreated, http.StatusNotFound, http.StatusConflict}, eviction.Code, eviction.URI)
	}
}

// TestTheAPIServerTellsWhichPodsItEvicts holds what an eviction is known by whose answer was lost: on a node, where a kubelet ends the
// pod first, and on none.
func TestTheAPIServerTellsWhichPodsItEvicts(t *testing.T) {
	t.Parallel()
	w := newHealingWorld(t, true)
	w.Namespace("team")
	for name, node := range map[string]string{"scheduled": "node-1", "unscheduled": ""} {
		spec := template(ours, nil).Spec
		spec.NodeName = node
		pods := w.Client.CoreV1().Pods("team")
		_, err := pods.Create(w.Ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		require.NoError(t, err)
		made, err := pods.Get(w.Ctx, name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.False(t, healing.Strip(made).Evicted)
		watched, err := pods.Watch(w.Ctx, metav1.ListOptions{
			FieldSelector: "status.phase=Pending,metadata.name=" + name, ResourceVersion: made.ResourceVersion,
		})
		require.NoError(t, err)
		require.NoError(t, pods.EvictV1(w.Ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Name: name, Namespace: "team"},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &made.UID, ResourceVersion: &made.ResourceVersion}},
		}))
		for event := range watched.ResultChan() {
			if pod, is := event.Object.(*corev1.Pod); is && (pod.DeletionTimestamp != nil || event.Type == watch.Deleted) {
				assert.True(t, healing.Strip(pod).Evicted, name)
				break
			}
		}
		watched.Stop()
	}
}
