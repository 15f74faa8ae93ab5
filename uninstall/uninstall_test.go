package uninstall

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPatch(t *testing.T) {
	for _, test := range []struct {
		name     string
		list     []string
		unwanted []string
		want     string
	}{
		{"an account without entries needs no patch", nil, []string{"tcr.ipsa"}, ""},
		{"foreign entries need no patch", []string{"theirs", "tcr.ipsforeign"}, []string{"tcr.ipsa"}, ""},
		{"the last goes first, so that each index means what it meant", []string{"tcr.ipsa", "theirs", "tcr.ipsb"}, []string{"tcr.ipsa", "tcr.ipsb"},
			`[{"op":"replace","path":"/metadata/resourceVersion","value":"7"},{"op":"remove","path":"/imagePullSecrets/2"},{"op":"remove","path":"/imagePullSecrets/0"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "a", ResourceVersion: "7"}}
			for _, name := range test.list {
				account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
			}
			body, err := patch(account, func(name string) bool { return slices.Contains(test.unwanted, name) })
			require.NoError(t, err)
			assert.Equal(t, test.want, string(body))
		})
	}
}
