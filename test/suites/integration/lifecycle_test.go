package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

func TestWhatWasThereBeforeTheManagerGetsItToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 20 {
		w.Namespace(fmt.Sprintf("old-%02d", i))
	}
	w.account("old-00", "builder", "theirs")
	w.Create("late")
	w.run()
	for i := range 20 {
		name := fmt.Sprintf("old-%02d", i)
		w.Holds(name, "late")
		w.Lists(name, "default", "tcr.ipslate")
	}
	w.Lists("old-00", "builder", "theirs", "tcr.ipslate")
}

func TestEditingTheCredentialReissuesInPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	for i := range 5 {
		w.Namespace(fmt.Sprintf("team-%d", i))
	}
	w.Create("edited")
	before := map[string]*corev1.Secret{}
	accounts := map[string]string{}
	for i := range 5 {
		name := fmt.Sprintf("team-%d", i)
		before[name] = w.Holds(name, "edited")
		w.Lists(name, "default", "tcr.ipsedited")
		account, err := w.Client.CoreV1().ServiceAccounts(name).Get(w.Ctx, "default", metav1.GetOptions{})
		require.NoError(t, err)
		accounts[name] = account.ResourceVersion
	}
	watcher, err := w.Client.CoreV1().Secrets("").Watch(w.Ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=tcr.ipsedited", ResourceVersion: before["team-4"].ResourceVersion,
	})
	require.NoError(t, err)
	defer watcher.Stop()

	for what, edit := range map[string]func(*v1.ImagePullSecretSpec){
		"password": func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = "rotated" },
		"username": func(spec *v1.ImagePullSecretSpec) { spec.Docker.Username = "another" },
		"server":   func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = "moved.example.com:5000" },
	} {
		w.edit("edited", edit)
		for i := range 5 {
			name := fmt.Sprintf("team-%d", i)
			after := w.Holds(name, "edited")
			assert.Equal(t, before[name].UID, after.UID, "a new %s keeps the same object", what)
			account, err := w.Client.CoreV1().ServiceAccounts(name).Get(w.Ctx, "default", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, accounts[name], account.ResourceVersion, "a new %s touches no service account", what)
		}
	}
	watcher.Stop()
	for event := range watcher.ResultChan() {
		assert.NotEqual(t, watch.Deleted, event.Type, "there is no moment without the secret")
	}
}

func TestNarrowing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	for _, name := range []string{"a", "b", "c"} {
		w.Namespace(name)
		_, err := w.Client.CoreV1().Secrets(name).Create(w.Ctx, foreignSecret("tcr.ipsnobody"), metav1.CreateOptions{})
		require.NoError(t, err)
		w.account(name, "builder", "theirs", "tcr.ipsnobody")
	}
	w.Create("wide")
	w.Create("other", suite.InNamespaces("b"))
	for _, name := range []string{"a", "b", "c"} {
		w.Holds(name, "wide")
	}
	w.Lists("a", "builder", "theirs", "tcr.ipsnobody", "tcr.ipswide")
	w.Lists("b", "builder", "theirs", "tcr.ipsnobody", "tcr.ipswide", "tcr.ipsother")

	t.Run("namespaces lose what no longer matches, and only that", func(t *testing.T) {
		w.edit("wide", suite.InNamespaces("a, c"))
		w.Lacks("b", "wide")
		w.Lists("b", "builder", "theirs", "tcr.ipsnobody", "tcr.ipsother")
		w.Lists("b", "default", "tcr.ipsother")
		w.Holds("b", "other")
		w.Holds("a", "wide")
		w.Lists("a", "builder", "theirs", "tcr.ipsnobody", "tcr.ipswide")
		w.Status("wide", counts(2, 2, 4, 4))
	})
	t.Run("service accounts lose what no longer matches, and the secret stays", func(t *testing.T) {
		w.edit("wide", serviceAccounts("builder"))
		w.Lists("a", "default")
		w.Lists("a", "builder", "theirs", "tcr.ipsnobody", "tcr.ipswide")
		w.Holds("a", "wide")
		w.Status("wide", counts(2, 2, 2, 2))
	})
	t.Run("widening brings it back", func(t *testing.T) {
		w.edit("wide", suite.InNamespaces(""), serviceAccounts(""))
		w.Holds("b", "wide")
		w.Lists("b", "default", "tcr.ipsother", "tcr.ipswide")
	})
	t.Run("an entry whose secret is not ours is never removed, one that names nothing is", func(t *testing.T) {
		w.Lists("c", "builder", "theirs", "tcr.ipsnobody", "tcr.ipswide")
		w.account("c", "stray", "tcr.ipsstray")
		w.Lists("c", "stray", "tcr.ipswide")
	})
}

func TestDeletingTheObjectRemovesEverything(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]metav1.DeletionPropagation{
		"in the background": metav1.DeletePropagationBackground,
		"in the foreground": metav1.DeletePropagationForeground,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run()
			w.Namespace("a")
			w.account("a", "builder", "theirs")
			w.Create("gone")
			w.Holds("a", "gone")
			w.Lists("a", "builder", "theirs", "tcr.ipsgone")
			require.NoError(t, w.IPS.Delete(w.Ctx, "gone", metav1.DeleteOptions{PropagationPolicy: &options}))
			w.nothingLeftOf("gone")
			w.Lists("a", "builder", "theirs")

			w.Create("gone", password("second life"))
			w.Holds("a", "gone")
			w.Lists("a", "builder", "theirs", "tcr.ipsgone")
		})
	}
	t.Run("while the manager is down, once it is back", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		m := w.run()
		w.Namespace("a")
		w.account("a", "builder", "theirs")
		w.Create("gone")
		w.Holds("a", "gone")
		w.Lists("a", "builder", "theirs", "tcr.ipsgone")
		require.NoError(t, m.Stop())
		require.NoError(t, w.IPS.Delete(w.Ctx, "gone", metav1.DeleteOptions{}))
		w.Lacks("a", "gone") // the cluster's own garbage collector removes the copies
		assert.Equal(t, []string{"theirs", "tcr.ipsgone"}, w.Entries("a", "builder"))
		w.run()
		w.nothingLeftOf("gone")
		w.Lists("a", "builder", "theirs")
	})
}

// nothingLeftOf waits until no Secret and no entry of an ImagePullSecret is left, and no object of it either.
func (w *world) nothingLeftOf(name string) {
	w.T.Helper()
	w.Eventually("nothing of it is left", func() error {
		if _, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("the object is still there")
		}
		secrets, err := w.Client.CoreV1().Secrets("").List(w.Ctx, metav1.ListOptions{FieldSelector: "metadata.name=tcr.ips" + name})
		if err != nil {
			return err
		}
		accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, account := range accounts.Items {
			for _, entry := range account.ImagePullSecrets {
				if entry.Name == "tcr.ips"+name {
					return fmt.Errorf("%s/%s still lists it", account.Namespace, account.Name)
				}
			}
		}
		if len(secrets.Items) > 0 {
			return fmt.Errorf("%d secrets are left", len(secrets.Items))
		}
		return nil
	})
}

func TestTerminatingNamespacesCauseNeitherErrorsNorWrites(t *testing.T) {
	w := newWorld(t)
	m := w.run()
	w.Create("live")
	for i := range 10 {
		w.Namespace(fmt.Sprintf("ending-%d", i))
	}
	w.Namespace("held")
	_, err := w.Client.CoreV1().ConfigMaps("held").Create(w.Ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "holds", Finalizers: []string{"example.com/hold"}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for i := range 10 {
		w.Holds(fmt.Sprintf("ending-%d", i), "live")
	}
	w.Holds("held", "live")
	before := len(w.writes())
	for i := range 10 {
		require.NoError(t, w.Client.CoreV1().Namespaces().Delete(w.Ctx, fmt.Sprintf("ending-%d", i), metav1.DeleteOptions{}))
	}
	require.NoError(t, w.Client.CoreV1().Namespaces().Delete(w.Ctx, "held", metav1.DeleteOptions{}))
	w.Eventually("the namespaces are gone but for the one that is held", func() error {
		left, err := w.Client.CoreV1().Namespaces().List(w.Ctx, metav1.ListOptions{})
		if err == nil && len(left.Items) != 6 {
			err = fmt.Errorf("%d are left", len(left.Items))
		}
		return err
	})
	w.Lacks("held", "live")
	w.Status("live", func(status v1.ImagePullSecretStatus) error {
		if len(status.Failures) > 0 {
			return fmt.Errorf("it reports %v", status.Failures)
		}
		return counts(5, 5, status.SAsSuccess, status.SAsSuccess)(status)
	})
	for _, write := range w.writes()[before:] {
		assert.Contains(t, []string{"imagepullsecrets", "derivedattachments"}, write.Resource,
			"a namespace that is ending is not written to: %s %s", write.Verb, write.URI)
	}
	assert.NotContains(t, m.Log(), "level=ERROR")
	assert.NotContains(t, m.Log(), "level=WARN")
}

// writes returns the manager's own requests that change something besides its Lease, refused ones too.
func (w *world) writes() []cluster.Request {
	w.T.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool {
		// Events come later, many in one.
		return r.User == manager.User && r.Resource != "leases" && r.Resource != "events" && r.Verb != "get" && r.Verb != "list" &&
			r.Verb != "watch"
	})
	require.NoError(w.T, err)
	return requests
}

func TestTwoObjectsSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("a")
	w.Create("one")
	w.Create("two", serviceAccounts("default"))
	w.Holds("a", "one")
	w.Holds("a", "two")
	w.Lists("a", "default", "tcr.ipsone", "tcr.ipstwo")
	w.account("a", "builder")
	w.Lists("a", "builder", "tcr.ipsone")
}

// TestOneThatDoesNotParse lets duplicates past the webhook, which alone refuses them, by deleting its configuration while
// no manager runs.
func TestOneThatDoesNotParseStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.Namespace("a")
	w.Create("good")
	w.Create("spoiled", suite.InNamespaces("a"))
	w.Holds("a", "spoiled")
	w.Lists("a", "default", "tcr.ipsgood", "tcr.ipsspoiled")
	require.NoError(t, m.Stop())
	w.Kubectl("delete", "validatingwebhookconfigurations", "--all")
	w.edit("spoiled", suite.InNamespaces("b,b"), password("never issued"))
	w.run()
	w.Namespace("b")
	w.Holds("b", "good")
	w.Lists("b", "default", "tcr.ipsgood")
	status := w.Status("spoiled", func(status v1.ImagePullSecretStatus) error {
		if len(status.Conditions) == 0 || status.Conditions[0].Reason != "InvalidSpec" {
			return fmt.Errorf("its conditions are %v", status.Conditions)
		}
		return nil
	})
	assert.Contains(t, status.Conditions[0].Message, `spec.namespaces: Duplicate value: "b"`)
	assert.Equal(t, []string{"tcr.ipsgood", "tcr.ipsspoiled"}, w.Entries("a", "default"), "what was issued before stays as it is")
	w.edit("spoiled", suite.InNamespaces("b"), password("issued"))
	w.Holds("b", "spoiled")
	w.Lacks("a", "spoiled")
	w.Lists("a", "default", "tcr.ipsgood")
}
