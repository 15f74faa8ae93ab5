// Package suite is what the suites of tests have in common: a control plane with clients of it, managers that end with the
// test, and the few things that are said of Secrets and ServiceAccounts again and again.
package suite

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// World is a control plane that a test acts on. A suite embeds it in a world of its own, with what is particular to the
// suite. Its methods fail the test where they cannot do what they say.
type World struct {
	*cluster.Cluster

	// T is the running part of the test. A suite whose parts build on one another sets it as each of them begins.
	T *testing.T
	// Ctx outlives the test's own context, which ends before the cleanups that still need it.
	Ctx context.Context
	// Client and IPS are the administrator's.
	Client kubernetes.Interface
	IPS    *typed.Client
	// Hang is how long anything may take before it counts as never. No promise is measured by it.
	Hang time.Duration

	whole *testing.T // what lasts until the end ends with it
}

// Start starts a control plane that has served the product's kinds from its beginning, so that its garbage collector knows of
// them. The test stops it when it ends.
func Start(t *testing.T) *World {
	t.Helper()
	crds, err := manager.CRDs(t.Context())
	require.NoError(t, err)
	return On(t, cluster.StartT(t, cluster.Options{Log: io.Discard, CRDs: []string{crds}}))
}

// StartEmpty starts a control plane that knows nothing of the product. The test stops it when it ends.
func StartEmpty(t *testing.T) *World {
	t.Helper()
	return On(t, cluster.StartT(t, cluster.Options{Log: io.Discard}))
}

// On returns the world of a control plane that runs already.
func On(t *testing.T, c *cluster.Cluster) *World {
	t.Helper()
	w := &World{Cluster: c, T: t, Ctx: context.WithoutCancel(t.Context()), Hang: 90 * time.Second, whole: t}
	var err error
	w.Client, err = kubernetes.NewForConfig(w.RESTConfig())
	require.NoError(t, err)
	httpClient, err := rest.HTTPClientFor(w.RESTConfig())
	require.NoError(t, err)
	w.IPS, err = typed.NewClient(w.RESTConfig(), httpClient)
	require.NoError(t, err)
	return w
}

// AttachesByItself says whether the API server serves the kind of policy by which it attaches Secrets itself, as it does from
// Kubernetes 1.36 on.
func (w *World) AttachesByItself() bool {
	w.T.Helper()
	served, err := w.Client.Discovery().ServerResourcesForGroupVersion("admissionregistration.k8s.io/v1")
	require.NoError(w.T, err)
	return slices.ContainsFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Kind == "MutatingAdmissionPolicy" })
}

// RunManager starts a manager and waits until it is ready.
func (w *World) RunManager(options manager.Options) *manager.Manager {
	w.T.Helper()
	m := w.StartManager(options)
	ctx, cancel := context.WithTimeout(w.Ctx, w.Hang)
	defer cancel()
	require.NoError(w.T, m.Ready(ctx))
	return m
}

// StartManager starts a manager. When the whole test ends it has to end in order, if it has not been ended by then.
func (w *World) StartManager(options manager.Options) *manager.Manager {
	w.T.Helper()
	m, err := manager.Start(w.Ctx, w.Cluster, options)
	require.NoError(w.T, err)
	w.whole.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			if err := m.Stop(); err != nil {
				w.whole.Errorf("the manager did not end in order: %v", err)
			}
		}
		if w.whole.Failed() {
			lines := strings.Split(m.Log(), "\n")
			w.whole.Logf("a manager's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	return m
}

// Kubectl runs kubectl, which must succeed, and returns what it prints. Cluster.Kubectl may fail.
func (w *World) Kubectl(args ...string) (stdout string) {
	w.T.Helper()
	stdout, _, err := w.Cluster.Kubectl(w.Ctx, args...)
	require.NoError(w.T, err)
	return stdout
}

// Pipe runs kubectl with input, and returns all that it says.
func (w *World) Pipe(input string, args ...string) (output string, err error) {
	command := w.KubectlCommand(w.Ctx, args...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	return string(out), err
}

// Apply applies manifests in YAML, and returns all that kubectl says, warnings too.
func (w *World) Apply(manifests string, args ...string) (output string) {
	w.T.Helper()
	// Older kubectls take what begins with a brace for JSON.
	output, err := w.Pipe("---\n"+manifests, append([]string{"apply", "-f", "-"}, args...)...)
	require.NoError(w.T, err, output)
	return output
}

// Eventually waits until check returns nil.
func (w *World) Eventually(what string, check func() error) {
	w.T.Helper()
	w.Within(w.Hang, what, check)
}

// Within waits until check returns nil, for the time that is promised.
func (w *World) Within(limit time.Duration, what string, check func() error) {
	w.T.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(w.T, err, "%s, not within %s", what, limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
