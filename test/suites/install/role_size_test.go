package install

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
)

// TestThePolicyJudgesRolesOfAnySize writes as many names into the role as it has room for: a policy that were too costly to be
// evaluated would refuse them.
func TestThePolicyJudgesRolesOfAnySize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.runHelm("install", chart)
	stolen := w.stolen(managerAccount)
	write := func(names []string) error {
		body, err := json.Marshal(map[string]any{"rules": secretsrole.Manager.Rules(names)})
		require.NoError(t, err)
		_, err = stolen.RbacV1().ClusterRoles().Patch(w.Ctx, secretsrole.Manager.Name, types.MergePatchType, body, metav1.PatchOptions{})
		return err
	}
	w.Eventually("the policy is in force", func() error {
		if err := write([]string{"database"}); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
			return fmt.Errorf("it does not refuse: %w", err)
		}
		return nil
	})
	for name, shape := range map[string]struct{ names, length int }{"10,000 names": {10_000, 100}, "the longest names": {4_000, 253},
		"the shortest names": {60_000, 13}} {
		t.Run(name, func(t *testing.T) {
			names := make([]string, shape.names)
			for i := range names {
				names[i] = fmt.Sprintf("tcr.ips%05d", i)
				names[i] += strings.Repeat("x", shape.length-len(names[i]))
			}
			require.NoError(t, write(names))
			w.lists(names...)
			err := write(append(slices.Clone(names), "database"))
			require.ErrorContains(t, err, "lists in its role only Secrets that are named tcr.ips")
			require.NoError(t, write(nil))
			w.lists()
		})
	}
}
