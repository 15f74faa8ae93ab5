//go:build linux

package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

const (
	// GuardedHost is the name of the guarded registry. No DNS knows it.
	GuardedHost = "cloud.tencentcloudcr.com"
	// GuardedAddress is where it is on the node's network.
	GuardedAddress = "10.200.0.30"
	// unguarded is where the registry behind the guard is.
	unguarded = "127.0.0.1:5000"
)

// GuardedRegistry is a registry on GuardedAddress, whose certificate the node trusts, and of which somebody else says whom it lets in.
type GuardedRegistry struct{ transport *http.Transport }

// StartGuardedRegistry starts one that has the images of a registry, behind a guard.
func (n *Node) StartGuardedRegistry(
	ctx context.Context, of *Registry, guard func(inside http.Handler) http.Handler,
) (*GuardedRegistry, error) {
	config := of.path("guarded.yaml")
	if err := write(config, fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %q}, maintenance: {readonly: {enabled: true}}}
http: {addr: %q}
`, of.path("storage"), unguarded)); err != nil {
		return nil, fmt.Errorf("starting the guarded registry: %w", err)
	}
	if err := n.run("/usr/bin/docker-registry", "docker-registry-guarded", "serve", config); err != nil {
		return nil, err
	}
	certificate, key, err := selfsigned.New(GuardedHost)
	if err != nil {
		return nil, fmt.Errorf("starting the guarded registry: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("starting the guarded registry: %w", err)
	}
	if err := trust(GuardedHost, certificate); err != nil {
		return nil, fmt.Errorf("starting the guarded registry: %w", err)
	}
	listener, err := tls.Listen("tcp", net.JoinHostPort(GuardedAddress, "443"), &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return nil, fmt.Errorf("starting the guarded registry: %w", err)
	}
	n.guarded = &http.Server{
		Handler:           guard(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: unguarded})),
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { _ = n.guarded.Serve(listener) }() // it ends with the node
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return &GuardedRegistry{clientOf(certificate, GuardedAddress)}, n.await(ctx, "the registry behind the guard", func() error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", unguarded)
		if err == nil {
			err = connection.Close()
		}
		return err
	})
}

// Pull logs in and asks for an image, as in docker/app:1.
func (r *GuardedRegistry) Pull(ctx context.Context, repository, user, password string) error {
	tag, err := name.NewTag(GuardedHost + "/" + repository)
	if err == nil {
		_, err = remote.Image(tag, remote.WithContext(ctx), remote.WithTransport(r.transport),
			remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	}
	if err != nil {
		return fmt.Errorf("pulling %s: %w", repository, err)
	}
	return nil
}
