package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseAudit(t *testing.T) {
	const (
		get = `{"auditID":"1","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/a/deployments/b/status?pretty=true",` +
			`"verb":"get","user":{"username":"jane"},"userAgent":"kubectl","objectRef":{"apiGroup":"apps","resource":"deployments",` +
			`"subresource":"status","namespace":"a","name":"b"},"responseStatus":{"code":200},` +
			`"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z"}` + "\n"
		forbidden  = `{"auditID":"4","stage":"ResponseComplete","verb":"list","responseStatus":{"code":403},"annotations":{"authorization.k8s.io/decision":"forbid"}}` + "\n"
		health     = `{"auditID":"2","stage":"ResponseComplete","requestURI":"/readyz","verb":"get","responseStatus":{"code":500}}` + "\n"
		watchBegun = `{"auditID":"3","stage":"ResponseStarted","verb":"watch","responseStatus":{"code":200}}` + "\n"
		watchEnded = `{"auditID":"3","stage":"ResponseComplete","verb":"watch","responseStatus":{"code":200}}` + "\n"
	)
	got := Request{
		User: "jane", UserAgent: "kubectl", Verb: "get", URI: "/apis/apps/v1/namespaces/a/deployments/b/status?pretty=true",
		APIGroup: "apps", Resource: "deployments", Subresource: "status", Namespace: "a", Name: "b",
		Code: 200, Received: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
	healthy := Request{Verb: "get", URI: "/readyz", Code: 500}
	for _, c := range []struct {
		name, text string
		want       []Request
	}{
		{"an empty log has no request", "", nil},
		{"every field is read", get, []Request{got}},
		{"what is no resource has none", health, []Request{healthy}},
		{"a request without permission is told from one that is refused otherwise", forbidden,
			[]Request{{Verb: "list", Code: 403, Unauthorized: true}}},
		{"a watch runs until it ends", watchBegun, []Request{{Verb: "watch", Code: 200, Running: true}}},
		{"a watch that ended is one request, where it began", watchBegun + health + watchEnded, []Request{{Verb: "watch", Code: 200}, healthy}},
		{"a line that is still being written is left for later", health + get[:40], []Request{healthy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests, err := parseAudit([]byte(c.text))
			require.NoError(t, err)
			assert.Equal(t, c.want, requests)
		})
	}
	t.Run("a broken line is named", func(t *testing.T) {
		_, err := parseAudit([]byte(health + "{\n" + get))
		require.ErrorContains(t, err, "line 2: ")
	})
}
