package cluster

import (
	"context"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// patience bounds how long one component may take to come up, on a busy machine too.
const patience = 2 * time.Minute

// await asks until ready returns no error, or some component ends, or patience does.
func (c *Cluster) await(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if dead := c.dead(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; the last answer was: %w", what, context.Cause(ctx), err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// dead returns an error if the cluster was stopped or one of its components ended by
// itself; then the error holds the end of the component's log.
func (c *Cluster) dead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.halted {
		return errStopped
	}
	for _, p := range []*process.Process{c.etcd, c.apiServer, c.controllerManager} {
		if p == nil {
			continue
		}
		select {
		case <-p.Ended():
			return p.Death()
		default:
		}
	}
	return nil
}

func (c *Cluster) awaitHealth(ctx context.Context, name string, at *port, path string) error {
	transport, err := rest.TransportFor(c.restConfig)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return c.await(ctx, name, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(at)+path, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, response.Status)
		}
		return nil
	})
}

func (c *Cluster) awaitDefaultServiceAccount(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.restConfig)
	if err != nil {
		return err
	}
	return c.await(ctx, "the controller manager's first service account", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}
