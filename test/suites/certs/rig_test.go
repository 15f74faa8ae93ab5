// Package certs_test holds package certs, and the registrar that publishes for it, against a real API server, a real
// signer, and several replicas that come and go.
package certs_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

const (
	namespace  = "tcr-assistant-system"
	secretName = certs.DefaultSecretName
	role       = "tcr-assistant-manager-role"
	manager    = "system:serviceaccount:" + namespace + ":tcr-assistant-controller-manager"

	// hang is how long anything may take before a test gives up. No promise is measured by it.
	hang = time.Minute
)

// One control plane serves all tests, which run one after the other: the names of what they keep are fixed.
var plane *cluster.Cluster

func TestMain(m *testing.M) {
	ctx, cancel := context.WithCancel(context.Background())
	code := func() int {
		defer cancel()
		var err error
		if plane, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if err := plane.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}()
	os.Exit(code)
}

// A rig is an installation: the namespace, and exactly the permissions that keeping a certificate takes.
type rig struct {
	*testing.T
	admin kubernetes.Interface
	owner metav1.OwnerReference
	cfg   certs.Config // what replicas are started with
	log   *lines
	clock *clock

	url    string // where API servers call the webhook; nothing answers there unless a test says so
	policy admissionregistrationv1.FailurePolicyType

	mu       sync.Mutex
	fellBack []error
	modes    []certs.Mode // of what was written, in order
}

// permissions are all that the package and its publisher need: what cannot be named cannot be narrowed.
func permissions() (*rbacv1.ClusterRole, *rbacv1.Role) {
	rule := func(group, resource string, names []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names, Verbs: verbs}
	}
	request := []string{certs.RequestName}
	wide := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{
		rule("certificates.k8s.io", "certificatesigningrequests", nil, "create"),
		rule("certificates.k8s.io", "certificatesigningrequests", request, "get", "watch", "delete"),
		rule("certificates.k8s.io", "certificatesigningrequests/approval", request, "update"),
		rule("certificates.k8s.io", "signers", []string{certs.DefaultSigner}, "approve"),
		rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", []string{registration.MutatingConfiguration}, "list", "watch", "create", "patch"),
		rule("admissionregistration.k8s.io", "validatingwebhookconfigurations", []string{registration.ValidatingConfiguration}, "list", "watch", "create", "patch"),
	}}
	narrow := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "certificate", Namespace: namespace}, Rules: []rbacv1.PolicyRule{
		rule("", "secrets", []string{secretName}, "list", "watch", "create", "patch", "delete"),
	}}
	return wide, narrow
}

func newRig(t *testing.T) *rig {
	admin, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	r := &rig{T: t, admin: admin, log: &lines{}, clock: &clock{}, url: "https://127.0.0.1:1", policy: admissionregistrationv1.Ignore}
	r.install()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.log)
		}
	})
	r.cfg = certs.Config{
		Namespace: namespace, DNSNames: []string{"tcr-assistant-webhook-service." + namespace + ".svc"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
		Duration:      24 * time.Hour,
		Owner:         func(context.Context) (*metav1.OwnerReference, error) { return &r.owner, nil },
		SignerTimeout: 20 * time.Second, Settle: 100 * time.Millisecond, Grace: 500 * time.Millisecond, Tick: 20 * time.Millisecond,
		Now: r.clock.Now,
		Log: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return r
}

func (r *rig) observer() certs.Observer {
	return certs.Observer{
		FellBack: func(reason error) { r.mu.Lock(); defer r.mu.Unlock(); r.fellBack = append(r.fellBack, reason) },
		Rotated:  func(mode certs.Mode, _ time.Time) { r.mu.Lock(); defer r.mu.Unlock(); r.modes = append(r.modes, mode) },
	}
}

// install creates the namespace and the permissions where they are missing, and removes what tests before left.
func (r *rig) install() {
	ctx := r.Context()
	subject := rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: manager}
	wide, narrow := permissions()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := r.admin.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		require.NoError(r, err)
		_, err = r.admin.RbacV1().ClusterRoles().Create(ctx, wide, metav1.CreateOptions{})
		require.NoError(r, err)
		_, err = r.admin.RbacV1().Roles(namespace).Create(ctx, narrow, metav1.CreateOptions{})
		require.NoError(r, err)
		_, err = r.admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: wide.Name}, Subjects: []rbacv1.Subject{subject},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: wide.Name}}, metav1.CreateOptions{})
		require.NoError(r, err)
		_, err = r.admin.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: narrow.Name}, Subjects: []rbacv1.Subject{subject},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: narrow.Name}}, metav1.CreateOptions{})
		require.NoError(r, err)
	}
	stored, err := r.admin.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
	require.NoError(r, err)
	r.owner = metav1.OwnerReference{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: stored.Name, UID: stored.UID}

	for _, err := range []error{
		r.admin.CoreV1().Secrets(namespace).Delete(ctx, secretName, metav1.DeleteOptions{}),
		r.admin.CertificatesV1().CertificateSigningRequests().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		r.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, registration.MutatingConfiguration, metav1.DeleteOptions{}),
		r.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, registration.ValidatingConfiguration, metav1.DeleteOptions{}),
	} {
		if !apierrors.IsNotFound(err) {
			require.NoError(r, err)
		}
	}
}

// withoutSigner has the cluster's own signer stand still until the test ends.
func (r *rig) withoutSigner() {
	require.NoError(r, plane.RestartControllerManager(r.Context(), "--controllers=*,-certificatesigningrequest-signing-controller"))
	r.Cleanup(func() { assert.NoError(r, plane.RestartControllerManager(context.Background())) })
}

// forbid takes a verb on a resource of certificates.k8s.io away from the manager until the test ends, and returns once that
// has taken effect.
func (r *rig) forbid(resource, verb string) {
	roles := r.admin.RbacV1().ClusterRoles()
	granted, _ := permissions()
	narrowed := granted.DeepCopy()
	for i := range narrowed.Rules {
		if rule := &narrowed.Rules[i]; slices.Contains(rule.Resources, resource) {
			rule.Verbs = append(slices.DeleteFunc(rule.Verbs, func(v string) bool { return v == verb }), "nothing") // a rule needs a verb
		}
	}
	set := func(ctx context.Context, role *rbacv1.ClusterRole, allowed bool) {
		_, err := roles.Update(ctx, role, metav1.UpdateOptions{})
		require.NoError(r, err)
		r.eventually("a role that has taken effect", func() bool {
			review, err := r.admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
				Spec: authorizationv1.SubjectAccessReviewSpec{User: manager, ResourceAttributes: &authorizationv1.ResourceAttributes{
					Group: "certificates.k8s.io", Resource: resource, Verb: verb, Name: certs.RequestName,
				}},
			}, metav1.CreateOptions{})
			return err == nil && review.Status.Allowed == allowed
		})
	}
	r.Cleanup(func() { set(context.Background(), granted, true) })
	set(r.Context(), narrowed, false)
}

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
	}, func(_ context.Context, template *registration.Template) error { template.Owner = &r.owner; return nil })
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

// eventually waits for a condition and names it when it does not come.
func (r *rig) eventually(what string, met func() bool) {
	r.Helper()
	require.Eventually(r, met, hang, 10*time.Millisecond, what)
}

// secret is the Secret; nil when it does not exist.
func (r *rig) secret() *corev1.Secret {
	secret, err := r.admin.CoreV1().Secrets(namespace).Get(r.Context(), secretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(r, err)
	return secret
}

// held is the leaf in the Secret; nil when there is none.
func (r *rig) held() *x509.Certificate {
	if secret := r.secret(); secret != nil {
		if found := certificates(secret.Data[corev1.TLSCertKey]); len(found) > 0 {
			return found[0]
		}
	}
	return nil
}

// bundles is what the mutating and the validating configuration trust, as the API server has it.
func (r *rig) bundles() [2][]*x509.Certificate {
	var found [2][]*x509.Certificate
	mutating, err := r.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(r.Context(), registration.MutatingConfiguration, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(r, err)
		found[0] = certificates(mutating.Webhooks[0].ClientConfig.CABundle)
	}
	validating, err := r.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(r.Context(), registration.ValidatingConfiguration, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(r, err)
		found[1] = certificates(validating.Webhooks[0].ClientConfig.CABundle)
	}
	return found
}

// settled waits until the Secret holds another leaf than old, every replica serves it, is ready, and both configurations
// trust it alone. It returns the leaf.
func (r *rig) settled(old *x509.Certificate, replicas ...*replica) *x509.Certificate {
	r.Helper()
	var leaf *x509.Certificate
	r.eventually("a rotation that is complete", func() bool {
		if leaf = r.held(); leaf == nil || old != nil && leaf.Equal(old) {
			return false
		}
		for _, trusted := range r.bundles() {
			if len(trusted) != 1 || !trusted[0].Equal(leaf) {
				return false
			}
		}
		for _, p := range replicas {
			if served := p.served(); served == nil || !served.Equal(leaf) || p.serving.Ready(r.clock.Now()) != nil {
				return false
			}
		}
		return true
	})
	return leaf
}

// versions are those of everything that the manager keeps.
func (r *rig) versions() []string {
	mutating, err := r.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(r.Context(), registration.MutatingConfiguration, metav1.GetOptions{})
	require.NoError(r, err)
	validating, err := r.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(r.Context(), registration.ValidatingConfiguration, metav1.GetOptions{})
	require.NoError(r, err)
	request, err := r.admin.CertificatesV1().CertificateSigningRequests().Get(r.Context(), certs.RequestName, metav1.GetOptions{})
	require.NoError(r, err)
	return []string{r.secret().ResourceVersion, mutating.ResourceVersion, validating.ResourceVersion, request.ResourceVersion}
}

func certificates(data []byte) []*x509.Certificate {
	var found []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, cert)
		}
	}
	return found
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
