package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestNothingOfARequestIsInTheAnswerToAnother sends requests of all kinds and sizes at once, and holds each answer against the one
// that the same request gets from a handler that has answered nothing else: buffers and decoders are used again.
func TestNothingOfARequestIsInTheAnswerToAnother(t *testing.T) {
	type request struct{ path, body string }
	var requests []request
	for i := range 40 {
		uid := strings.Repeat(fmt.Sprintf("uid-%d.", i), 1+i%9)
		account := fmt.Sprintf(`{"metadata":{"name":"account-%d","annotations":{"x":%q}}}`, i, strings.Repeat("x", i*i*80))
		broken := fmt.Sprintf(`{"metadata":{"name":"object-%d"},"spec":{"namespaces":"%s*","docker":{"username":"u","password":"hidden-%d","server":"r.io"}}}`, i, strings.Repeat("team,", i), i)
		for _, one := range []request{
			{MutatePath, accountReview(fmt.Sprintf("team-%d", i), account)},
			{MutatePath, accountReview("team", account)[:400+i]}, // cut off
			{ValidatePath, reviewOf("CREATE", broken, "null")},
		} {
			one.body = strings.Replace(one.body, "the-uid", uid, 1)
			requests = append(requests, one)
		}
	}
	index := pullsecret.NewIndex()
	for i := range 40 {
		index.Put(imagePullSecret(strings.Repeat("r", 1+i), fmt.Sprintf("team-%d", i)))
	}
	alone := make([]string, len(requests))
	for i, one := range requests {
		recorder := ask(t, Handler(quiet, index, nil, ready), one.path, one.body)
		alone[i] = fmt.Sprint(recorder.Code, recorder.Body)
		assert.NotContains(t, alone[i], "hidden")
	}
	handler := Handler(quiet, index, nil, ready)
	var asking sync.WaitGroup
	for worker := range 8 {
		asking.Go(func() {
			for i := range 3 * len(requests) {
				at := (i*(2*worker+1) + 31*worker) % len(requests)
				recorder := ask(t, handler, requests[at].path, requests[at].body)
				if together := fmt.Sprint(recorder.Code, recorder.Body); !assert.Equal(t, alone[at], together) {
					return
				}
			}
		})
	}
	asking.Wait()
}

// late is a ResponseWriter whose write fails while what it was given is still to be sent, as HTTP/2 does it where the stream is reset.
type late struct {
	*httptest.ResponseRecorder
	given []byte
}

func (l *late) Write(answer []byte) (int, error) {
	l.given = answer
	return 0, errors.New("the stream was reset")
}

func TestAnAnswerWhoseWriteFailedIsLeftAlone(t *testing.T) {
	in := newIntake()
	handler := serve(quiet, in, decodeAccountReview, func(_ *http.Request, request accountRequest) (string, response) {
		return request.uid, response{warnings: []string{request.namespace}}
	})
	post := func(w http.ResponseWriter, namespace string) {
		handler(w, httptest.NewRequest(http.MethodPost, MutatePath, strings.NewReader(accountReview(namespace, `{}`))))
	}
	for range 100 { // a pool need not give back what was put into it last
		failed := &late{ResponseRecorder: httptest.NewRecorder()}
		post(failed, "first")
		was := string(failed.given)
		require.Contains(t, was, "first")
		post(httptest.NewRecorder(), "other")
		require.Equal(t, was, string(failed.given))
	}
	assert.Zero(t, in.large.Load())
}
