package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

func TestSteadyClusterIsSilentAndANamespaceCostsOneWrite(t *testing.T) {
	t.Parallel()
	const total, quiet = 200, 30 * time.Second
	w := newWorld(t)
	w.run()
	w.Create("quiet")
	w.Holds("default", "quiet")
	w.converged("quiet")
	w.attaches("quiet")

	before := len(w.writes())
	for i := range total {
		w.Namespace(fmt.Sprintf("quiet-%03d", i))
	}
	for i := range total {
		w.Holds(fmt.Sprintf("quiet-%03d", i), "quiet")
	}
	w.converged("quiet")

	t.Run("a new namespace costs one write, the secret", func(t *testing.T) {
		writes := map[string]int{}
		for _, write := range w.writes()[before:] {
			writes[write.Verb+" "+write.Resource]++
		}
		delete(writes, "patch imagepullsecrets") // the status: once a second at most, whatever the number of namespaces
		assert.Equal(t, map[string]int{"create secrets": total}, writes)
	})
	t.Run("a service account costs none", func(t *testing.T) {
		before := len(w.writes())
		for i := range 20 {
			w.account(fmt.Sprintf("quiet-%03d", i), "builder")
		}
		w.converged("quiet")
		for _, write := range w.writes()[before:] {
			assert.Equal(t, "imagepullsecrets/status", write.Resource+"/"+write.Subresource, "%s %s", write.Verb, write.URI)
		}
	})
	t.Run("no event tells of a namespace", func(t *testing.T) {
		events, err := w.Client.CoreV1().Events("").List(w.Ctx, metav1.ListOptions{})
		require.NoError(t, err)
		for _, event := range events.Items {
			assert.NotContains(t, event.InvolvedObject.Namespace, "quiet-", "%s: %s", event.Reason, event.Message)
			assert.NotContains(t, event.Message, "quiet-", "%s on %s", event.Reason, event.InvolvedObject.Name)
		}
	})
	t.Run("then the manager asks the API server for nothing but its lease", func(t *testing.T) {
		w.checked("quiet")
		w.converged("quiet")
		time.Sleep(6 * time.Second) // an event waits up to five seconds for more to tell of
		began := time.Now()
		time.Sleep(quiet)
		var renewals int
		requests, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User && r.Received.After(began) })
		require.NoError(t, err)
		for _, request := range requests {
			if request.Resource == "leases" && request.Verb == "update" {
				renewals++
				continue
			}
			// An API server ends a watch after some minutes, and it is then taken up again.
			assert.Equal(t, "watch", request.Verb, "%s %s", request.Verb, request.URI)
		}
		assert.Positive(t, renewals, "the audit log shows what the manager does")
		t.Logf("%d lease renewals in %s", renewals, quiet)
	})
}

// checked waits until somebody has logged in with the credential of an ImagePullSecret, or tried to: an hour may go by until the next time,
// and a few minutes where nothing came of it.
func (w *world) checked(name string) {
	w.T.Helper()
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		if status.Credential == nil || status.Credential.CheckedAt == nil {
			return fmt.Errorf("its credential is %v", status.Credential)
		}
		return nil
	})
}

// failsWith waits until the status of an ImagePullSecret reports a failure for that reason.
func (w *world) failsWith(name, reason string) {
	w.T.Helper()
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		for _, failure := range status.Failures {
			if failure.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("it reports %v", status.Failures)
	})
}

// converged waits until an ImagePullSecret is ready and its status has not changed for longer than it may be held back.
func (w *world) converged(name string) {
	w.T.Helper()
	var last string
	var since time.Time
	w.Eventually("the status has converged", func() error {
		object, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if object.ResourceVersion != last {
			last, since = object.ResourceVersion, time.Now()
		}
		if !ready(object.Status) {
			return fmt.Errorf("its conditions are %v", object.Status.Conditions)
		}
		if time.Since(since) < 2*time.Second {
			return fmt.Errorf("it has just changed")
		}
		return nil
	})
}

func ready(status v1.ImagePullSecretStatus) bool {
	for _, condition := range status.Conditions {
		if condition.Type == v1.ConditionReady {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}
