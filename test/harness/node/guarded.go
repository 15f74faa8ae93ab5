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

	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
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
type GuardedRegistry struct{ client *registry.Client }

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
	certificate, pair, err := selfsigned.Pair(GuardedHost)
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
	return &GuardedRegistry{clientAt(GuardedAddress, certificate)}, n.await(ctx, "the registry behind the guard", func() error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", unguarded)
		if err == nil {
			err = connection.Close()
		}
		return err
	})
}

// Pull logs in and pulls an image, as in docker/app:1, layers and all.
func (r *GuardedRegistry) Pull(ctx context.Context, repository, user, password string) error {
	return r.client.Pull(ctx, GuardedHost+"/"+repository, user, password)
}
