package eviction

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// world is an Evictor that talks to whatever a test has answer it. Its ImagePullSecret "demo" heals all pods: every account has had its
// entry, and every namespace its Secret, for an hour when the world begins.
type world struct {
	*Evictor
	t       *testing.T
	began   time.Time
	written time.Time // the Secret was, last
	log     bytes.Buffer
	evicted map[healing.Reason]int

	mu     sync.Mutex
	asked  []string
	answer func(request string) (any, error)
}

// refused is what kubelets say of a pull without a credential.
const refused = `failed to pull and unpack image "demo.example.com/app:1": pull access denied: authorization failed: no basic auth credentials`

func newWorld(t *testing.T, answer func(request string) (any, error)) *world {
	t.Helper()
	w := &world{t: t, began: time.Now(), written: time.Now().Add(-time.Hour), evicted: map[healing.Reason]int{}, answer: answer}
	clients, err := clientset.New(&rest.Config{Host: "http://api"}, &http.Client{Transport: w})
	require.NoError(t, err)
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "demo"}, Spec: v1.ImagePullSecretSpec{
		Healing: v1.HealingEvict, Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "demo.example.com"},
	}})
	w.Evictor = New(Config{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Clients: clients, Index: index, View: w.view,
		Observer: Observer{Evicted: func(reason healing.Reason) { w.evicted[reason]++ }},
	})
	return w
}

// view has everything stand since an hour before the world began.
func (w *world) view(name string) (plan.Namespace, bool) {
	rule, stands := w.Index.Rules().Get("demo"), w.began.Add(-time.Hour).Unix()
	return plan.Namespace{Name: name, Live: true, Accounts: []plan.Account{{Name: "default", Secrets: []string{rule.Secret}, Updated: stands}}}.
		With(plan.Secret{Name: rule.Secret, Docker: true, Managed: true, Owners: []types.UID{rule.UID}, Sum: rule.Sum, Updated: w.written.Unix()}), true
}

// RoundTrip answers a request as the test says: with an object, with a status where that is the error, and not at all where it is another.
func (w *world) RoundTrip(request *http.Request) (*http.Response, error) {
	said := request.Method + " " + request.URL.Path
	w.mu.Lock()
	w.asked = append(w.asked, said)
	w.mu.Unlock()
	object, err := w.answer(said)
	code := http.StatusOK
	if status, is := err.(apierrors.APIStatus); is {
		refusal := status.Status()
		refusal.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		object, code, err = refusal, int(refusal.Code), nil
	}
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(object)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: request}, err
}

// requests returns how many requests there were that hold a text.
func (w *world) requests(holding string) (number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, said := range w.asked {
		if strings.Contains(said, holding) {
			number++
		}
	}
	return number
}

// sweeps has the Evictor look at its pods every second for a time.
func (w *world) sweeps(during time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(period) {
		w.sweep(w.t.Context())
	}
}

// waiting returns a pod of a controller that is two hours old, lacks the entry, and has been refused its image.
func (w *world) waiting(namespace, name string, owner metav1.OwnerReference, changes ...func(*corev1.Pod)) *corev1.Pod {
	owner.Controller = new(true)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + "/" + name), ResourceVersion: "1", OwnerReferences: []metav1.OwnerReference{owner},
			CreationTimestamp: metav1.NewTime(w.began.Add(-2 * time.Hour)),
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "demo.example.com/app:1"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "demo.example.com/app:1": ErrImagePull: ` + refused},
		}}}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// sees has the Evictor hear of a pod.
func (w *world) sees(pod *corev1.Pod) { w.put(healing.Strip(pod)) }

var replicas = metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "app", UID: "replicas"}

// kindly answers every request as an API server does that has no events, and only Jobs that do not count an eviction.
func kindly(request string) (any, error) {
	switch {
	case strings.HasSuffix(request, "/eviction"):
		return metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}, nil
	case strings.HasSuffix(request, "/events"):
		return corev1.EventList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}}, nil
	}
	return nil, fmt.Errorf("%s is not expected", request)
}
