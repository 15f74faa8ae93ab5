package integration

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// TestOwnersWhereTheyAreEnforced runs the product where only who may delete an object may change its owners, as on OpenShift,
// on a cluster in which all that it writes stands already, and is nobody's.
func TestOwnersWhereTheyAreEnforced(t *testing.T) {
	t.Parallel()
	w := &world{World: suite.On(t, cluster.StartT(t, cluster.Options{
		Log: io.Discard, APIServerArgs: []string{"--enable-admission-plugins=OwnerReferencesPermissionEnforcement"},
	}))}
	require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	t.Cleanup(func() { w.noteRequests() })
	for _, kind := range []string{"Mutating", "Validating"} {
		w.Apply(fmt.Sprintf("apiVersion: admissionregistration.k8s.io/v1\nkind: %sWebhookConfiguration\nmetadata: {name: "+
			"tcr-assistant-%s-webhook-configuration}\n",
			kind, map[string]string{"Mutating": "mutating", "Validating": "validating"}[kind]))
	}
	for namespace, secret := range map[string]*corev1.Secret{
		manager.Namespace: {ObjectMeta: metav1.ObjectMeta{Name: servingSecret}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": {}, "tls.key": {}}},
		"default": {ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsowned"}, Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{".dockerconfigjson": []byte("{}")}},
	} {
		_, err := w.Client.CoreV1().Secrets(namespace).Create(w.Ctx, secret, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	w.run()
	roles := w.owners()
	for kind, owners := range w.owned() {
		if assert.Len(t, owners, 1, kind) {
			assert.Equal(t, roles[owner[kind]].UID, owners[0].UID, kind)
		}
	}
	w.Create("owned")
	w.Namespace("enforced")
	w.Holds("enforced", "owned")
	w.Holds("default", "owned")
	w.Lists("enforced", "default", "tcr.ipsowned")
	w.edit("owned", password("another"))
	w.Holds("default", "owned")
	w.Holds("enforced", "owned")
	w.converged("owned")
}
