package eviction

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// crowd are pods that all wait for an image, ten of each ReplicaSet, as a watch tells of them: each string is a copy of its own.
func crowd(number int) []*corev1.Pod {
	pods := make([]*corev1.Pod, number)
	for i := range pods {
		team, app := fmt.Sprintf("team-%03d", i/100), fmt.Sprintf("some-application-of-a-team-%04d-6d4cf56db6", i/10)
		image := fmt.Sprintf("demo.tencentcloudcr.com/team-%03d/application-%04d:v1.2.3", i/100, i/10)
		pods[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: team, Name: fmt.Sprintf("%s-%05d", app, i), UID: uuid.NewUUID(), ResourceVersion: fmt.Sprint(100000000 + i),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app, UID: types.UID(app), Controller: new(true)}},
			},
			Spec: corev1.PodSpec{
				ServiceAccountName: "default", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "tcr.ipsdemo"}, {Name: "theirs"}},
				Containers: []corev1.Container{{Name: "application", Image: image}},
			},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "application", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off pulling image " + fmt.Sprintf("%q", image) +
					": ErrImagePull: failed to pull and unpack image: pull access denied: authorization failed: no basic auth credentials"},
			}}}},
		}
	}
	return pods
}

func heap() uint64 {
	var stats runtime.MemStats
	for range 3 { // what is interned is let go of by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestTenThousandPodsTakeLittle holds what is kept of pods to 10 MiB for 10,000 that all wait.
func TestTenThousandPodsTakeLittle(t *testing.T) {
	const number, most = 10000, 10 << 20
	evictor := New(Config{Log: slog.New(slog.DiscardHandler), Index: pullsecret.NewIndex()})
	before := heap()
	func() {
		pods := crowd(number)
		stripped := make([]healing.Pod, len(pods))
		for i, pod := range pods {
			stripped[i] = healing.Strip(pod)
		}
		evictor.replace(stripped, latest.Relist{})
		for _, patient := range evictor.pods { // as it is once their events have been read
			event := corev1.Event{Reason: "Failed", Message: fmt.Sprintf("Failed to pull image %q: unauthorized", patient.pod.Waits[0].Image), LastTimestamp: metav1.Now()}
			patient.seen = patient.seen.Told(patient.pod, []corev1.Event{event}, 1, time.Now())
		}
	}()
	require.Len(t, evictor.pods, number)
	took := int64(heap()) - int64(before)
	t.Logf("%d pods take %.1f MiB", number, float64(took)/(1<<20))
	assert.Less(t, took, int64(most))

	evictor.forget()
	assert.Less(t, int64(heap())-int64(before), int64(most/10), "what is not watched takes nothing")
}
