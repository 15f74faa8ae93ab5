package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// rig is a controller before an API server that answers as a test wants it to.
type rig struct {
	*Controller
	t   *testing.T
	log *bytes.Buffer

	mu     sync.Mutex
	asked  []string // "VERB path"
	answer func(r *http.Request) any
	plain  int // a code to answer with and nothing else, where set
}

// newRig returns a controller that knows of an ImagePullSecret r, whose watches have been delivered, and of no namespace.
func newRig(t *testing.T, answer func(r *http.Request) any) *rig {
	t.Helper()
	r := &rig{t: t, log: &bytes.Buffer{}, answer: answer}
	server := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	clients, err := clientset.New(config, server.Client())
	require.NoError(t, err)
	objects, err := typed.NewClient(config, server.Client())
	require.NoError(t, err)
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "uid-r", Generation: 1},
		Spec:       v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"}},
	})
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	r.Controller = NewController(Config{
		Log: log, Clients: clients, ImagePullSecrets: objects, Index: index, Concurrency: 1, ResyncPeriod: time.Hour,
		Informer: informer.New(log, objects, index),
	})
	t.Cleanup(func() { r.queue.ShutDown(); r.status.Stop() })
	r.state.ReplaceSecrets("tcr.ipsr", nil, latest.Relist{Version: 1})
	return r
}

// serve answers in JSON, with the code of a metav1.Status where the answer is one.
func (r *rig) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, request.Method+" "+request.URL.Path)
	answer := r.answer
	r.mu.Unlock()
	if r.plain != 0 {
		http.Error(w, "no such page", r.plain)
		return
	}
	object := answer(request)
	w.Header().Set("Content-Type", "application/json")
	if status, ok := object.(metav1.Status); ok {
		status.TypeMeta, status.Status = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, metav1.StatusFailure
		w.WriteHeader(int(status.Code))
		object = status
	}
	_ = json.NewEncoder(w).Encode(object)
}

// requests counts what was asked of the API server since the last call.
func (r *rig) requests() (asked []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, r.asked = r.asked, nil
	return asked
}

// answers changes how the API server answers.
func (r *rig) answers(answer func(*http.Request) any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// namespace adds a live namespace that holds a good Secret, with accounts that lack their entry.
func (r *rig) namespace(name string, accounts ...string) {
	r.state.PutNamespace(plan.NamespaceMeta{Name: name, UID: "uid", Live: true})
	r.state.PutSecret(name, r.secret())
	for _, account := range accounts {
		r.state.PutAccount(name, plan.Account{Name: account, Version: 5})
	}
}

// drain handles what the queue holds now, and returns it.
func (r *rig) drain() (handled []string) {
	for r.queue.Len() > 0 {
		namespace, part, _ := r.queue.Get()
		r.Controller.handle(r.t.Context(), namespace, part)
		r.queue.Done(namespace)
		handled = append(handled, namespace)
	}
	return handled
}

// handle handles all of a namespace.
func (r *rig) handle(ctx context.Context, namespace string) {
	r.Controller.handle(ctx, namespace, plan.Whole())
}

// account names an account of the namespace team.
func account(name string) plan.ObjectKey {
	return plan.ObjectKey{Namespace: "team", Account: true, Name: name}
}

// secret returns the Secret of r as it should be.
func (r *rig) secret() plan.Secret {
	secret := plan.StripSecret(r.Index.Rules().Get("r").NewSecret()).Object
	secret.Version = 7
	return secret
}

func (r *rig) problems(namespace string) []plan.Problem {
	return r.state.Problems(namespace)
}

// lines returns what was logged at level warning.
func (r *rig) lines() (lines []string) {
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, "level=WARN") {
			lines = append(lines, line)
		}
	}
	return lines
}

// attached answers a PATCH of a ServiceAccount as the API server does where all goes well.
func attached(r *http.Request) any {
	parts := strings.Split(r.URL.Path, "/")
	return &corev1.ServiceAccount{
		TypeMeta:         metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta:       metav1.ObjectMeta{Namespace: parts[4], Name: parts[6], ResourceVersion: "50"},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "tcr.ipsr"}},
	}
}

// issued answers a POST or an apply of a Secret as the API server does where all goes well.
func (r *rig) issued(request *http.Request) *corev1.Secret {
	secret := r.Index.Rules().Get("r").NewSecret()
	secret.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	secret.Namespace, secret.ResourceVersion = strings.Split(request.URL.Path, "/")[4], "50"
	return secret
}

// answerWith is how the API server says what went wrong.
func answerWith(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{Code: code, Reason: reason, Message: message}
}

// unauthorized is how RBAC refuses.
func unauthorized(verb, resource, namespace string) metav1.Status {
	return answerWith(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf(
		`%s "x" is forbidden: User "system:serviceaccount:a:b" cannot %s resource "%s" in API group "" in the namespace "%s"`, resource, verb, resource, namespace))
}

func denyAccounts(r *http.Request) any {
	return unauthorized("patch", "serviceaccounts", strings.Split(r.URL.Path, "/")[4])
}
