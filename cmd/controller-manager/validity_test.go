package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/validity"
)

// TestWatchedAuthorities plays the API server's lists and watches of a Secret.
func TestWatchedAuthorities(t *testing.T) {
	secret := func(version, authorities string) *corev1.Secret {
		return &corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: "ca", ResourceVersion: version},
			Data:       map[string][]byte{"ca.crt": []byte(authorities), "tls.key": []byte("hush " + version)},
		}
	}
	type event struct {
		Type   string         `json:"type"`
		Object *corev1.Secret `json:"object"`
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/api/v1/namespaces/system/secrets", r.URL.Path)
		assert.Equal(t, "metadata.name=ca", r.URL.Query().Get("fieldSelector"))
		w.Header().Set("Content-Type", "application/json")
		switch answer := json.NewEncoder(w); {
		case r.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = answer.Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Code: http.StatusUnprocessableEntity,
				Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid})
		case r.URL.Query().Get("watch") == "":
			_ = answer.Encode(corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"},
				ListMeta: metav1.ListMeta{ResourceVersion: "1"}})
		default:
			for _, one := range []event{{"ADDED", secret("2", "one")}, {"MODIFIED", secret("3", "one")}, {"MODIFIED", secret("4", "two")},
				{"DELETED", secret("5", "two")}} {
				_ = answer.Encode(one)
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	clients, err := clientset.New(&rest.Config{Host: server.URL, QPS: -1}, server.Client())
	require.NoError(t, err)
	m := &manager{client: clients, options: &options{namespace: "system"}}
	told := make(chan validity.Authorities)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.watchAuthorities(func(string, error) {})(ctx, "ca", func(now validity.Authorities) {
			select {
			case told <- now:
			case <-ctx.Done():
			}
		})
	}()
	none, one, two := validity.Authorities{}, sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	for _, want := range []validity.Authorities{none, one, one, two, none} {
		select {
		case have := <-told:
			assert.Equal(t, want, have)
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
		}
	}
	cancel()
	<-ended
}
