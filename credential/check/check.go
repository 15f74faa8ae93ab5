// Package check logs in to a registry as a kubelet's container runtime would, and reports the result. It never quotes a registry's answer:
// that may contain what was sent, such as the password.
package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// Login is a credential, and where and how to try it.
type Login struct {
	// Server is the registry's host, as an ImagePullSecret has it.
	Server             string
	Username, Password string
	// Image, if set, is one that the credential should be able to pull: its name as in a pod, or without the host. If its host is another one,
	// no request is made.
	Image string
	// Realms are the hosts outside of the server's own domain that the credential may be sent to.
	Realms []string
	// Roots, if set, are the certificate authorities to trust for the registry, instead of those of the system.
	Roots *x509.CertPool
}

// Verdict is whether a registry takes a credential.
type Verdict string

// The verdicts of a check.
const (
	Valid   Verdict = "Valid"
	Refused Verdict = "Refused"
	Unknown Verdict = "Unknown"
)

// Result is the result of a check. It contains no part of a credential.
type Result struct {
	Verdict Verdict `json:"verdict"`
	// Reason is one word in CamelCase. Message says who answered what, and what to do.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Limits on a registry's answers.
const (
	patience   = 20 * time.Second
	maxHeaders = 64 << 10
	maxBody    = 1 << 20
)

// hub is where Docker Hub answers.
const hub = "registry-1.docker.io"

// accepted lists the media types of manifests that a kubelet's container runtime asks for.
var accepted = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// Run logs in. If a token service lets it in, Run asks again without the credential, to compare. It sends the credential only over HTTPS,
// only to the server's own registrable domain and the listed realms, and follows no redirect.
func Run(ctx context.Context, login Login) Result {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if host := image.HostOf(login.Image); host != "" && !image.IsOf(login.Image, login.Server) {
		return Result{Unknown, "ImageElsewhere", fmt.Sprintf(
			"the image %q is on %s, which is none of the servers: begin its name with one of them, or write the path alone", login.Image, host)}
	}
	path, err := login.path()
	if err != nil {
		return Result{Unknown, "ImageNameInvalid", err.Error()}
	}
	guard := login.guard()
	status, err := login.attempt(ctx, guard, auth.Credential{Username: login.Username, Password: login.Password}, path)
	result := login.judge(guard, status, err)
	if result.Verdict == Valid && guard.token != "" {
		return login.compared(ctx, result, path, guard.token)
	}
	return result
}

// guard returns a new guard.
func (l *Login) guard() *guard {
	return &guard{next: l.transport(), host: l.host(), realms: l.Realms, password: l.Password}
}

// attempt requests a path with that credential, through the guard.
func (l *Login) attempt(ctx context.Context, guard *guard, as auth.Credential, path string) (status int, err error) {
	client := &auth.Client{
		Client:     &http.Client{Transport: guard, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Cache:      auth.NewCache(),
		Credential: func(context.Context, string) (auth.Credential, error) { return as, nil },
	}
	method := http.MethodHead
	if l.Image == "" {
		method = http.MethodGet
	}
	status, err = ask(ctx, client, method, guard.host, path)
	if err == nil && method == http.MethodHead && (status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented) {
		return ask(ctx, client, http.MethodGet, guard.host, path)
	}
	return status, err
}

// transport returns a transport for this check alone: each check trusts its own certificate authorities.
func (l *Login) transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes, transport.DisableKeepAlives = maxHeaders, true
	transport.TLSClientConfig = &tls.Config{RootCAs: l.Roots, MinVersion: tls.VersionTLS12}
	transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, response *http.Response) error {
		if response.StatusCode != http.StatusOK {
			return &proxyError{response.StatusCode}
		}
		return nil
	}
	return transport
}

func ask(ctx context.Context, client *auth.Client, method, host, path string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, "https://"+host+path, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", accepted)
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// host returns the host to ask.
func (l *Login) host() string {
	if l.Server == image.DockerHub || l.Server == "docker.io" {
		return hub
	}
	return l.Server
}

// path returns the path to ask for: the base of the API, or the manifest of the image.
func (l *Login) path() (string, error) {
	if l.Image == "" {
		return "/v2/", nil
	}
	name, err := image.ParseAt(l.Image, l.Server)
	if err != nil {
		return "", fmt.Errorf("%q is not an image name: write one such as team/app:v1", l.Image)
	}
	return "/v2/" + name.Path + "/manifests/" + name.Version, nil
}
