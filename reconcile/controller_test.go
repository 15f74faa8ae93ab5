package reconcile

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// readable returns the ImagePullSecret r as it says at a generation.
func readable(namespaces string, generation int64) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "uid-r", Generation: generation},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces, Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"},
		},
	}
}

// newWatchedRig returns a rig whose index tells the controller what changes.
func newWatchedRig(t *testing.T, answer func(*http.Request) any) *rig {
	r := newRig(t, answer)
	t.Cleanup(r.Index.Observe(func(change pullsecret.Change) { r.ruleChanged(t.Context(), change) }))
	return r
}

func TestWhatARuleNoLongerSelectsIsFoundAlsoWhereItCouldNotBeReadMeanwhile(t *testing.T) {
	begin := func(t *testing.T) *rig {
		r := newWatchedRig(t, func(*http.Request) any {
			return metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound}
		})
		r.Index.Put(readable("x,y,z", 2))
		for _, name := range []string{"x", "y", "z"} {
			r.namespace(name)
		}
		r.state.PutNamespace(plan.NamespaceMeta{Name: "other", UID: "o", Live: true})
		r.drain()
		r.Index.Put(readable("x,x", 3))
		r.drain()
		return r
	}
	t.Run("narrowed while it could not be read", func(t *testing.T) {
		r := begin(t)
		r.Index.Put(readable("x", 4))
		assert.ElementsMatch(t, []string{"x", "y", "z"}, r.drain())
	})
	t.Run("broken before what it no longer selected was removed", func(t *testing.T) {
		r := newWatchedRig(t, func(*http.Request) any {
			return metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound}
		})
		for _, name := range []string{"x", "y", "z"} {
			r.namespace(name)
		}
		r.Index.Put(readable("x,y", 2)) // from "*"
		r.Index.Put(readable("x,x", 3))
		r.drain()
		r.Index.Put(readable("x", 4))
		assert.ElementsMatch(t, []string{"x", "y", "z"}, r.drain())
	})
	t.Run("deleted while it could not be read", func(t *testing.T) {
		r := begin(t)
		r.Index.Remove("r")
		assert.ElementsMatch(t, []string{"x", "y", "z"}, r.drain())
	})
	t.Run("deleted, and it could not be read since this process began", func(t *testing.T) {
		r := newWatchedRig(t, func(*http.Request) any {
			return metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound}
		})
		r.Index.Remove("r")
		r.Index.Put(readable("x,x", 3))
		r.state.PutNamespace(plan.NamespaceMeta{Name: "bare", UID: "3", Live: true})
		r.state.PutNamespace(plan.NamespaceMeta{Name: "x", UID: "1", Live: true})
		r.state.PutSecret("x", plan.Secret{Name: "tcr.ipsr", Version: 3, Managed: true})
		r.state.PutNamespace(plan.NamespaceMeta{Name: "y", UID: "2", Live: true})
		r.state.PutAccount("y", plan.Account{Name: "default", Version: 4, Secrets: []string{"tcr.ipsr"}})
		r.Index.Remove("r")
		assert.ElementsMatch(t, []string{"x", "y"}, r.drain())
	})
}

// recordingWriter remembers whose status may have changed.
type recordingWriter struct {
	statusWriter
	enqueued []string
}

func (w *recordingWriter) Enqueue(imagePullSecrets ...string) {
	w.enqueued = append(w.enqueued, imagePullSecrets...)
}

func TestARefusedRemovalThatPassesIsToldToWhomItConcerned(t *testing.T) {
	r := newWatchedRig(t, func(*http.Request) any {
		return metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "a quota"}
	})
	r.namespace("x")
	r.Index.Put(readable("y", 2))
	r.drain()
	require.NotEmpty(t, r.state.Failures("r"))
	status := &recordingWriter{statusWriter: r.status}
	r.status = status
	r.state.RemoveSecret("x", "tcr.ipsr", 100) // somebody else did it
	r.queue.Add("x")
	r.drain()
	require.Empty(t, r.state.Failures("r"))
	assert.Contains(t, status.enqueued, "r")
}

func TestWhatStandsBehindAForeignEntryIsAskedOnce(t *testing.T) {
	foreign := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipstheirs", Namespace: "a", ResourceVersion: "3"}}
	r := newWatchedRig(t, func(*http.Request) any { return foreign })
	r.namespace("a")
	r.state.PutAccount("a", plan.Account{Name: "default", Version: 5, Secrets: []string{"tcr.ipstheirs", "tcr.ipsr"}})
	for range 5 { // as many resyncs
		r.queue.Add("a")
		r.drain()
	}
	assert.Equal(t, []string{"GET /api/v1/namespaces/a/secrets/tcr.ipstheirs"}, r.requests())

	r.forget("a")
	r.queue.Add("a")
	r.drain()
	assert.Len(t, r.requests(), 1, "in another namespace of that name it may be gone")
}

func TestThoseBornLaterOvertakeThoseThatWereThere(t *testing.T) {
	r := newRig(t, nil)
	for i := range 3 {
		r.state.PutNamespace(plan.NamespaceMeta{Name: fmt.Sprintf("old-%d", i), UID: types.UID(fmt.Sprint(i)), Live: true})
	}
	r.everyoneIsSeen()
	for _, name := range []string{"old-0", "old-1", "old-2", "new"} {
		r.queue.Add(name)
	}
	first, _, _ := r.queue.Get()
	assert.Equal(t, "new", first)
}

func TestSecretsOfOthersWithOurLabelAreNoneOfOurs(t *testing.T) {
	names := []string{"tcr.ipsr", "tcr-assistant-webhook-server-cert", "sh.helm.release.v1.tcr.v1"}
	issuables := slices.DeleteFunc(names, func(name string) bool {
		return !issuable(plan.Namespaced[plan.Secret]{Namespace: "a", Object: plan.Secret{Name: name}})
	})
	assert.Equal(t, "tcr.ipsr", strings.Join(issuables, " "))
}
