package cloud

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// TestFailuresSayWhatToDo goes through what is documented and what a network adds.
func TestFailuresSayWhatToDo(t *testing.T) {
	t.Parallel()
	w := start(t)
	body := strings.Repeat("a body of somebody's ", 3)
	for _, test := range []struct {
		name    string
		failure standin.Failure
		reason  tencentcloud.Reason
		says    string
	}{
		{"unauthorized", standin.Failure{Code: "UnauthorizedOperation", Message: body}, tencentcloud.Unauthorized,
			"allow the action tcr:CreateInstanceToken on the resource qcs::tcr:ap-guangzhou::instance/tcr-demo0001 in the caller's CAM policy"},
		{"unauthorized by the registry", standin.Failure{Code: "InternalError.ErrorTcrUnauthorized", Message: body},
			tencentcloud.Unauthorized, "allow the action"},
		{"a resource that is none", standin.Failure{Code: "UnauthorizedOperation", Message: "resource (qcs::tcr:a body of somebody's) has"},
			tencentcloud.Unauthorized, "qcs::tcr:ap-guangzhou::instance/tcr-demo0001"},
		{"not found", standin.Failure{Code: "ResourceNotFound.TcrResourceNotFound", Message: body}, tencentcloud.InstanceNotFound,
			"region ap-guangzhou has no"},
		{"not running", standin.Failure{Code: "ResourceInsufficient.ErrorInstanceNotRunning", Message: body}, tencentcloud.InstanceNotRunning,
			"start it"},
		{"quota", standin.Failure{Code: "InternalError.ErrorOverLimit", Message: body}, tencentcloud.QuotaExceeded,
			"delete some, or raise the quota"},
		{"limit", standin.Failure{Code: "LimitExceeded", Message: body}, tencentcloud.QuotaExceeded, "(LimitExceeded, request "},
		{"rate", standin.Failure{Code: "RequestLimitExceeded", Message: body}, tencentcloud.RateLimited, "tried again"},
		{"clock", standin.Failure{Code: "AuthFailure.SignatureExpire", Message: body}, tencentcloud.ClockSkew, "set this machine's clock"},
		{"signature", standin.Failure{Code: "AuthFailure.SignatureFailure", Message: body}, tencentcloud.CredentialRejected,
			"the key of the Secret tcr-assistant-system/cam is wrong"},
		{"unsupported", standin.Failure{Code: "UnsupportedOperation", Message: body}, tencentcloud.Unsupported, "correct spec.tcr"},
		{"internal", standin.Failure{Code: "InternalError.DbError", Message: body}, tencentcloud.Internal, "error of the API itself"},
		{"a code that is none", standin.Failure{Code: "a body of somebody's", Message: body}, tencentcloud.Unsupported, "correct spec.tcr"},
		{"a page of a proxy that repeats headers", standin.Failure{Status: 403, Echo: true}, tencentcloud.BadAnswer, "status 403"},
		{"the same page as a success", standin.Failure{Status: 200, Echo: true}, tencentcloud.BadAnswer, "not one of the API"},
		{"the status is kept where the body is no JSON", standin.Failure{Status: 500, Body: body}, tencentcloud.Internal, "status 500"},
		{"a bad gateway", standin.Failure{Status: 502, Body: body}, tencentcloud.Internal, "status 502"},
		{"too many requests", standin.Failure{Status: 429, Body: body}, tencentcloud.RateLimited, "status 429"},
		{"JSON of something else", standin.Failure{Status: 200, Body: `{"message": "a body of somebody's"}`}, tencentcloud.BadAnswer,
			"not one of the API"},
		{"an old error", standin.Failure{Status: 200, Body: `{"Response": {}, "code": 4000, "codeDesc": "eyJx", "message": "eyJy"}`},
			tencentcloud.Unsupported, "correct"},
		{"events in place of an answer", standin.Failure{Status: 200, Body: "data: a body of somebody's\n\n",
			Header: http.Header{"Content-Type": {"text/event-stream"}}}, tencentcloud.BadAnswer, "not one of the API"},
		{"a coding that nobody asked for", standin.Failure{Status: 200, Body: body, Header: http.Header{"Content-Encoding": {"br"}}},
			tencentcloud.BadAnswer, "not one"},
		{"too long an answer", standin.Failure{Status: 200, Body: strings.Repeat(body, 20000)}, tencentcloud.BadAnswer,
			"longer than 1048576 bytes"},
		{"a cut answer", standin.Failure{Cut: true}, tencentcloud.NoRoute, "without a whole answer"},
		{"a lost answer", standin.Failure{Lost: true}, tencentcloud.NoRoute, "without a whole answer"},
		{"a connection that is ended", standin.Failure{Refused: true}, tencentcloud.NoRoute, "without a whole answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.Fail("CreateInstanceToken", 1, test.failure)
			_, err := w.registry().CreateLongTermToken(t.Context(), "x")
			failure := w.failure(err)
			assert.Equal(t, test.reason, failure.Reason)
			assert.ErrorContains(t, err, test.says)
			assert.True(t, strings.HasPrefix(err.Error(), "calling tcr:CreateInstanceToken: "), err)
		})
	}
	assert.Len(t, w.Tokens(demo), 2, "what was cut and what was lost was made")
}

// TestAnswersAreReadForWhatTheyAre reads an answer that is called a stream of events, which the SDK would go on reading.
func TestAnswersAreReadForWhatTheyAre(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Fail("*", 1, standin.Failure{
		Status: 200, Body: `{"Response": {"TotalCount": 0, "Tokens": null}}`, Header: http.Header{"Content-Type": {"text/event-stream"}},
	})
	listed, err := w.registry().Tokens(t.Context())
	require.NoError(t, err)
	assert.Empty(t, listed)
}

func TestPolicyIsQuotedAsItHasToBe(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.SetPolicy(w.key.SecretID)
	failure := w.failure(w.registry().DisableToken(t.Context(), "x"))
	assert.Equal(t, tencentcloud.Unauthorized, failure.Reason)
	assert.Equal(t, "tcr:ModifyInstanceToken", failure.Action)
	assert.Equal(t, "qcs::tcr:ap-guangzhou:uin/100012345678:instance/tcr-demo0001", failure.Resource)
	assert.Equal(t, "UnauthorizedOperation", failure.Code)
}

func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	w := start(t)
	_, err := w.registry().Tokens(t.Context())
	require.NoError(t, err)
	w.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })
	failure := w.failure(func() error { _, err := w.registry().Tokens(t.Context()); return err }())
	assert.Equal(t, tencentcloud.ClockSkew, failure.Reason)
	assert.InDelta(t, time.Hour, failure.Skew, float64(time.Minute))
	assert.Regexp(t, `set this machine's clock: it is (1h0m|59m)\d+s ahead of the API's`, failure.Error())
}

func TestRatesAndQuotas(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.AddRegistry(standin.Registry{ID: demo, Region: region, Quota: 1})
	_, err := w.registry().CreateLongTermToken(t.Context(), "x")
	require.NoError(t, err)
	_, err = w.registry().CreateLongTermToken(t.Context(), "x")
	assert.Equal(t, tencentcloud.QuotaExceeded, w.failure(err).Reason)
	w.SetRate("CreateInstanceToken", 0)
	_, err = w.registry().CreateLongTermToken(t.Context(), "x")
	assert.Equal(t, tencentcloud.RateLimited, w.failure(err).Reason)
}

func TestLateAnswersAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := start(t, func(options *tencentcloud.Options) { options.Timeout = 200 * time.Millisecond })
	w.Fail("*", 0, standin.Failure{Late: time.Minute})
	start := time.Now()
	_, err := w.registry().Tokens(t.Context())
	failure := w.failure(err)
	assert.Equal(t, tencentcloud.NoRoute, failure.Reason)
	assert.ErrorContains(t, err, "no answer within 200ms")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 20*time.Second)
}

func TestCallsCanBeGivenUp(t *testing.T) {
	t.Parallel()
	w := start(t, func(options *tencentcloud.Options) { options.Timeout = time.Minute })
	w.Fail("*", 0, standin.Failure{Late: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := w.registry().Tokens(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_ = w.failure(err) // which looks for secrets in it
}

func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	for _, test := range []struct{ name, endpoint, says string }{
		{"a closed port", "https://" + address, "no connection to " + address + " (connection refused): check network policies"},
		{"no such name", "https://api.invalid", `the name "api.invalid" does not resolve`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, func(options *tencentcloud.Options) { options.Endpoint = test.endpoint })
			_, err := w.registry().Tokens(t.Context())
			assert.Equal(t, tencentcloud.NoRoute, w.failure(err).Reason)
			assert.ErrorContains(t, err, test.says)
		})
	}
}

func TestAuthoritiesAreNeeded(t *testing.T) {
	t.Parallel()
	w := start(t, func(options *tencentcloud.Options) { options.CAFile = "" })
	_, err := w.registry().Tokens(t.Context())
	assert.Equal(t, tencentcloud.NoRoute, w.failure(err).Reason)
	assert.ErrorContains(t, err, "--tencentcloud-ca-file")

	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = tencentcloud.New(tencentcloud.Options{CAFile: empty})
	assert.ErrorContains(t, err, "holds no PEM certificate")
}

func TestEndpointsAreChecked(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"tcr.tencentcloudapi.com", "ftp://a", "https://user:eyJx@a", "https://a/b", "https://a?b", "http://a",
		"https://%zz"} {
		_, err := tencentcloud.New(tencentcloud.Options{Endpoint: endpoint})
		require.ErrorContains(t, err, "reading the endpoint of the cloud's API: must be a URL of https and a host alone", endpoint)
		assert.NotContains(t, err.Error(), "eyJx")
	}
	for _, endpoint := range []string{"https://{service}.internal.tencentcloudapi.com", "https://a:8443/", "https://127.0.0.1:1"} {
		_, err := tencentcloud.New(tencentcloud.Options{Endpoint: endpoint})
		assert.NoError(t, err)
	}
	_, err := tencentcloud.New(tencentcloud.Options{MetadataEndpoint: "169.254.0.23"})
	require.ErrorContains(t, err, "reading the endpoint of the metadata service: must be a URL of http or https and a host alone")
}

// TestRedirectionsAreNotFollowed holds the signature back from whoever is named.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	w := start(t)
	w.Fail("*", 1, standin.Failure{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {elsewhere.URL}}})
	_, err := w.registry().Tokens(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
	assert.Zero(t, asked.Load())
}

func TestProxiesOfTheEnvironment(t *testing.T) {
	cloud := start(t)
	for _, test := range []struct {
		name   string
		status int
		says   string
	}{
		{"it is gone through", http.StatusOK, ""},
		{"it refuses", http.StatusProxyAuthRequired, "the proxy of HTTPS_PROXY lets nothing through (status 407)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			way, err := cloud.StartProxy()
			require.NoError(t, err)
			way.Refuse(test.status)
			at, err := url.Parse(way.URL())
			require.NoError(t, err)
			at.User = url.UserPassword("somebody", "eyJpassword")
			t.Setenv("HTTPS_PROXY", at.String())
			client, err := tencentcloud.New(tencentcloud.Options{CAFile: cloud.caFile})
			require.NoError(t, err)
			registry := client.Registry(client.GivenCaller(cloud.key.SecretID, cloud.key.SecretKey, "x"), region, demo)
			_, err = registry.Domain(t.Context())
			assert.Equal(t, []string{"tcr.tencentcloudapi.com:443"}, way.Asked())
			if test.says == "" {
				require.NoError(t, err, "it was asked for tcr.tencentcloudapi.com, and the signature is of that name")
				return
			}
			assert.Equal(t, tencentcloud.NoRoute, cloud.failure(err).Reason)
			assert.ErrorContains(t, err, test.says)
		})
	}
	t.Run("what is no address of a proxy is not repeated", func(t *testing.T) {
		t.Setenv("HTTPS_PROXY", "http://somebody:eyJpass word@\x7f")
		client, err := tencentcloud.New(tencentcloud.Options{CAFile: cloud.caFile})
		require.NoError(t, err)
		_, err = client.Registry(client.GivenCaller(cloud.key.SecretID, cloud.key.SecretKey, "x"), region, demo).Domain(t.Context())
		_ = cloud.failure(err) // which looks for secrets in it
	})
}

// TestNothingIsWrittenToStandardError holds the SDK to it, which has loggers of its own.
func TestNothingIsWrittenToStandardError(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	before := os.Stderr
	os.Stderr = file
	log.SetOutput(file)
	defer func() { os.Stderr = before; log.SetOutput(before) }()
	w := start(t)
	for _, failure := range []standin.Failure{{}, {Code: "RequestLimitExceeded"}, {Status: 500, Body: "x"}, {Cut: true}, {Refused: true},
		{Status: 200, Echo: true}} {
		w.Fail("*", 1, failure)
		_, _ = w.registry().Tokens(t.Context())
	}
	_, _ = w.client.AmbientCaller(func(string) string { return "x" }).Keys(t.Context())
	require.NoError(t, file.Close())
	written, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	assert.Empty(t, string(written))
}

func TestBackoffs(t *testing.T) {
	t.Parallel()
	transient, lasting := &tencentcloud.Error{Reason: tencentcloud.NoRoute}, &tencentcloud.Error{Reason: tencentcloud.Unauthorized}
	assert.Equal(t, 2*time.Second, transient.Backoff(1, 0))
	assert.Equal(t, 4*time.Second, transient.Backoff(2, 0))
	for failures := range 100 {
		assert.LessOrEqual(t, transient.Backoff(failures, 0.999), time.Minute)
		assert.LessOrEqual(t, lasting.Backoff(failures, 0.999), 10*time.Minute)
		assert.LessOrEqual(t, transient.Backoff(failures, 0), transient.Backoff(failures+1, 0))
		assert.Less(t, transient.Backoff(failures, 0), transient.Backoff(failures, 0.5), "they spread")
	}
	assert.False(t, errors.Is(lasting, context.Canceled))
}
