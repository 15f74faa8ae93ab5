package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
)

func TestHTTP(t *testing.T) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	good := accountReview("team", `{"metadata":{"name":"a"}}`)
	for name, test := range map[string]struct {
		path, body string
		edit       func(*http.Request)
		code       int
		says       string
	}{
		"GET":                        {MutatePath, "", func(r *http.Request) { r.Method = http.MethodGet }, 405, ""},
		"another path":               {"/elsewhere", good, nil, 404, ""},
		"no content type":            {MutatePath, good, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "application/json"},
		"protobuf":                   {MutatePath, good, func(r *http.Request) { r.Header.Set("Content-Type", "application/vnd.kubernetes.protobuf") }, 415, "application/json"},
		"a charset is fine":          {MutatePath, good, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 200, ""},
		"no body":                    {MutatePath, "", nil, 400, "not valid JSON"},
		"no JSON":                    {MutatePath, `{"password":"hidden`, nil, 400, "not valid JSON"},
		"a wrong type":               {MutatePath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"hidden","object":"hidden"}}`, nil, 400, "/request/object must be an object"},
		"a list that is a string":    {MutatePath, accountReview("team", `{"imagePullSecrets":"hidden"}`), nil, 400, "/request/object/imagePullSecrets must be a list"},
		"a name that is a number":    {MutatePath, accountReview("team", `{"metadata":{"name":7}}`), nil, 400, "/request/object/metadata/name must be a string"},
		"a name that stands twice":   {MutatePath, accountReview("team", `{"metadata":{"name":"a","name":"b"}}`), nil, 400, "/request/object/metadata/name must occur only once in its object"},
		"something behind it":        {MutatePath, good + `{}`, nil, 400, "not valid JSON"},
		"invalid UTF-8":              {MutatePath, strings.Replace(good, "team", "te\xffam", 1), nil, 400, "not valid JSON"},
		"deep nesting in passing":    {MutatePath, accountReview("team", `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`), nil, 200, ""},
		"nesting without end":        {MutatePath, accountReview("team", `{"x":`+strings.Repeat("[", 1_000_000)), nil, 400, "not valid JSON"},
		"escaped names are the same": {MutatePath, accountReview("team", `{"\u0069magePullSecrets":[{"name":"tcr.ips\u0072"}]}`), nil, 200, ""},
		"another case is another":    {MutatePath, accountReview("team", `{"IMAGEPULLSECRETS":7,"Metadata":7}`), nil, 200, ""},
		"v1beta1":                    {MutatePath, strings.Replace(good, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), nil, 400, "admission.k8s.io/v1"},
		"another kind":               {MutatePath, strings.Replace(good, `"AdmissionReview"`, `"Pod"`, 1), nil, 400, "AdmissionReview"},
		"no uid":                     {MutatePath, strings.Replace(good, "the-uid", "", 1), nil, 400, "request.uid"},
		"no object":                  {MutatePath, accountReview("team", "null"), nil, 400, "request.object"},
		"pods":                       {MutatePath, strings.Replace(good, `"resource":"serviceaccounts"`, `"resource":"pods"`, 1), nil, 400, "serviceaccounts"},
		"accounts where others go":   {ValidatePath, good, nil, 400, "imagepullsecrets"},
		"a deadline that has passed": {MutatePath + "?timeout=1ns", good, nil, 500, "internal error"},
		"a deadline that is none":    {MutatePath + "?timeout=soon", good, nil, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*http.Request)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			recorder := ask(t, handler, test.path, test.body, edits...)
			assert.Equal(t, test.code, recorder.Code, recorder.Body)
			assert.Contains(t, recorder.Body.String(), test.says)
			assert.NotContains(t, recorder.Body.String(), "hidden")
		})
	}
	for name, behind := range map[string]string{"a letter": "x", "a comma and an object": ",{}", "NUL": "\x00", "an object": "{}", "a brace": "}", "a null": "null"} {
		t.Run("a review with "+name+" behind it is refused by both", func(t *testing.T) {
			credential, err := json.Marshal(imagePullSecret("good", "*"))
			require.NoError(t, err)
			for path, review := range map[string]string{MutatePath: good, ValidatePath: reviewOf("CREATE", string(credential), "null")} {
				assert.Equal(t, 200, ask(t, handler, path, review+" \n").Code)
				recorder := ask(t, handler, path, review+behind)
				assert.Equal(t, 400, recorder.Code, path)
				assert.Contains(t, recorder.Body.String(), "not valid JSON")
			}
		})
	}
	t.Run("more than 7 MiB is refused", func(t *testing.T) {
		assert.Equal(t, 413, ask(t, handler, MutatePath, strings.Repeat(" ", maxBody+1)).Code)
	})
	t.Run("what is not ready answers 503, so that the failure policy decides", func(t *testing.T) {
		handler := Handler(quiet, indexOf(), nil, func() error { return errors.New("no rules yet") })
		recorder := ask(t, handler, MutatePath, good)
		assert.Equal(t, 503, recorder.Code)
		assert.Contains(t, recorder.Body.String(), "no rules yet")
	})
	t.Run("a panic answers 500 and tells nothing of the request", func(t *testing.T) {
		var log bytes.Buffer
		wrapped := recoverer(slog.New(slog.NewTextHandler(&log, nil)))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("hidden") }))
		recorder := ask(t, wrapped, MutatePath, good)
		assert.Equal(t, 500, recorder.Code)
		assert.NotContains(t, recorder.Body.String()+log.String(), `"hidden"`)
		assert.Contains(t, log.String(), "admission request panicked")
	})
	t.Run("a body that ends early is refused", func(t *testing.T) {
		recorder := ask(t, handler, MutatePath, "", func(r *http.Request) { r.Body = io.NopCloser(brokenReader{}) })
		assert.Equal(t, 400, recorder.Code)
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzHandler holds that whatever is sent gets a well-formed answer to its own UID or a clean HTTP error, and no panic.
func FuzzHandler(f *testing.F) {
	good := accountReview("team", `{"metadata":{"name":"a"},"imagePullSecrets":[{"name":"x"}]}`)
	f.Add(MutatePath, good)
	f.Add(ValidatePath, reviewOf("UPDATE", `{"metadata":{"name":"a"},"spec":{"namespaces":"a,*","docker":{"server":"x"}}}`, `{}`))
	f.Add(MutatePath, `{"request":{"uid":"x","object":{"imagePullSecrets":[null]}}}`)
	f.Add(ValidatePath, `[`)
	f.Add(MutatePath, strings.Repeat(`{"request":`, 200))
	f.Add(MutatePath, strings.Replace(good, "team", "\\ud800", 1))
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != MutatePath && path != ValidatePath {
			path = MutatePath
		}
		handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
		request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		switch recorder.Code {
		case http.StatusBadRequest:
			return
		case http.StatusOK:
		default:
			t.Fatalf("it answered %d: %s", recorder.Code, recorder.Body)
		}
		var review admissionv1.AdmissionReview
		require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &review))
		require.NotNil(t, review.Response)
		assert.NotEmpty(t, review.Response.UID)
		if review.Response.Patch != nil {
			assert.True(t, json.Valid(review.Response.Patch))
		}
		if !review.Response.Allowed {
			assert.EqualValues(t, 422, review.Response.Result.Code)
		}
	})
}
