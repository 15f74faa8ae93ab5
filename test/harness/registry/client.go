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

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Client asks registries whose names lead nowhere. It logs in anew each time.
type Client struct{ transport *http.Transport }

// NewClient returns a client that trusts some certificates, in PEM. where returns the address of what is asked for; both are a host and a
// port.
func NewClient(trusted []byte, where func(asked string) (address string)) *Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	return &Client{&http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, asked string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, where(asked))
		},
	}}
}

// as returns how a registry is asked by somebody.
func (c *Client) as(ctx context.Context, user, password string) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(c.transport), remote.WithAuth(&authn.Basic{Username: user, Password: password}),
	}
}

// Login asks the registry of a host whether it lets a user in, and returns the status of its answer. Nobody has no name.
func (c *Client) Login(ctx context.Context, host, user, password string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return 0, err
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return 0, fmt.Errorf("asking the registry: %w", err)
	}
	return response.StatusCode, response.Body.Close()
}

// Push pushes an image under a name such as r.example.com/team/app:1.
func (c *Client) Push(ctx context.Context, image string, content v1.Image, user, password string) error {
	tag, err := name.NewTag(image)
	if err == nil {
		err = remote.Write(tag, content, c.as(ctx, user, password)...)
	}
	if err != nil {
		return fmt.Errorf("pushing %s: %w", image, err)
	}
	return nil
}

// Pull logs in and pulls an image, layers and all. It tries once, so that no failure stays unseen.
func (c *Client) Pull(ctx context.Context, image, user, password string) error {
	err := func() error {
		tag, err := name.NewTag(image)
		if err != nil {
			return err
		}
		content, err := remote.Image(tag, append(c.as(ctx, user, password), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))...)
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
