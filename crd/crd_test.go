package crd

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
)

var imagePullSecrets = Of("ImagePullSecret", "imagepullsecrets", v1.ImagePullSecret{})

func TestFieldsAreThoseOfTheType(t *testing.T) {
	for _, field := range []string{
		"spec.namespaces", "spec.docker.password", "status.observedGeneration", "status.sAsSuccess", "status.secretUpdateSuccessful[].updatedAt",
		"status.failures[].since", "status.conditions[].lastTransitionTime", "status.conditions[].type",
	} {
		assert.Contains(t, imagePullSecrets.Fields, field)
	}
	for _, field := range imagePullSecrets.Fields {
		assert.True(t, strings.HasPrefix(field, "spec.") || strings.HasPrefix(field, "status."), "%s is not the definition's to say", field)
	}
}

func TestFieldsOfMapsAreTheirs(t *testing.T) {
	assert.Equal(t, []string{"spec.barred", "spec.everywhere[]", "spec.labelled", "spec.namespaces", "spec.parts", "spec.rules",
		"spec.selecting[]"}, Of("DerivedAttachments", "derivedattachments", v1.DerivedAttachments{}).Fields)
}

// published returns the document that the API server makes of the definition in the chart, changed by edit.
func published(t *testing.T, edit func(version map[string]any)) []byte {
	t.Helper()
	text, err := os.ReadFile("../deploy/chart/crds/tcr.tencentcloudcr.com_imagepullsecrets.yaml")
	require.NoError(t, err)
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &definition))
	root := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	root["x-kubernetes-group-version-kind"] = []any{map[string]any{"group": "tcr.tencentcloudcr.com", "version": "v1",
		"kind": "ImagePullSecret"}}
	if edit != nil {
		edit(root["properties"].(map[string]any))
	}
	document, err := json.Marshal(map[string]any{"components": map[string]any{"schemas": map[string]any{"com.tencentcloudcr.tcr.v1.ImagePullSecret": root, "other": map[string]any{}}}})
	require.NoError(t, err)
	return document
}

func properties(of map[string]any, name string) map[string]any {
	return of[name].(map[string]any)["properties"].(map[string]any)
}

func withoutStatus(of map[string]any) {
	status := properties(of, "status")
	delete(status, "conditions")
	delete(status, "failures")
}

func TestLacks(t *testing.T) {
	for _, test := range []struct {
		name     string
		document []byte
		want     string
	}{
		{"the release's own definition lacks nothing", published(t, nil), ""},
		{"an older one lacks what has come since", published(t, withoutStatus),
			"imagepullsecrets.tcr.tencentcloudcr.com lacks status.conditions[].lastTransitionTime, status.conditions[].message, " +
				"status.conditions[].observedGeneration, status.conditions[].reason, status.conditions[].status, status.conditions[].type and 4 more"},
		{"a field within a list is looked for", published(t, func(of map[string]any) {
			delete(properties(of, "status")["failures"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any), "since")
		}), "lacks status.failures[].since;"},
		{"a list that is none any more lacks its fields", published(t, func(of map[string]any) {
			properties(of, "status")["failures"] = map[string]any{"type": "object"}
		}), "lacks status.failures[].message, "},
		{"one that keeps whatever is written lacks nothing", published(t, func(of map[string]any) {
			of["status"] = map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
		}), ""},
		{"a group that is not served lacks its kinds", nil, "imagepullsecrets.tcr.tencentcloudcr.com does not exist"},
		{"a document of others lacks them too", []byte(`{"components":{"schemas":{}}}`), "imagepullsecrets.tcr.tencentcloudcr.com does not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lacks, err := Lacks(test.document, v1.GroupVersion, []Kind{imagePullSecrets})
			require.NoError(t, err)
			if test.want == "" {
				assert.Empty(t, lacks)
				return
			}
			message := (&Error{Group: v1.GroupVersion.Group, Lacks: lacks}).Error()
			assert.Contains(t, message, test.want)
			assert.Contains(t, message, Remedy)
		})
	}
	t.Run("each kind is looked for", func(t *testing.T) {
		lacks, err := Lacks(published(t, nil), v1.GroupVersion, []Kind{imagePullSecrets,
			{Name: "DerivedAttachments", Plural: "derivedattachments"}})
		require.NoError(t, err)
		require.Len(t, lacks, 1)
		assert.Equal(t, "derivedattachments", lacks[0].Kind.Plural)
	})
	t.Run("half a document says nothing", func(t *testing.T) {
		_, err := Lacks([]byte(`{"components":`), v1.GroupVersion, nil)
		require.ErrorContains(t, err, "reading the OpenAPI document of tcr.tencentcloudcr.com/v1")
	})
}

// answers serves one answer after the other, the last one for ever.
func answers(t *testing.T, all ...string) (checker *Checker, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/openapi/v3/apis/tcr.tencentcloudcr.com/v1", r.URL.Path)
		var status int
		answer := all[min(int(asked.Add(1)), len(all))-1]
		_, err := fmt.Sscan(answer, &status)
		assert.NoError(t, err)
		_, body, _ := strings.Cut(answer, " ")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // who asked may be gone
	}))
	t.Cleanup(server.Close)
	client, err := typed.NewClient(&rest.Config{Host: server.URL, QPS: -1}, server.Client())
	require.NoError(t, err)
	checker = NewChecker(slog.New(slog.DiscardHandler), client.GetClient())
	checker.Pause = time.Millisecond
	return checker, asked
}

func TestCheck(t *testing.T) {
	good, old := "200 "+string(published(t, nil)), "200 "+string(published(t, withoutStatus))
	const trouble, missing, refused = `500 {"kind":"Status","code":500}`, `404 {"kind":"Status","code":404}`,
		`403 {"kind":"Status","code":403,"reason":"Forbidden"}`
	t.Run("a definition of this release passes at once", func(t *testing.T) {
		checker, asked := answers(t, good)
		require.NoError(t, checker.Check(t.Context(), v1.GroupVersion, imagePullSecrets))
		assert.EqualValues(t, 1, asked.Load())
	})
	t.Run("one that is being applied has time", func(t *testing.T) {
		checker, _ := answers(t, missing, old, good)
		require.NoError(t, checker.Check(t.Context(), v1.GroupVersion, imagePullSecrets))
	})
	for name, last := range map[string]string{"an old one is refused in the end": old, "so is none": missing} {
		t.Run(name, func(t *testing.T) {
			checker, asked := answers(t, last)
			checker.Timeout = 50 * time.Millisecond
			var lacking *Error
			require.ErrorAs(t, checker.Check(t.Context(), v1.GroupVersion, imagePullSecrets), &lacking)
			assert.Greater(t, asked.Load(), int64(1))
		})
	}
	t.Run("an API server in trouble is waited for beyond the timeout", func(t *testing.T) {
		checker, asked := answers(t, trouble, trouble, trouble, "200 half", good)
		checker.Timeout = 0
		require.NoError(t, checker.Check(t.Context(), v1.GroupVersion, imagePullSecrets))
		assert.EqualValues(t, 5, asked.Load())
	})
	t.Run("who may not ask passes", func(t *testing.T) {
		checker, asked := answers(t, refused)
		require.NoError(t, checker.Check(t.Context(), v1.GroupVersion, imagePullSecrets))
		assert.EqualValues(t, 1, asked.Load())
	})
}
