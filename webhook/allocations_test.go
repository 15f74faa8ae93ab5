//go:build !race

package webhook

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// rerun is a request and the ResponseWriter for its answer, used again and again.
type rerun struct {
	bytes.Reader
	request http.Request
	header  http.Header
	code    int
	answer  []byte
}

func (r *rerun) Close() error         { return nil }
func (r *rerun) Header() http.Header  { return r.header }
func (r *rerun) WriteHeader(code int) { r.code = code }
func (r *rerun) Write(p []byte) (int, error) {
	r.answer = append(r.answer[:0], p...)
	return len(p), nil
}

// TestHowMuchARequestAllocates counts what a request makes the handler allocate, with all that the manager gives it: garbage is what
// the slowest answers wait for. It does not count what net/http allocates, but for the answer's
// header. (With the race detector, pools forget at random.)
func TestHowMuchARequestAllocates(t *testing.T) {
	labels := func(context.Context, string) pullsecret.Labels { return pullsecret.PackLabels(nil) }
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), labels, ready, func(string, Outcome, time.Duration) {})
	account := `{"metadata":{"name":"robot","labels":{"a":"b"},"annotations":{"x":%q}}%s}`
	pod := `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"default","containers":[{"name":"c","image":"registry.example.com/a/b:c"}]}}`
	for name, test := range map[string]struct {
		path, body string
		most       float64
	}{
		"an account that is patched":   {MutatePath, accountReview("team", fmt.Sprintf(account, strings.Repeat("x", 500), "")), 12},
		"an account of 28 KiB":         {MutatePath, accountReview("team", fmt.Sprintf(account, strings.Repeat("x", 28<<10), "")), 12},
		"an account that has its list": {MutatePath, accountReview("team", fmt.Sprintf(account, "x", `,"imagePullSecrets":[{"name":"tcr.ipsr"}]`)), 10},
		"a pod that lists nothing":     {MutatePodsPath, strings.Replace(accountReview("team", pod), `"serviceaccounts"`, `"pods"`, 1), 10},
	} {
		t.Run(name, func(t *testing.T) {
			run := &rerun{header: http.Header{}}
			run.request = http.Request{
				Method: http.MethodPost, URL: &url.URL{Path: test.path, RawQuery: "timeout=3s"},
				Header: http.Header{"Content-Type": {"application/json"}}, Body: run,
			}
			body := []byte(test.body)
			allocated := testing.AllocsPerRun(200, func() {
				run.Reset(body)
				clear(run.header)
				run.code = http.StatusOK
				handler.ServeHTTP(run, &run.request)
			})
			require.Equal(t, http.StatusOK, run.code, string(run.answer))
			t.Logf("%v allocations", allocated)
			assert.LessOrEqual(t, allocated, test.most)
		})
	}
}
