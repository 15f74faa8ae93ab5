package webhook

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestObserver(t *testing.T) {
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "foo", UID: "u"},
		Spec:       v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "r.example.com"}},
	})
	account := func(body string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"team","name":"robot",
			"resource":{"group":"","version":"v1","resource":"serviceaccounts"},"operation":"CREATE","object":` + body + `}}`
	}
	credential := func(body string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","name":"bar",
			"resource":{"group":"tcr.tencentcloudcr.com","version":"v1","resource":"imagepullsecrets"},"operation":"CREATE","object":` + body + `}}`
	}
	for _, tc := range []struct {
		name, path, body string
		ready            error
		want             []string
	}{
		{"a service account that lacks the entry is patched", MutatePath, account(`{"metadata":{"name":"robot"}}`), nil, []string{"mutating patched"}},
		{"one that has it is allowed", MutatePath, account(`{"metadata":{"name":"robot"},"imagePullSecrets":[{"name":"tcr.ipsfoo"}]}`), nil, []string{"mutating allowed"}},
		{"a good image pull secret is allowed", ValidatePath, credential(`{"metadata":{"name":"bar"},"spec":{"docker":{"username":"u","password":"p","server":"r.example.com"}}}`), nil, []string{"validating allowed"}},
		{"a bad one is denied", ValidatePath, credential(`{"metadata":{"name":"bar"},"spec":{"namespaces":"team-*","docker":{"username":"u","password":"p","server":"r.example.com"}}}`), nil, []string{"validating denied"}},
		{"what cannot be decoded is an error", MutatePath, `{`, nil, []string{"mutating error"}},
		{"what comes before the cache is filled is an error", ValidatePath, credential(`{}`), errors.New("not yet"), []string{"validating error"}},
		{"a panic is an error", MutatePath, "panic", nil, []string{"mutating error"}},
		{"another path is nobody's", "/mutate/nodes", `{}`, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var seen []string
			ready := func() error {
				if tc.body == "panic" {
					panic("on purpose")
				}
				return tc.ready
			}
			handler := Handler(slog.New(slog.DiscardHandler), index, nil, ready, func(webhook string, outcome Outcome, took time.Duration) {
				seen = append(seen, webhook+" "+string(outcome))
				assert.Positive(t, took)
			})
			request := httptest.NewRequest(http.MethodPost, tc.path, strings.NewReader(tc.body))
			request.Header.Set("Content-Type", "application/json")
			handler.ServeHTTP(httptest.NewRecorder(), request)
			assert.Equal(t, tc.want, seen)
		})
	}
}
