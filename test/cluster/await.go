package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// patience bounds how long one component may take to come up, on a busy machine too.
const patience = 2 * time.Minute

// await asks until ready returns no error, the component p ends or patience does. The
// error holds the last answer and the end of the component's log.
func await(ctx context.Context, p *process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.death()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last: %w; %s ends with:\n%s", p.name, context.Cause(ctx), err, p.log, tail(p.log))
		case <-time.After(25 * time.Millisecond):
		}
	}
}

func (c *Cluster) awaitEtcd(ctx context.Context, etcd *process) error {
	return await(ctx, etcd, func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path("etcd:2379"))
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

func (c *Cluster) awaitHealth(ctx context.Context, p *process, at *port, path string) error {
	transport, err := rest.TransportFor(c.restConfig)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return await(ctx, p, func(ctx context.Context) error {
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
			return errors.New(path + ": " + response.Status)
		}
		return nil
	})
}

func (c *Cluster) awaitDefaultServiceAccount(ctx context.Context, manager *process) error {
	client, err := kubernetes.NewForConfig(c.restConfig)
	if err != nil {
		return err
	}
	return await(ctx, manager, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}
