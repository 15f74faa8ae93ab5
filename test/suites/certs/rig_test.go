// Package certs_test holds package certs, and the registrar that publishes for it, against a real API server, a real
// signer, and several replicas that come and go.
package certs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

const (
	namespace  = "tcr-assistant-system"
	secretName = certs.DefaultSecretName
	role       = "tcr-assistant-manager-role"
	manager    = "system:serviceaccount:" + namespace + ":tcr-assistant-controller-manager"
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

// installation is the namespace, and exactly the permissions that the package and its publisher need: what cannot be named cannot
// be narrowed.
const installation = `
apiVersion: v1
kind: Namespace
metadata: {name: ` + namespace + `}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ` + role + `}
rules:
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create]}
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], resourceNames: [` + certs.RequestName + `], verbs: [get, watch, delete]}
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval], resourceNames: [` + certs.RequestName + `], verbs: [update]}
- {apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [` + certs.DefaultSigner + `], verbs: [approve]}
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations]
  resourceNames: [` + registration.MutatingConfiguration + `]
  verbs: [list, watch, create, patch]
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  resourceNames: [` + registration.ValidatingConfiguration + `]
  verbs: [list, watch, create, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: certificate, namespace: ` + namespace + `}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [` + secretName + `], verbs: [list, watch, create, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ` + role + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ` + role + `}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "` + manager + `"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: certificate, namespace: ` + namespace + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: certificate}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "` + manager + `"}]
`

// A rig is an installation on the one control plane, of which nothing is left that tests before have done.
type rig struct {
	*suite.World
	*testing.T
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

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{World: suite.On(t, plane), T: t, log: &lines{}, clock: &clock{}, url: "https://127.0.0.1:1",
		policy: admissionregistrationv1.Ignore}
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
	if _, err := r.Client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
		require.True(r, apierrors.IsNotFound(err), "%v", err)
		r.Apply(installation)
	}
	stored, err := r.Client.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
	require.NoError(r, err)
	r.owner = metav1.OwnerReference{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: stored.Name, UID: stored.UID}

	for _, err := range []error{
		r.Client.CoreV1().Secrets(namespace).Delete(ctx, secretName, metav1.DeleteOptions{}),
		r.Client.CertificatesV1().CertificateSigningRequests().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, registration.MutatingConfiguration,
			metav1.DeleteOptions{}),
		r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, registration.ValidatingConfiguration,
			metav1.DeleteOptions{}),
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
	roles := r.Client.RbacV1().ClusterRoles()
	granted, err := roles.Get(r.Context(), role, metav1.GetOptions{})
	require.NoError(r, err)
	granted.ResourceVersion = "" // to be written over whatever there is
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
			review, err := r.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
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

// eventually waits for a condition and names it when it does not come.
func (r *rig) eventually(what string, met func() bool) {
	r.Helper()
	r.Eventually(what, func() error {
		if !met() {
			return errors.New("it is not so")
		}
		return nil
	})
}
