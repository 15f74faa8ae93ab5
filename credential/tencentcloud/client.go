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
	// DefaultEndpoint is the URL of the API. {service} is replaced by the name of the service.
	DefaultEndpoint = "https://{service}.tencentcloudapi.com"
	// DefaultMetadataEndpoint is the URL of the metadata service of a machine of the cloud.
	DefaultMetadataEndpoint = "http://metadata.tencentyun.com"
	// timeout is how long one call may take, from the connection to the last byte.
	timeout = 15 * time.Second
	// perSecond and burst limit the calls of an action, per second and at once.
	perSecond, burst = 10, 5
)

// Options say how to reach the API. The zero value is right on a machine of the cloud.
type Options struct {
	// Endpoint is the base URL of all services; DefaultEndpoint if it is blank. It may contain {service}.
	Endpoint string
	// MetadataEndpoint is the base URL of the metadata service; DefaultMetadataEndpoint if it is blank.
	MetadataEndpoint string
	// CAFile names a file of PEM certificates that are trusted in addition to those of the system.
	CAFile string
	// Timeout is how long a call may take; 15 s if it is 0.
	Timeout time.Duration
	// PerSecond limits the calls of an action per second; 10 if it is 0. For most actions the cloud allows 20, for all programs of an account
	// together.
	PerSecond int
	// Now is the clock; nil for the machine's. Signatures always use the machine's.
	Now func() time.Time
}

// Client calls the API. It keeps connections, but no credential. Its methods are safe for concurrent use.
type Client struct {
	endpoint, metadata string
	api, local         http.RoundTripper
	timeout            time.Duration
	perSecond          int
	now                func() time.Time

	mu     sync.Mutex
	limits map[string]flowcontrol.RateLimiter // by action
}

// New returns a client. Its proxies are those of the environment: HTTPS_PROXY and NO_PROXY. It never uses one for the metadata service.
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
	if err := checkBase(&c.endpoint, "https"); err != nil { // its answers contain passwords
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

// checkBase checks that a base URL consists of a scheme and a host, and removes a trailing slash. Its error does not quote the URL, which
// may contain a password.
func checkBase(base *string, schemes ...string) error {
	*base = strings.TrimSuffix(*base, "/")
	parsed, err := url.Parse(strings.ReplaceAll(*base, "{service}", "tcr"))
	if err != nil || !slices.Contains(schemes, parsed.Scheme) || parsed.Host == "" || parsed.User != nil ||
		parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("must be a URL of %s and a host alone", strings.Join(schemes, " or "))
	}
	return nil
}

// authorities returns the system's certificate authorities and those of a file; nil for the system's alone.
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

// apiTransport returns a transport that keeps few connections, since calls are rare.
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
	// keys sign it; nil if it is not signed.
	keys       *Keys
	parameters map[string]any
	// resource is what it acts on, for the message if it is refused.
	resource string
}

// name returns the action as policies spell it.
func (c call) name() string { return c.service + ":" + c.action }

// send sends a request and decodes the field Response of the answer into response, which is a pointer.
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
				advice: "the answer is not as documented: check what is in between, such as a proxy"}
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
			advice: "too many calls are waiting: it is tried again"}
	}
	return nil
}

// explain turns an error of the SDK into one that may be shown.
func (c *Client) explain(made call, through *exchange, err error) error {
	if through.failure != nil {
		through.failure.Action, through.failure.Region = made.name(), made.region
		return through.failure
	}
	var answered *sdkerrors.TencentCloudSDKError
	if !errors.As(err, &answered) || strings.HasPrefix(answered.Code, "ClientError") {
		return &Error{Reason: BadAnswer, Action: made.name(), Region: made.region, advice: "no answer came from the API"}
	}
	skew := time.Duration(0)
	if !through.date.IsZero() {
		skew = c.now().Sub(through.date).Round(time.Second)
	}
	return classify(made, answered.Code, answered.Message, answered.RequestId, skew)
}

// silence is a logger for the SDK that logs nothing.
type silence struct{}

// Printf writes nothing.
func (silence) Printf(string, ...any) {}
