// Package distribution runs a real registry, CNCF's distribution, on loopback: with a file of passwords, or with a token service, which is
// the one thing that is made here.
package distribution

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// Address is where registries listen.
const Address = "127.0.0.1"

// Registry is a running registry. Its certificate signed itself.
type Registry struct {
	// Host is its address and port.
	Host        string
	Certificate *Certificate

	dir     string
	storage string // the folder of its images
	command *exec.Cmd
	output  bytes.Buffer
	done    chan struct{}
}

// WithPasswords starts a registry that asks for one of these users' passwords. dir is for all that it writes.
func WithPasswords(ctx context.Context, dir string, passwords map[string]string) (*Registry, error) {
	r := &Registry{dir: dir, storage: filepath.Join(dir, "storage")}
	if err := r.SetPasswords(passwords); err != nil {
		return nil, err
	}
	return r, r.start(ctx, fmt.Sprintf("htpasswd: {realm: registry, path: %q}", r.path("htpasswd")))
}

// WithTokens starts a registry that asks for a token of a service, and has what another one has. dir is for all else that it writes.
func WithTokens(ctx context.Context, dir string, tokens *Tokens, another *Registry) (*Registry, error) {
	r := &Registry{dir: dir, storage: another.storage}
	if err := os.WriteFile(r.path("tokens.crt"), tokens.Certificate.PEM, 0o600); err != nil {
		return nil, err
	}
	return r, r.start(ctx, fmt.Sprintf("token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}",
		tokens.Realm, Service, issuer, r.path("tokens.crt")))
}

func (r *Registry) path(file string) string { return filepath.Join(r.dir, file) }

// SetPasswords makes these users, with their passwords, the only ones that the registry lets in.
func (r *Registry) SetPasswords(passwords map[string]string) error {
	var lines strings.Builder
	for user, password := range passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return fmt.Errorf("hashing a password: %w", err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	// The registry reads the file again when its time changes.
	return os.WriteFile(r.path("htpasswd"), []byte(lines.String()), 0o600)
}

func (r *Registry) start(ctx context.Context, auth string) error {
	path, err := binaries.Find("docker-registry", "registry", "registry", "debian")
	if err != nil {
		return err
	}
	if r.Certificate, err = NewCertificate(Address); err != nil {
		return err
	}
	free, err := process.FreeAddresses(1)
	if err != nil {
		return err
	}
	r.Host = free[0]
	for file, text := range map[string]string{
		"tls.crt": string(r.Certificate.PEM),
		"tls.key": string(r.Certificate.KeyPEM),
		"config.yaml": fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
auth: {%s}
`, r.storage, r.Host, r.path("tls.crt"), r.path("tls.key"), auth),
	} {
		if err := os.WriteFile(r.path(file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	r.command, r.done = exec.Command(path, "serve", r.path("config.yaml")), make(chan struct{})
	r.command.Stdout, r.command.Stderr = &r.output, &r.output
	r.command.SysProcAttr = process.Attributes()
	if err := r.command.Start(); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	go func() {
		_ = r.command.Wait() // what it says is in its output
		close(r.done)
	}()
	return r.await(ctx)
}

// await returns once the registry answers.
func (r *Registry) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Host)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-r.done:
			return fmt.Errorf("the registry ended by itself: %s", r.output.String())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the registry does not answer: %w", err), r.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the registry.
func (r *Registry) Stop() error {
	if err := r.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the registry: %w", err)
	}
	<-r.done
	return nil
}

// Roots trust the registry.
func (r *Registry) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.Certificate.PEM)
	return roots
}

// Push pushes an image of random content to a repository and tag, as in team/app:v1.
func (r *Registry) Push(ctx context.Context, repository, user, password string) error {
	image, err := random.Image(64, 1)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(r.Host + "/" + repository)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.Roots()}}
	defer transport.CloseIdleConnections()
	if err := remote.Write(tag, image, remote.WithContext(ctx), remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		return fmt.Errorf("pushing %s: %w", repository, err)
	}
	return nil
}
