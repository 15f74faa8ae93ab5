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

// AtMost has no more than so many bytes be read of each answer, unpacked: a request that is answered with more fails with ErrTooLarge.
func AtMost(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, limitKey{}, bytes)
}

// limiting holds answers to the limits of their requests' contexts.
type limiting struct{ http.RoundTripper }

// RoundTrip sends a request.
func (l limiting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(request)
	if most, limited := request.Context().Value(limitKey{}).(int64); limited && err == nil {
		response.Body = &limitedBody{response.Body, most}
	}
	return response, err
}

// WrappedRoundTripper returns what sends requests.
func (l limiting) WrappedRoundTripper() http.RoundTripper { return l.RoundTripper }

// limitedBody is an answer that fails beyond so many bytes more.
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
