package keeper

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// TestWhatOthersAddIsNotWrittenAgainst holds apart what an apply changes, and what it leaves to others: against that it would be made
// again and again.
func TestWhatOthersAddIsNotWrittenAgainst(t *testing.T) {
	t.Parallel()
	data := map[string]string{hostsKey: "hosts: []\n", foundKey: "{}\n"}
	ours := map[string]string{v1.ManagedByLabel: v1.ManagedByValue}
	for name, test := range map[string]struct {
		labels, data map[string]string
		same         bool
	}{
		"as it was published":    {ours, data, true},
		"with a key of others":   {ours, map[string]string{hostsKey: "hosts: []\n", foundKey: "{}\n", "a": "b"}, true},
		"with a label of others": {map[string]string{v1.ManagedByLabel: v1.ManagedByValue, "a": "b"}, data, true},
		"with other lines":       {ours, map[string]string{hostsKey: "hosts:\n", foundKey: "{}\n"}, false},
		"without what was found": {ours, map[string]string{hostsKey: "hosts: []\n"}, false},
		"as somebody else's":     {nil, data, false},
		"without anything":       {map[string]string{v1.ManagedByLabel: v1.ManagedByValue}, nil, false},
	} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Labels: test.labels}, Data: test.data}
		assert.Equal(t, test.same, same(object, data), name)
	}
}
