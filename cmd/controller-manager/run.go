package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/derived"
	"github.com/tcr-assistant/tcr-assistant/metrics"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// clusterRole owns the cluster-scoped objects that this process writes: when an uninstall deletes the role, the cluster's
// garbage collector deletes them.
const clusterRole = "tcr-assistant-manager-role"

// run wires the packages and runs them until ctx ends: first leadership is handed over, then, after the shutdown delay, the
// servers drain.
func run(ctx context.Context, log *slog.Logger, o *options) error {
	client, imagePullSecrets, attachments, err := connect(o)
	if err != nil {
		return err
	}
	owner := ownership(log, client)
	if _, err := owner(ctx); err != nil {
		return err // better told at once than by whoever needs it first
	}

	// Everything below lives until background ends, which is after the servers have drained.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	index := pullsecret.NewIndex()
	follower := reconcile.NewFollower(log, imagePullSecrets, index)
	var keeper *certs.Keeper
	registrar := webhook.NewRegistrar(log, client, webhook.Template{
		Namespace: o.namespace, URL: o.webhookURL, Self: ownName(ctx, log, client),
		FailurePolicy: admissionregistrationv1.FailurePolicyType(o.failurePolicy),
	}, owner, func() { keeper.Wake() })
	var serving *certs.Serving
	counts := metrics.New(version, func() (*x509.Certificate, certs.Mode) { return serving.Current() })
	counts.ObserveClient()
	recorder := newRecorder(background, client)
	certificate := certConfig(log, o, owner)
	certificate.Observer = observeCertificate(counts, recorder, o.certSigner, registrar.Reference)
	serving, err = certs.NewServing(client, certificate, registrar.Published)
	if err != nil {
		return fmt.Errorf("configuring the serving certificate: %w", err)
	}
	keeper = certs.NewKeeper(client, serving, registrar)

	var draining drain
	answerable := func() error {
		select {
		case <-follower.Synced():
			return nil
		default:
			return errors.New("the ImagePullSecrets are not yet known")
		}
	}
	ready := func() error {
		return errors.Join(draining.err(), answerable(), registrar.Registered(), serving.Ready(time.Now()))
	}

	servers, err := listen(log, o, webhook.Handler(log, index, answerable, counts.Admission), counts.Handler(), serving.GetCertificate, ready)
	if err != nil {
		return err
	}
	checked := make(chan error, 1)
	fits := make(chan struct{}) // closed once the cluster's definitions are known to keep what is written
	running.Go(func() {
		if err := definitionsFit(background, log, imagePullSecrets); err != nil {
			checked <- err
			return
		}
		close(fits)
		checked <- preflight(background, log, client, o)
	})
	running.Go(func() { follower.Run(background) })
	running.Go(func() { registrar.Run(background) })
	running.Go(func() { serving.Run(background) })
	failed := servers.serve(&running)

	lead := func(ctx context.Context) {
		if !wait(ctx, fits) {
			return
		}
		var leading sync.WaitGroup
		attached := derived.NewKeeper(log, attachments, index, owner, counts.Derived)
		controller := reconcile.NewController(reconcile.Config{
			Log: log, Clients: client, ImagePullSecrets: imagePullSecrets, Index: index, Follower: follower,
			Concurrency: o.concurrency, ResyncPeriod: o.resyncPeriod,
			Recorder: recorder, Observer: counts.Reconcile(), QueueMetrics: counts.Queues(), Derived: attached.Outdated,
		})
		defer counts.Lead(controller.Progress)()
		leading.Go(func() { controller.Run(ctx) })
		leading.Go(func() {
			if wait(ctx, follower.Synced()) {
				attached.Run(ctx)
			}
		})
		leading.Go(func() {
			defer registrar.Withdraw()
			if registrar.WaitForSync(ctx) != nil || !wait(ctx, follower.Synced()) {
				return
			}
			if err := registrar.Assume(ctx); err != nil {
				log.Warn("webhook configurations were not brought up to date, trying again", "error", err)
			}
			keeper.Run(ctx)
		})
		leading.Wait()
	}
	elected := make(chan error, 1)
	campaign, resign := context.WithCancel(ctx)
	defer resign()
	running.Go(func() { elected <- elect(campaign, log, client, o, owner, lead) })

	for {
		select {
		case err = <-checked:
			if err == nil {
				checked = nil // all is there
				continue
			}
			resign()
			err = errors.Join(err, <-elected)
		case err = <-failed:
			resign()
			err = errors.Join(err, <-elected)
		case err = <-elected:
		case <-ctx.Done():
			log.Info("shutdown was requested")
			draining.begin()
			err = errors.Join(<-elected, sleep(o.shutdownDelay, failed))
		}
		return errors.Join(err, servers.shutdown())
	}
}

func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleep waits for the delay, unless a server fails in it.
func sleep(delay time.Duration, failed <-chan error) error {
	select {
	case <-time.After(delay):
		return nil
	case err := <-failed:
		return err
	}
}

// connect returns the clients of the built-in types, of ImagePullSecrets and of what is derived from them. They share
// connections.
func connect(o *options) (*clientset.Clientset, *typed.Client, *typed.DerivedAttachments, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, nil, nil, err
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("configuring the API client: %w", err)
	}
	client, err := clientset.New(config, httpClient)
	if err != nil {
		return nil, nil, nil, err
	}
	imagePullSecrets, err := typed.NewClient(config, httpClient)
	if err != nil {
		return nil, nil, nil, err
	}
	attachments, err := typed.NewDerivedAttachments(config, httpClient)
	return client, imagePullSecrets, attachments, err
}

func restConfig(o *options) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address (--kubeconfig=%q, empty only inside a cluster): %w", o.kubeconfig, err)
	}
	config.UserAgent = "tcr-assistant-controller-manager/" + version
	config.QPS = -1 // no limit: the API server's priority and fairness is the real one
	if o.qps > 0 {
		config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(float32(o.qps), o.burst) // of all clients together
	}
	return config, nil
}

// ownership returns what looks up a reference to the ClusterRole of this process: nil where there is none, as for a process
// that runs outside the cluster under an account of its own. Once there was one, it fails where there is none: whatever was
// written then would be left behind by an uninstall. A role that was deleted and made anew is another owner.
func ownership(log *slog.Logger, client *clientset.Clientset) func(context.Context) (*metav1.OwnerReference, error) {
	var known atomic.Bool
	warn := sync.OnceFunc(func() {
		log.Warn("cluster role was not found: the webhook configurations will have to be deleted by hand", "clusterRole", clusterRole)
	})
	return func(ctx context.Context) (*metav1.OwnerReference, error) {
		role, err := client.ClusterRoles().Get(ctx, clusterRole, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && !known.Load():
			warn()
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading cluster role %s: %w", clusterRole, err)
		}
		known.Store(true)
		return &metav1.OwnerReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: role.Name, UID: role.UID}, nil
	}
}

// ownName returns the user name by which the API server knows this process; blank where it does not tell, as before 1.28.
func ownName(ctx context.Context, log *slog.Logger, client *clientset.Clientset) string {
	review, err := client.SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		log.Info("own user name was not told: admission is asked about this process' own writes, too", "error", err)
		return ""
	}
	return review.Status.UserInfo.Username
}

// certConfig names what API servers call this process by.
func certConfig(log *slog.Logger, o *options, owner func(context.Context) (*metav1.OwnerReference, error)) certs.Config {
	config := certs.Config{
		Log: log, Namespace: o.namespace, Signer: o.certSigner, Duration: o.certDuration,
		DNSNames: []string{webhook.ServiceName + "." + o.namespace + ".svc"},
		Owner:    owner,
	}
	if o.webhookURL == "" {
		return config
	}
	if parsed, err := url.Parse(o.webhookURL); err == nil {
		if ip := net.ParseIP(parsed.Hostname()); ip != nil {
			config.IPs = append(config.IPs, ip)
		} else {
			config.DNSNames = append(config.DNSNames, parsed.Hostname())
		}
	}
	return config
}
