package certs_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

// A replica is one process of the manager, as far as certificates go.
type replica struct {
	*rig
	serving   *certs.Serving
	keeper    *certs.Keeper
	registrar *registration.Registrar
	wire      *wire

	ctx     context.Context // its life
	kill    context.CancelFunc
	running sync.WaitGroup
}

// start starts a replica that does not lead. It ends with the test.
func (r *rig) start() *replica { return r.startOver(&wire{}) }

// startOver starts a replica over the given wire.
func (r *rig) startOver(w *wire) *replica {
	p := &replica{rig: r, wire: w}
	config := r.identity(p.wire)
	httpClient, err := rest.HTTPClientFor(config)
	require.NoError(r, err)
	client, err := clientset.New(config, httpClient)
	require.NoError(r, err)
	p.ctx, p.kill = context.WithCancel(context.WithoutCancel(r.Context()))
	r.Cleanup(func() { p.kill(); p.running.Wait() })

	p.registrar = registration.NewRegistrar(r.cfg.Log, client, registration.Template{
		Namespace: namespace, URL: r.url, FailurePolicy: r.policy,
	}, func(_ context.Context, _ string, template *registration.Template) error {
		template.Owner = &r.owner
		return nil
	})
	p.serving, err = certs.NewServing(client, r.cfg, p.registrar.Published)
	require.NoError(r, err)
	p.keeper = certs.NewKeeper(client, p.serving, p.registrar, r.observer())
	p.running.Go(func() { p.registrar.Run(p.ctx) })
	p.running.Go(func() { p.serving.Run(p.ctx) })
	return p
}

// identity is the manager's, over the given wire.
func (r *rig) identity(w *wire) *rest.Config {
	path, err := plane.KubeconfigFor(manager)
	require.NoError(r, err)
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(r, err)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { w.next = next; return w })
	return config
}

// lead makes the replica keep the certificate until it is killed or resign is called.
func (p *replica) lead() (resign func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan struct{})
	p.running.Go(func() {
		defer close(done)
		defer p.registrar.Withdraw()
		if p.registrar.WaitForSync(ctx) != nil {
			return
		}
		if err := p.registrar.Assume(ctx); err != nil && ctx.Err() == nil {
			p.Errorf("taking over the configurations: %v", err)
		}
		p.keeper.Run(ctx)
	})
	return func() { cancel(); <-done }
}

// served is what the replica answers handshakes with; nil as long as it cannot.
func (p *replica) served() *x509.Certificate {
	got, err := p.serving.GetCertificate(nil)
	if err != nil {
		return nil
	}
	return got.Leaf
}

// promise checks, until it is stopped, that whatever the replicas serve is trusted by both configurations and has not
// expired.
func (r *rig) promise(replicas ...*replica) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	checks := 0
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(15 * time.Millisecond):
			}
			before := make([]*x509.Certificate, len(replicas))
			for i, p := range replicas {
				before[i] = p.served()
			}
			trusted := r.bundles()
			for i, p := range replicas {
				// A replica that swapped between the two looks says nothing about the bundle that was read then.
				leaf := p.served()
				if leaf == nil || !leaf.Equal(before[i]) {
					continue
				}
				for _, bundle := range trusted {
					assert.True(r, slices.ContainsFunc(bundle, leaf.Equal), "replica %d serves %s, which is not trusted", i, leaf.SerialNumber)
				}
				assert.True(r, r.clock.Now().Before(leaf.NotAfter), "replica %d serves %s, which has expired", i, leaf.SerialNumber)
				checks++
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
		assert.Positive(r, checks)
	}
}
