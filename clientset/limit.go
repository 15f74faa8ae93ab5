package clientset

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// ErrTooLarge is why an answer was not read to its end.
var ErrTooLarge = errors.New("the answer is larger than what is read of it")

// limitKey is the key of a context's limit on answers.
type limitKey struct{}

// AtMost returns a context whose requests read at most that many bytes of each answer, uncompressed. A request whose answer is larger
// fails with ErrTooLarge.
func AtMost(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, limitKey{}, bytes)
}

// limiting limits answers as the contexts of their requests say.
type limiting struct{ http.RoundTripper }

// RoundTrip sends a request.
func (l limiting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(request)
	if most, limited := request.Context().Value(limitKey{}).(int64); limited && err == nil {
		response.Body = &limitedBody{response.Body, most}
	}
	return response, err
}

// WrappedRoundTripper returns the RoundTripper that sends the requests.
func (l limiting) WrappedRoundTripper() http.RoundTripper { return l.RoundTripper }

// limitedBody is an answer that fails once more than left bytes were read.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
