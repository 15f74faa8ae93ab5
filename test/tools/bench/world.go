package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// workers is how many writes are under way at a time, by the manager and by the bare loops it is compared with.
const workers = 8

// hang is how long anything may take before it counts as never.
const hang = 20 * time.Minute

// world is a control plane with the product installed.
type world struct {
	*cluster.Cluster
	binary string // of the controller-manager
	client kubernetes.Interface
	peer   rest.Interface // for bare writes: what the manager may, since the API server does more for it than for an administrator
	ips    *typed.Client
	prefix string            // of the names of what bare writes leave behind
	owner  *corev1.Namespace // of that
	args   []string          // of managers, beside the usual ones
}

// newWorld starts a control plane and installs the product, without running it.
func newWorld(ctx context.Context, binary string) (w *world, err error) {
	return newWorldWith(ctx, binary, cluster.Options{})
}

// newWorldWith is newWorld on a control plane that differs from the usual one.
func newWorldWith(ctx context.Context, binary string, options cluster.Options) (w *world, err error) {
	// As long as the garbage collector has not found the kind of an owner it reads every object of that owner, which would be
	// counted as a cost of writing them.
	crds, err := manager.CRDs(ctx)
	if err != nil {
		return nil, err
	}
	options.Log, options.CRDs = io.Discard, []string{crds}
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := manager.Install(ctx, c); err != nil {
		return nil, err
	}
	w = &world{Cluster: c, binary: binary}
	config := c.RESTConfig()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	if w.ips, err = typed.NewClient(config, httpClient); err != nil {
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if w.client, err = kubernetes.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, err
	}
	if w.peer, err = w.asPeer(ctx, "system:serviceaccount:"+manager.Namespace+":floor"); err != nil {
		return nil, err
	}
	w.owner, err = w.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
	return w, err
}

// allSecretVerbs are what rbac.secrets: all lets the manager do with Secrets.
var allSecretVerbs = []string{"get", "list", "watch", "create", "patch", "delete"}

// asPeer returns a client for the core API with the manager's permissions, and all for Secrets, by a name. What is held against the
// manager's name does not concern another one.
func (w *world) asPeer(ctx context.Context, name string) (rest.Interface, error) {
	secrets := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "floor"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: allSecretVerbs}},
	}
	if _, err := w.client.RbacV1().ClusterRoles().Create(ctx, secrets, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	for _, role := range []string{secrets.Name, "tcr-assistant-manager-role"} {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "floor-"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
		}
		if _, err := w.client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	file, err := w.KubeconfigFor(name, "system:serviceaccounts", "system:serviceaccounts:"+manager.Namespace, "system:authenticated")
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // no limit
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return client.CoreV1().RESTClient(), nil
}

// confined returns the world with bare writes made by the manager's name: the policies that restrict it are evaluated for these, too.
// It is called once the last manager was stopped, since from then on that name may read and write every Secret.
func (w *world) confined(ctx context.Context) (*world, error) {
	peer, err := w.asPeer(ctx, manager.User)
	confined := *w
	confined.peer, confined.prefix = peer, pullsecret.SecretPrefix // which the policies demand
	return &confined, err
}

// unrestrict takes away the policies that hold the manager's name to what it is for. They are evaluated at each of its
// writes, and at none of a bare loop's.
func (w *world) unrestrict(ctx context.Context) error {
	policies := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	if err := policies.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("deleting the policies that restrict the manager: %w", err)
	}
	return nil
}

// in calls f for each of these items, from as many goroutines as there are workers.
func in[T any](items []T, f func(T) error) error {
	queue := make(chan T)
	errs := make([]error, workers)
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			for item := range queue {
				if err := f(item); err != nil && errs[i] == nil {
					errs[i] = err
				}
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	running.Wait()
	return errors.Join(errs...)
}

// numbered returns n names.
func numbered(prefix string, from, to int) []string {
	var names []string
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprintf("%s-%05d", prefix, i))
	}
	return names
}

// namespaces creates namespaces, each with some more ServiceAccounts, and waits until the control plane has put into them
// what it puts into every one.
func (w *world) namespaces(ctx context.Context, names []string, accounts ...string) error {
	err := in(names, func(name string) error {
		_, err := w.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		for _, account := range accounts {
			if err == nil {
				object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}
				_, err = w.client.CoreV1().ServiceAccounts(name).Create(ctx, object, metav1.CreateOptions{})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("creating namespaces: %w", err)
	}
	pace := 400*time.Millisecond + time.Duration(len(names))*100*time.Microsecond // each look lists all
	return every(ctx, pace, func() error {
		all, err := w.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		defaults, err := w.client.CoreV1().ServiceAccounts("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
		if err != nil {
			return err
		}
		roots, err := w.client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=kube-root-ca.crt"})
		if err != nil {
			return err
		}
		if want := len(all.Items); len(defaults.Items) < want || len(roots.Items) < want {
			return fmt.Errorf("%d namespaces have %d default service accounts and %d root certificates", want, len(defaults.Items), len(roots.Items))
		}
		return nil
	})
}

// eventually asks until check returns nil.
func eventually(ctx context.Context, check func() error) error {
	return every(ctx, 400*time.Millisecond, check)
}

// every asks at that pace until check returns nil.
func every(ctx context.Context, pace time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pace):
		}
	}
}

// unchecked leaves credentials unchecked: the servers lead nowhere, and how soon that is found out is not what is measured.
var unchecked = &v1.CredentialCheck{Disabled: true}

// create creates an ImagePullSecret bench that selects everything.
func (w *world) create(ctx context.Context) error {
	_, err := w.ips.Create(ctx, &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Spec:       v1.ImagePullSecretSpec{Namespaces: "*", ServiceAccounts: "*", Docker: credential(0), Check: unchecked},
	}, metav1.CreateOptions{})
	return err
}

// token is a password about as long as a registry's.
func token(generation int) string {
	return fmt.Sprintf("%04d.%s", generation, strings.Repeat("eyJhbGciOiJSUzI1NiIs", 30))
}

// repassword gives an ImagePullSecret another password.
func (w *world) repassword(ctx context.Context, name string, generation int) error {
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"docker": map[string]any{"password": token(generation)}}})
	if err == nil {
		_, err = w.ips.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
	}
	return err
}

// complete waits until the ImagePullSecret says that everything has its current credential, and that this is at least so
// many Secrets.
func (w *world) complete(ctx context.Context, secrets int) error {
	return eventually(ctx, func() error {
		object, err := w.ips.Get(ctx, "bench", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return inLine(object, secrets)
	})
}

// start starts a manager with its usual log level.
func (w *world) start(ctx context.Context) (*manager.Manager, error) {
	return manager.Start(ctx, w.Cluster, manager.Options{Binary: w.binary, Args: append([]string{"--log-level=info"}, w.args...)})
}

// stop ends a manager and removes its webhooks, which nobody answers from then on.
func (w *world) stop(ctx context.Context, m *manager.Manager) error {
	if err := m.Stop(); err != nil {
		return fmt.Errorf("stopping the manager: %w\n%s", err, m.Log())
	}
	registration := w.client.AdmissionregistrationV1()
	return errors.Join(
		registration.MutatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		registration.ValidatingWebhookConfigurations().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// requests returns what the manager has asked of the API server since then, without watches.
func (w *world) requests(since time.Time) ([]cluster.Request, error) {
	return w.requestsOf(manager.User, since)
}

// requestsOf returns what a user has asked of the API server since then, without watches.
func (w *world) requestsOf(user string, since time.Time) ([]cluster.Request, error) {
	return w.Requests(func(r cluster.Request) bool {
		return r.User == user && r.Verb != "watch" && !r.Received.Before(since)
	})
}
