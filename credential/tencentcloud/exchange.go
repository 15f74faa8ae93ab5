package tencentcloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// maxAnswer is the maximum length of an answer: a page of a hundred tokens takes about 30 KiB.
const maxAnswer = 1 << 20

// exchange sends one request. It passes only answers of the API on to the SDK: anything else becomes a failure, and none of its text is
// passed on.
type exchange struct {
	next    http.RoundTripper
	timeout time.Duration

	body    []byte
	date    time.Time
	failure *Error
}

// errNoAnswer is the error that the SDK gets.
var errNoAnswer = errors.New("no answer from the API")

// RoundTrip sends the request.
func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := e.next.RoundTrip(r)
	if err != nil {
		return nil, e.fail(unreachable(r.Context(), err, e.timeout))
	}
	defer answer.Body.Close()
	e.date, _ = http.ParseTime(answer.Header.Get("Date"))
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, e.fail(unreachable(r.Context(), err, e.timeout))
	case len(body) > maxAnswer:
		return nil, e.fail(&Error{Reason: BadAnswer, advice: fmt.Sprintf("the answer is longer than %d bytes", maxAnswer)})
	}
	var envelope struct {
		Response *struct {
			Error *struct{ Code string }
		}
	}
	isAnswer := json.Unmarshal(body, &envelope) == nil && envelope.Response != nil
	isError := isAnswer && envelope.Response.Error != nil
	if isError && envelope.Response.Error.Code == "" { // the SDK would take it for a success
		isAnswer = false
	}
	if !isAnswer || answer.StatusCode != http.StatusOK && !isError {
		return nil, e.fail(foreign(answer.StatusCode))
	}
	e.body = body
	answer.StatusCode, answer.Status = http.StatusOK, "200 OK"
	answer.Header = http.Header{"Content-Type": {"application/json"}}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

func (e *exchange) fail(failure *Error) error {
	e.failure = failure
	return errNoAnswer
}

// foreign returns the failure for an answer that is not the API's.
func foreign(status int) *Error {
	switch {
	case status >= 500:
		return &Error{Reason: Internal, advice: fmt.Sprintf("status %d without an answer from the API: it is tried again", status)}
	case status == http.StatusTooManyRequests:
		return &Error{Reason: RateLimited, advice: "status 429: it is tried again"}
	case status == http.StatusOK:
		return &Error{Reason: BadAnswer,
			advice: "the answer is truncated, or not one of the API: check what is in between, such as a proxy (HTTPS_PROXY)"}
	default:
		return &Error{Reason: BadAnswer, advice: fmt.Sprintf("status %d, which the API never returns: check --tencentcloud-endpoint and "+
			"what is in between, such as a proxy (HTTPS_PROXY) or a gateway", status)}
	}
}

// proxyRefusal is the answer of a proxy that does not let a request through.
type proxyRefusal struct{ status int }

func (p proxyRefusal) Error() string {
	return fmt.Sprintf("the proxy answers with status %d", p.status)
}

// unreachable returns why no answer came. It uses only parts of an error that contain no text of the other side.
func unreachable(ctx context.Context, err error, timeout time.Duration) *Error {
	failure := &Error{Reason: NoRoute}
	var (
		refusal     proxyRefusal
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		network     net.Error
	)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		failure.cause, failure.advice = context.Canceled, "the call was canceled"
	case errors.As(err, &refusal):
		failure.advice = fmt.Sprintf("the proxy of HTTPS_PROXY lets nothing through (status %d): allow it there, or set NO_PROXY", refusal.status)
	case errors.As(err, &name):
		failure.advice = fmt.Sprintf("the name %q does not resolve: check the cluster's DNS and --tencentcloud-endpoint", name.Name)
	case errors.As(err, &certificate):
		failure.advice = "its certificate is not trusted: pass its CA certificate with --tencentcloud-ca-file"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		failure.cause = context.DeadlineExceeded
		failure.advice = fmt.Sprintf("no answer within %s: check network policies, routes and HTTPS_PROXY", timeout)
	case errors.As(err, &operation) && operation.Op == "dial" && operation.Addr != nil:
		failure.advice = fmt.Sprintf("no connection to %s (%s): check network policies, routes and HTTPS_PROXY", operation.Addr, errnoText(err))
	default:
		failure.advice = "the connection ended without a whole answer: it is tried again"
	}
	return failure
}

// errnoText returns the operating system's text for an error, and no other text.
func errnoText(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "unknown"
}
