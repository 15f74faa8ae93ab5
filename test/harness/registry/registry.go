// Package registry runs the CNCF's registry on loopback. It lets in whoever has a token of its token service, which asks somebody
// else whether a name and a password are good: the cloud to test with, for one.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// patience bounds how long it may take to come up, on a busy machine too.
const patience = time.Minute

// Options say how a registry is started.
type Options struct {
	// Dir is for all that it writes.
	Dir string
	// Hosts are its names, which lead nowhere.
	Hosts []string
	// LetsIn says whether a password is good.
	LetsIn func(user, password string) bool
}

// Registry is a running one.
type Registry struct {
	dir       string
	tokens    *tokenService
	command   *exec.Cmd
	ended     chan struct{}
	transport *http.Transport
}

// Start starts a registry, and returns once it answers.
func Start(ctx context.Context, options Options) (r *Registry, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a registry: %w", err), r.Stop())
		}
	}()
	r = &Registry{dir: options.Dir}
	binary, err := binaries.Find("docker-registry", "registry", "debian")
	if err != nil {
		return r, err
	}
	if r.tokens, err = startTokens(options); err != nil {
		return r, err
	}
	free, err := process.FreeAddresses(1)
	if err != nil {
		return r, err
	}
	address := free[0]
	certificate, key, err := selfsigned.New(options.Hosts...)
	if err != nil {
		return r, err
	}
	for file, text := range map[string]string{
		"tls.crt": string(certificate), "tls.key": string(key), "tokens.crt": string(r.tokens.certificate),
		"config.yaml": fmt.Sprintf(`version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
auth: {token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}}
`, r.path("storage"), address, r.path("tls.crt"), r.path("tls.key"), r.tokens.url, service, issuer, r.path("tokens.crt")),
	} {
		if err := os.WriteFile(r.path(file), []byte(text), 0o600); err != nil {
			return r, err
		}
	}
	if err := r.run(binary); err != nil {
		return r, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	trusted.AppendCertsFromPEM(r.tokens.certificate)
	r.transport = &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trusted},
		DialContext: func(ctx context.Context, network, asked string) (net.Conn, error) {
			at := address
			if strings.HasPrefix(asked, "tokens.") {
				at = r.tokens.address
			}
			return (&net.Dialer{}).DialContext(ctx, network, at)
		},
	}
	return r, r.await(ctx, options.Hosts[0])
}

func (r *Registry) path(file string) string { return filepath.Join(r.dir, file) }

// run runs the registry's program.
func (r *Registry) run(binary string) error {
	log, err := os.Create(r.path("registry.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the program has its own
	command := exec.Command(binary, "serve", r.path("config.yaml"))
	command.Stdout, command.Stderr, command.SysProcAttr = log, log, process.Attributes()
	if err := command.Start(); err != nil {
		return err
	}
	r.command, r.ended = command, make(chan struct{})
	go func() {
		_ = command.Wait() // what it says is in command.ProcessState
		close(r.ended)
	}()
	return nil
}

// await returns once the registry asks who one is.
func (r *Registry) await(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
		if err != nil {
			return err
		}
		answer, err := r.transport.RoundTrip(request)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusUnauthorized {
				return nil
			}
			err = errors.New(answer.Status)
		}
		select {
		case <-r.ended:
			return fmt.Errorf("it ended: %s", r.command.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the registry at once.
func (r *Registry) Stop() error {
	var all error
	if r.command != nil {
		if err := r.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			all = fmt.Errorf("stopping the registry: %w", err)
		}
		<-r.ended
	}
	if r.transport != nil {
		r.transport.CloseIdleConnections()
	}
	if r.tokens != nil {
		all = errors.Join(all, r.tokens.server.Close())
	}
	return all
}

// as returns how a registry is asked by somebody, who logs in anew.
func (r *Registry) as(ctx context.Context, user, password string) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(r.transport), remote.WithAuth(&authn.Basic{Username: user, Password: password}),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
}

// Push pushes an image under a name such as r.example.com/team/app:1.
func (r *Registry) Push(ctx context.Context, image string, content v1.Image, user, password string) error {
	tag, err := name.NewTag(image)
	if err == nil {
		err = remote.Write(tag, content, r.as(ctx, user, password)...)
	}
	if err != nil {
		return fmt.Errorf("pushing %s: %w", image, err)
	}
	return nil
}

// Pull logs in and pulls an image, layers and all.
func (r *Registry) Pull(ctx context.Context, image, user, password string) error {
	err := func() error {
		tag, err := name.NewTag(image)
		if err != nil {
			return err
		}
		content, err := remote.Image(tag, r.as(ctx, user, password)...)
		if err != nil {
			return err
		}
		layers, err := content.Layers()
		for _, layer := range layers {
			err = errors.Join(err, read(layer))
		}
		return err
	}()
	if err != nil {
		return fmt.Errorf("pulling %s: %w", image, err)
	}
	return nil
}

func read(layer v1.Layer) error {
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, content)
	return errors.Join(err, content.Close())
}

// Refused says whether somebody was not let in.
func Refused(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusUnauthorized
}
