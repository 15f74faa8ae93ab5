// Package integration holds what the product promises against a real etcd, kube-apiserver and kube-controller-manager.
package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// samplePath is the file that the documentation tells users to create.
const samplePath = "../../../deploy/allinone/imagepullsecret-sample.yaml"

// binary is the controller-manager under test.
var binary string

// webhookless says that the product is installed without its webhook: the API server's admission policy attaches, and the CRD
// judges. What is not about the webhook then holds as well, and "make integration" runs all of that.
var webhookless = os.Getenv("TCR_ASSISTANT_WEBHOOK") == "false"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tcr-assistant-integration-")
		if err == nil {
			defer os.RemoveAll(dir)
			binary, err = manager.Build(context.Background(), dir, "controller-manager")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if flag.Lookup("test.run").Value.String() == "" && !webhookless { // without it, what is granted for it is not used
			code = max(code, reportPermissions())
		}
		return code
	}())
}

// world is a control plane with the product installed.
type world struct {
	*suite.World
	births int // how many accounts bornWith has created
	// the test has requests refused: by taking permissions away, or by restarting the API server, which for a moment knows of no roles
	refusals bool
}

// newWorld starts a control plane and installs the product, without running it. Tests whose promises are not of time run side
// by side, each in a world of its own.
func newWorld(t *testing.T) *world {
	t.Helper()
	return installed(t, suite.Start(t))
}

// installed installs the product on a control plane, without running it.
func installed(t *testing.T, on *suite.World) *world {
	t.Helper()
	w := &world{World: on}
	if webhookless {
		require.NoError(t, manager.InstallChart(w.Ctx, w.Cluster, "webhook.enabled=false"))
	} else {
		require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	}
	t.Cleanup(func() { w.noteRequests() })
	return w
}

// StartManager starts a manager as it is installed.
func (w *world) StartManager(options manager.Options) *manager.Manager {
	w.T.Helper()
	return w.World.StartManager(asInstalled(options))
}

// RunManager starts a manager as it is installed, and waits until it is ready.
func (w *world) RunManager(options manager.Options) *manager.Manager {
	w.T.Helper()
	return w.World.RunManager(asInstalled(options))
}

func asInstalled(options manager.Options) manager.Options {
	if webhookless {
		options.Args = append([]string{"--webhook=false"}, options.Args...)
	}
	return options
}

// attaches waits until an account that is created is born with the Secret of an ImagePullSecret that selects all of them. With
// the webhook that is at once; the API server's policy takes a moment to hear of it.
func (w *world) attaches(name string) {
	w.T.Helper()
	w.Eventually("accounts are born with "+name, func() error {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "newborn"}}
		born, err := w.Client.CoreV1().ServiceAccounts("default").Create(w.Ctx, account, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && !slices.Contains(suite.Entries(born), "tcr.ips"+name) {
			err = fmt.Errorf("one is born with %q", suite.Entries(born))
		}
		return err
	})
}

// run starts a manager and waits until it is ready and has stored what is derived: the first object of a kind that has just been
// defined can take the API server more than a second.
func (w *world) run(args ...string) *manager.Manager {
	w.T.Helper()
	return w.runWith(manager.Options{Args: args})
}

// runWith is run for a manager that differs from the usual one.
func (w *world) runWith(options manager.Options) *manager.Manager {
	w.T.Helper()
	options.Binary = binary
	m := w.RunManager(options)
	w.Eventually("what is derived is stored", func() error {
		if len(w.derived()) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	return m
}

// permit replaces the verbs that the manager's ClusterRole grants on a resource.
func (w *world) permit(resource string, verbs ...string) {
	w.T.Helper()
	const name = "tcr-assistant-manager-role"
	role, err := w.Client.RbacV1().ClusterRoles().Get(w.Ctx, name, metav1.GetOptions{})
	require.NoError(w.T, err)
	at := slices.IndexFunc(role.Rules, func(rule rbacv1.PolicyRule) bool { return slices.Contains(rule.Resources, resource) })
	require.GreaterOrEqual(w.T, at, 0, "the role says nothing of %s", resource)
	role.Rules[at].Verbs = verbs
	_, err = w.Client.RbacV1().ClusterRoles().Update(w.Ctx, role, metav1.UpdateOptions{})
	require.NoError(w.T, err)
}

func serviceAccounts(list string) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) { spec.ServiceAccounts = list }
}

func password(value string) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = value }
}

// edit changes the spec of an ImagePullSecret.
func (w *world) edit(name string, edits ...suite.Edit) {
	w.T.Helper()
	w.Eventually("editing the ImagePullSecret", func() error {
		object, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, edit := range edits {
			edit(&object.Spec)
		}
		_, err = w.IPS.Update(w.Ctx, object, metav1.UpdateOptions{})
		return err
	})
}

// account creates a ServiceAccount with entries of its own.
func (w *world) account(namespace, name string, entries ...string) *corev1.ServiceAccount {
	w.T.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, entry := range entries {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	created, err := w.Client.CoreV1().ServiceAccounts(namespace).Create(w.Ctx, account, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return created
}

// counts checks the four counts of a status.
func counts(secretsDesired, secretsSuccess, accountsDesired, accountsSuccess int32) func(v1.ImagePullSecretStatus) error {
	return func(status v1.ImagePullSecretStatus) error {
		have := [4]int32{status.SecretsDesired, status.SecretsSuccess, status.SAsDesired, status.SAsSuccess}
		if want := [4]int32{secretsDesired, secretsSuccess, accountsDesired, accountsSuccess}; have != want {
			return fmt.Errorf("counts are %v instead of %v", have, want)
		}
		return nil
	}
}
