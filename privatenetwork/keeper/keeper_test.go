package keeper

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestARefusalIsLoggedOnce has somebody without the permission for the ConfigMap look again and again, as each answer of the cloud has
// them do.
func TestARefusalIsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", ` +
			`"code": 403, "message": "no permission"}`))
	}))
	defer server.Close()
	clients, err := clientset.New(&rest.Config{Host: server.URL}, server.Client())
	require.NoError(t, err)
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "linked", UID: "1"},
		Spec: v1.ImagePullSecretSpec{TCR: &v1.RegistryInstance{
			RegistryID: "tcr-demo0001", Region: "ap-guangzhou", PrivateNetwork: &v1.PrivateNetwork{},
		}},
	})
	var log bytes.Buffer
	k := New(Config{
		Log: slog.New(slog.NewTextHandler(&log, nil)), Index: index, ConfigMaps: clients.ConfigMaps("hosts"), Namespace: "hosts",
		Registry: func(rotation.Place) (Registry, error) { return &registry{address: "10.0.0.5"}, nil },
	})
	for range 3 {
		_, err := k.pass(t.Context())
		require.ErrorContains(t, err, "no permission")
		k.asking.Wait()
	}
	assert.Contains(t, log.String(), `error="reading config map hosts/updater-config-discovered: no permission"`, "it is said once")
	assert.Equal(t, 1, strings.Count(log.String(), "private addresses were not published"), log.String())
	reach := k.Reached(index.Rules().Get("linked"))
	require.NotNil(t, reach)
	assert.Equal(t, reasonNotPublished, reach.Reason)
}
