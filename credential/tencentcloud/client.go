package tencentcloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	sdkhttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
	"golang.org/x/net/http/httpproxy"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// DefaultEndpoint is where the API is. What stands in braces is replaced by the name of the service.
	DefaultEndpoint = "https://{service}.tencentcloudapi.com"
	// DefaultMetadataEndpoint is where a machine of the cloud finds what is known of it.
	DefaultMetadataEndpoint = "http://metadata.tencentyun.com"
	// timeout is how long one call may take, from the connection to the last byte.
	timeout = 15 * time.Second
	// perSecond and burst are how often an action is called in a second, and at once.
	perSecond, burst = 10, 5
)

// Options say how the API is reached. The zero value is right on a machine of the cloud.
type Options struct {
	// Endpoint is the base URL of all services, DefaultEndpoint where it is blank. It may hold {service}.
	Endpoint string
	// MetadataEndpoint is the base URL of the metadata service, DefaultMetadataEndpoint where it is blank.
	MetadataEndpoint string
	// CAFile names a file of PEM certificates that are trusted beside those of the system.
	CAFile string
	// Timeout is how long a call may take; 15 s where it is 0.
	Timeout time.Duration
	// PerSecond is how often an action is called in a second; 10 where it is 0. The cloud answers 20 calls of most actions, to all programs of
	// an account together.
	PerSecond int
	// Now is the clock; nil for that of the machine. Signatures always go by the machine's.
	Now func() time.Time
}

// Client calls the API. It keeps connections, and no credential. Its methods may be called from several goroutines.
type Client struct {
	endpoint, metadata string
	api, local         http.RoundTripper
	timeout            time.Duration
	perSecond          int
	now                func() time.Time

	mu     sync.Mutex
	limits map[string]flowcontrol.RateLimiter // by action
}

// New returns a client. Proxies are those of the environment: HTTPS_PROXY and NO_PROXY. The metadata service is never asked through
// one.
func New(options Options) (*Client, error) {
	c := &Client{
		endpoint: options.Endpoint, metadata: options.MetadataEndpoint, timeout: options.Timeout, now: options.Now,
		perSecond: options.PerSecond, limits: map[string]flowcontrol.RateLimiter{},
	}
	if c.endpoint == "" {
		c.endpoint = DefaultEndpoint
	}
	if c.metadata == "" {
		c.metadata = DefaultMetadataEndpoint
	}
	if c.timeout == 0 {
		c.timeout = timeout
	}
	if c.perSecond == 0 {
		c.perSecond = perSecond
	}
	if c.now == nil {
		c.now = time.Now
	}
	if err := checkBase(&c.endpoint, "https"); err != nil { // what it answers with are passwords
		return nil, fmt.Errorf("reading the endpoint of the cloud's API: %w, such as %s", err, DefaultEndpoint)
	}
	if err := checkBase(&c.metadata, "http", "https"); err != nil {
		return nil, fmt.Errorf("reading the endpoint of the metadata service: %w, such as %s", err, DefaultMetadataEndpoint)
	}
	trusted, err := authorities(options.CAFile)
	if err != nil {
		return nil, err
	}
	c.api = apiTransport(trusted)
	c.local = &http.Transport{DisableKeepAlives: true}
	return c, nil
}

// checkBase holds a base URL to a scheme and a host, and takes a slash from its end. It does not repeat what it refuses, which may
// hold a password.
func checkBase(base *string, schemes ...string) error {
	*base = strings.TrimSuffix(*base, "/")
	parsed, err := url.Parse(strings.ReplaceAll(*base, "{service}", "tcr"))
	if err != nil || !slices.Contains(schemes, parsed.Scheme) || parsed.Host == "" || parsed.User != nil ||
		parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("must be a URL of %s and a host alone", strings.Join(schemes, " or "))
	}
	return nil
}

// authorities returns the system's with those of a file; nil for the system's alone.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the cloud's certificate authorities: %w", err)
	}
	trusted, err := x509.SystemCertPool()
	if err != nil {
		trusted = x509.NewCertPool()
	}
	if !trusted.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the cloud's certificate authorities: %s holds no PEM certificate", file)
	}
	return trusted, nil
}

// apiTransport returns one that keeps few connections, for calls are rare.
func apiTransport(trusted *x509.CertPool) *http.Transport {
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	return &http.Transport{
		Proxy:               func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		TLSClientConfig:     &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        2, MaxConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return proxyRefusal{answer.StatusCode}
			}
			return nil
		},
	}
}

// call is one request to the API.
type call struct {
	service, version, action, region string
	// keys sign it; nil where it is not signed.
	keys       *Keys
	parameters map[string]any
	// resource is what it is about, for the message where it is refused.
	resource string
}

// name is the action as policies spell it.
func (c call) name() string { return c.service + ":" + c.action }

// send sends a request and decodes the answer into response, a pointer to what stands in Response.
func (c *Client) send(ctx context.Context, made call, response any) error {
	if err := c.wait(ctx, made); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	through := &exchange{next: c.api, timeout: c.timeout}
	base, err := url.Parse(strings.ReplaceAll(c.endpoint, "{service}", made.service))
	if err != nil { // New has read it
		return err
	}
	settings := profile.NewClientProfile()
	settings.Language = "en-US"
	settings.HttpProfile.Scheme, settings.HttpProfile.Endpoint, settings.HttpProfile.ReqTimeout = base.Scheme, base.Host, 0
	var signer common.CredentialIface
	if made.keys != nil {
		signer = common.NewTokenCredential(made.keys.SecretID, made.keys.SecretKey, made.keys.Token)
	}
	client := common.NewCommonClient(signer, made.region, settings).WithHttpTransport(through).WithLogger(silence{})
	request := sdkhttp.NewCommonRequest(made.service, made.version, made.action)
	request.SetContext(ctx)
	request.SetSkipSign(made.keys == nil)
	if err := request.SetActionParameters(made.parameters); err != nil {
		return &Error{Reason: Internal, Action: made.name(), advice: "the request could not be encoded"}
	}
	err = client.Send(request, sdkhttp.NewCommonResponse())
	if err == nil {
		err = json.Unmarshal(through.body, &struct{ Response any }{response})
		if err != nil {
			return &Error{Reason: BadAnswer, Action: made.name(),
				advice: "the answer is not as documented: see what stands between, such as a proxy"}
		}
		return nil
	}
	return c.explain(made, through, err)
}

// wait waits until an action may be called again.
func (c *Client) wait(ctx context.Context, made call) error {
	c.mu.Lock()
	limiter, found := c.limits[made.name()]
	if !found {
		limiter = flowcontrol.NewTokenBucketRateLimiter(float32(c.perSecond), burst)
		c.limits[made.name()] = limiter
	}
	c.mu.Unlock()
	if err := limiter.Wait(ctx); err != nil {
		return &Error{Reason: RateLimited, Action: made.name(), Region: made.region, cause: ctx.Err(),
			advice: "other calls come first: it is tried again"}
	}
	return nil
}

// explain turns what the SDK says into an error that may be shown.
func (c *Client) explain(made call, through *exchange, err error) error {
	if through.failure != nil {
		through.failure.Action, through.failure.Region = made.name(), made.region
		return through.failure
	}
	var answered *sdkerrors.TencentCloudSDKError
	if !errors.As(err, &answered) || strings.HasPrefix(answered.Code, "ClientError") {
		return &Error{Reason: BadAnswer, Action: made.name(), Region: made.region, advice: "no answer of the API came"}
	}
	skew := time.Duration(0)
	if !through.date.IsZero() {
		skew = c.now().Sub(through.date).Round(time.Second)
	}
	return classify(made, answered.Code, answered.Message, answered.RequestId, skew)
}

// silence is where the SDK logs to.
type silence struct{}

// Printf writes nothing.
func (silence) Printf(string, ...any) {}
