//go:build linux

package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// RegistryHost is the registry's name. No DNS knows it.
const RegistryHost = "demo.tencentcloudcr.com"

// Registry is a private registry on RegistryAddress, which asks everybody for a name and a password, and whose certificate
// the node trusts.
type Registry struct {
	dir    string
	client *registry.Client
}

// StartRegistry starts the registry with one user.
func (n *Node) StartRegistry(ctx context.Context, user, password string) (*Registry, error) {
	r := &Registry{dir: filepath.Join(n.dir, "registry")}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	certificate, key, err := selfsigned.New(RegistryHost)
	if err != nil {
		return nil, fmt.Errorf("starting the registry: %w", err)
	}
	if err := trust(RegistryHost, certificate); err != nil {
		return nil, fmt.Errorf("starting the registry: %w", err)
	}
	for path, text := range map[string]string{
		r.path("tls.crt"): string(certificate),
		r.path("tls.key"): string(key),
		r.path("config.yaml"): fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
auth: {htpasswd: {realm: %q, path: %q}}
`, r.path("storage"), net.JoinHostPort(RegistryAddress, "443"), r.path("tls.crt"), r.path("tls.key"), RegistryHost, r.path("htpasswd")),
	} {
		if err := write(path, text); err != nil {
			return nil, fmt.Errorf("starting the registry: %w", err)
		}
	}
	if err := r.SetPassword(user, password); err != nil {
		return nil, err
	}
	if err := n.run("/usr/bin/docker-registry", "docker-registry", "serve", r.path("config.yaml")); err != nil {
		return nil, err
	}
	r.client = clientAt(RegistryAddress, certificate)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r, n.await(ctx, "the registry", func() error {
		_, err := r.Login(ctx, user, password)
		return err
	})
}

// trust has the container runtime trust a registry by its certificate.
func trust(host string, certificate []byte) error {
	authority := filepath.Join(registryHosts, host, "ca.crt")
	if err := write(authority, string(certificate)); err != nil {
		return err
	}
	return write(filepath.Join(registryHosts, host, "hosts.toml"), fmt.Sprintf("server = %q\nca = %q\n", "https://"+host, authority))
}

// clientAt returns what reaches a registry of the node's network.
func clientAt(address string, certificate []byte) *registry.Client {
	return registry.NewClient(certificate, func(string) string { return net.JoinHostPort(address, "443") })
}

func (r *Registry) path(file string) string { return filepath.Join(r.dir, file) }

// SetPassword makes a user with a password the only one that the registry lets in.
func (r *Registry) SetPassword(user, password string) error {
	text, err := registry.Htpasswd(map[string]string{user: password})
	if err != nil {
		return err
	}
	// The registry reads the file again when its time changes.
	return write(r.path("htpasswd"), text)
}

// Login asks the registry whether it lets a user in, and returns the status of its answer.
func (r *Registry) Login(ctx context.Context, user, password string) (status int, err error) {
	return r.client.Login(ctx, RegistryHost, user, password)
}

// Push pushes an image to a repository and tag, as in docker/app:1.
func (r *Registry) Push(ctx context.Context, repository string, image v1.Image, user, password string) error {
	return r.client.Push(ctx, RegistryHost+"/"+repository, image, user, password)
}

// Requests returns how many lines of the registry's log hold all of some texts.
func (n *Node) Requests(texts ...string) (int, error) {
	log, err := os.ReadFile(filepath.Join(n.logDir(), "docker-registry.log"))
	if err != nil {
		return 0, err
	}
	count := 0
lines:
	for line := range strings.Lines(string(log)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		count++
	}
	return count, nil
}
