package registration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestWhoIsAskedAbout(t *testing.T) {
	t.Run("the manager's own writes are left out", func(t *testing.T) {
		conditions := Template{Self: `system:serviceaccount:"a":b`}.Mutating(nil).Webhooks[0].MatchConditions
		require.Len(t, conditions, 1)
		assert.Equal(t, `request.userInfo.username != "system:serviceaccount:\"a\":b"`, conditions[0].Expression)
	})
	t.Run("a human's are not, whose kubeconfig it runs with", func(t *testing.T) {
		for _, name := range []string{"kubernetes-admin", "jane@example.com", "system:admin", "system:node:a", "system:serviceaccount",
			"oidc:system:serviceaccount:a:b"} {
			assert.Empty(t, Template{Self: name}.Mutating(nil).Webhooks[0].MatchConditions, name)
		}
	})
	t.Run("what opts out is left out, without a call", func(t *testing.T) {
		asked := Template{}.Mutating(nil).Webhooks[0]
		for _, selector := range []*metav1.LabelSelector{asked.NamespaceSelector, asked.ObjectSelector} {
			selects, err := metav1.LabelSelectorAsSelector(selector)
			require.NoError(t, err)
			assert.True(t, selects.Matches(labels.Set{}))
			assert.True(t, selects.Matches(labels.Set{v1.OptOutLabel: "yes"}))
			assert.False(t, selects.Matches(labels.Set{v1.OptOutLabel: "true"}))
		}
	})
	t.Run("where its name is not known nothing is left out", func(t *testing.T) {
		assert.Empty(t, Template{}.Mutating(nil).Webhooks[0].MatchConditions)
	})
	t.Run("nobody's ImagePullSecrets are left out", func(t *testing.T) {
		assert.Empty(t, Template{Self: "somebody"}.Validating(nil).Webhooks[0].MatchConditions)
	})
}
