package install

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestWithoutReferences installs without the one permission by which a stolen token lists the Secrets of the manager's own namespace.
func TestWithoutReferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	list := func() error {
		_, err := w.stolen(managerAccount).CoreV1().Secrets(manager.Namespace).List(w.Ctx, metav1.ListOptions{})
		return err
	}
	w.runHelm("install", chart)
	require.NoError(t, list(), "by default it may")
	w.runHelm("upgrade", chart, "--set", "rbac.credentials=false")
	w.Eventually("it may not any more", func() error {
		if err := list(); !apierrors.IsForbidden(err) {
			return fmt.Errorf("it is answered by %w", err)
		}
		return nil
	})
	w.run()
	w.Create("referring", func(spec *v1.ImagePullSecretSpec) {
		spec.Docker.Username, spec.Docker.Password, spec.Docker.SecretRef = "", "", &v1.SecretReference{Name: "ref"}
	})
	w.Status("referring", func(status v1.ImagePullSecretStatus) error {
		if len(status.Failures) != 1 || status.Failures[0].Reason != "Forbidden" {
			return fmt.Errorf("it says %v", status.Failures)
		}
		return nil
	})
	w.Create("inline")
	w.Holds("default", "inline")
}
