package eviction

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestNoPodGoesInCircles has a controller's pods be refused whatever stands, and whatever becomes of the answers.
func TestNoPodGoesInCircles(t *testing.T) {
	for name, answer := range map[string]func(string) (any, error){
		"each eviction is answered": kindly,
		"no answer arrives":         instead("/eviction", func() (any, error) { return nil, errors.New("unexpected EOF") }),
		"it is answered that the API server had an error": instead("/eviction", func() (any, error) {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusGatewayTimeout, Reason: metav1.StatusReasonTimeout}}
		}),
	} {
		for skew, clock := range map[string]time.Duration{"": 0, ", and the clock of the API server is slow": -time.Hour / 2, ", and it is fast": time.Hour / 2} {
			t.Run(name+skew, func(t *testing.T) {
				inWorld(t, answer, func(t *testing.T, w *world) {
					pod, evictions, heirs := w.waiting("team", "app-0", replicas), 0, 0
					w.sees(pod)
					for range 3 * 60 { // minutes
						w.sweeps(time.Minute)
						if now := w.requests("/eviction"); now > evictions {
							evictions = now
							evictedByAPI(pod)
							w.sees(pod)
							heirs++
							pod = w.waiting("team", fmt.Sprintf("app-%d", heirs), replicas, func(pod *corev1.Pod) {
								pod.CreationTimestamp = metav1.NewTime(time.Now().Add(clock))
							})
							w.sees(pod)
						}
					}
					assert.Equal(t, 2, heirs, "the first one, and the first of those that came after all stood")
				})
			})
		}
	}
}

func TestAfterALeaderChangeNoPodGoesInCircles(t *testing.T) {
	inWorld(t, kindly, func(t *testing.T, w *world) {
		pod := w.waiting("team", "app-1", replicas, func(pod *corev1.Pod) { pod.CreationTimestamp = metav1.Now() })
		for range 10 {
			another := New(w.Config)
			w.Evictor = another
			w.sees(pod)
			w.sweeps(9 * time.Minute)
		}
		assert.Zero(t, w.requests("/eviction"), "who takes over does not know what was evicted before")
	})
}
