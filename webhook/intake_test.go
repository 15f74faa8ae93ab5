package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slow is a body of which some bytes have come and the rest never does.
type slow struct {
	*io.PipeReader
	sender *io.PipeWriter
}

// send starts a request whose body stops after size bytes, and returns once all of them have been read.
func send(t *testing.T, handler http.Handler, size int) (end func() *httptest.ResponseRecorder) {
	t.Helper()
	reader, writer := io.Pipe()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, MutatePath, slow{reader, writer})
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		handler.ServeHTTP(recorder, request)
		_ = reader.Close()
	}()
	_, _ = writer.Write([]byte(strings.Repeat(" ", size))) // it returns early where the request is refused
	return func() *httptest.ResponseRecorder {
		_ = writer.CloseWithError(io.ErrUnexpectedEOF)
		<-answered
		return recorder
	}
}

func TestReviewsThatNeverEndAreBounded(t *testing.T) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	var ends []func() *httptest.ResponseRecorder
	for range 40 {
		ends = append(ends, send(t, handler, 6<<20))
	}
	small := accountReview("team", `{"metadata":{"name":"a"}}`)
	large := accountReview("team", `{"metadata":{"name":"a","annotations":{"x":"`+strings.Repeat("x", 1<<20)+`"}}}`)
	t.Run("a small review is answered all the same", func(t *testing.T) {
		assert.NotEmpty(t, answer(t, ask(t, handler, MutatePath, small)).Patch)
	})
	for range 40 {
		ends = append(ends, send(t, handler, 1<<20))
	}
	t.Run("a large one is refused at once", func(t *testing.T) {
		recorder := ask(t, handler, MutatePath, large)
		assert.Equal(t, http.StatusServiceUnavailable, recorder.Code)
		assert.Contains(t, recorder.Body.String(), "too many large admission reviews")
		assert.Equal(t, "close", recorder.Header().Get("Connection"), "the rest of it is not waited for")
	})
	refused := 0
	for _, end := range ends {
		if end().Code == http.StatusServiceUnavailable {
			refused++
		}
	}
	assert.Greater(t, refused, 40, "of eighty that hold a megabyte and more")
	t.Run("once they have ended there is room again", func(t *testing.T) {
		for range 2 * maxLarge / len(large) {
			assert.NotEmpty(t, answer(t, ask(t, handler, MutatePath, large)).Patch)
		}
	})
}

// TestNoReviewTakesMuchMoreThanItsSize holds what a review of the largest size makes the process allocate. Some JSON is a
// small part of what it decodes to: whoever may send reviews could end the process with a single one.
func TestNoReviewTakesMuchMoreThanItsSize(t *testing.T) {
	filled := func(review, with string) string {
		before, after, found := strings.Cut(review, "FILL")
		require.True(t, found)
		return before + strings.Repeat(with, (maxBody-len(review))/len(with)) + after
	}
	account := func(object string) string { return accountReview("team", object) }
	credential := func(object string) string { return reviewOf("UPDATE", object, "null") }
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	for name, test := range map[string]struct{ path, body string }{
		"entries without a name": {MutatePath, filled(account(`{"imagePullSecrets":[FILL{}]}`), "{},")},
		"entries of ours":        {MutatePath, filled(account(`{"imagePullSecrets":[FILL{}]}`), `{"name":"tcr.ips"},`)},
		"failures in a status":   {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"status":{"failures":[FILL{}]}}`), "{},")},
		"owners":                 {ValidatePath, filled(credential(`{"metadata":{"name":"a","ownerReferences":[FILL{}]}}`), "{},")},
		"a list of commas":       {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"namespaces":"FILL"}}`), ",")},
		"a list of bad names":    {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"serviceAccounts":"FILL"}}`), `\u0000,`)},
		"a server of NULs":       {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"docker":{"server":"FILL"}}}`), `\u0000`)},
		"a password of angles":   {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"docker":{"username":"u","password":"FILL","server":"r"}}}`), `<`)},
		"many servers":           {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"docker":{"additionalServers":[FILL""]}}}`), `"",`)},
		"a long reference":       {ValidatePath, filled(credential(`{"metadata":{"name":"a"},"spec":{"docker":{"secretRef":{"name":"FILL"}}}}`), `\u0000`)},
		"a name of quotes":       {ValidatePath, filled(credential(`{"metadata":{"name":"FILL"}}`), `\"`)},
		"a UID of angles":        {MutatePath, filled(strings.Replace(account(`{"metadata":{"name":"a"}}`), "the-uid", "FILL", 1), "<")},
		"nothing but blanks":     {MutatePath, strings.Repeat(" ", maxBody)},
		"brackets":               {MutatePath, strings.Repeat("[", maxBody)},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			recorder := ask(t, handler, test.path, test.body)
			runtime.ReadMemStats(&after)
			assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, recorder.Code)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB", allocated>>10)
			assert.Less(t, allocated, uint64(8*maxBody), "bytes")
		})
	}
}
