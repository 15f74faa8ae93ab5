// Command standin distributes a pull secret as the documentation of today's distributors says that they do: it caches every namespace,
// Secret and ServiceAccount, writes the same Secret into each namespace, and patches each ServiceAccount that it is shown without the
// entry. It stands in for such a program in a comparison, built as its authors would build one now, on controller-runtime. It is a module
// of its own, so that nothing else depends on that.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "who it is, a `file`")
	name := flag.String("secret-name", "image-pull-secret", "what the Secrets are called")
	content := flag.String("dockerconfigjson-path", "", "the credential, a `file`")
	concurrency := flag.Int("max-concurrent-reconciles", 1, "how many objects of a kind are brought in line at a time")
	flag.Parse()
	if err := run(*kubeconfig, *name, *content, *concurrency); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, name, content string, concurrency int) error {
	log.SetLogger(logr.Discard())
	data, err := os.ReadFile(content)
	if err != nil {
		return fmt.Errorf("reading the credential: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("reading who this is: %w", err)
	}
	config.QPS = -1 // without the client-side limit that it would have by default, which is all that would be measured
	m, err := manager.New(config, manager.Options{Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	options := controller.Options{MaxConcurrentReconciles: concurrency}
	d := &distributor{Client: m.GetClient(), name: name, data: map[string][]byte{corev1.DockerConfigJsonKey: data}}
	ours := predicate.NewPredicateFuncs(func(object client.Object) bool { return object.GetName() == name })
	err = builder.ControllerManagedBy(m).Named("secrets").WithOptions(options).For(&corev1.Namespace{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(namespaceOf), builder.WithPredicates(ours)).
		Complete(reconcile.Func(d.issue))
	if err != nil {
		return fmt.Errorf("watching namespaces: %w", err)
	}
	err = builder.ControllerManagedBy(m).Named("accounts").WithOptions(options).For(&corev1.ServiceAccount{}).
		Complete(reconcile.Func(d.attach))
	if err != nil {
		return fmt.Errorf("watching service accounts: %w", err)
	}
	return m.Start(signals.SetupSignalHandler())
}

// namespaceOf asks for the namespace of an object to be brought in line.
func namespaceOf(_ context.Context, object client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: object.GetNamespace()}}}
}

// distributor brings namespaces and ServiceAccounts in line. What it reads comes from caches.
type distributor struct {
	client.Client
	name string
	data map[string][]byte
}

// issue gives a namespace its Secret.
func (d *distributor) issue(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var namespace corev1.Namespace
	if err := d.Get(ctx, request.NamespacedName, &namespace); err != nil || namespace.DeletionTimestamp != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	var have corev1.Secret
	err := d.Get(ctx, types.NamespacedName{Namespace: namespace.Name, Name: d.name}, &have)
	switch {
	case apierrors.IsNotFound(err):
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: d.name},
			Type:       corev1.SecretTypeDockerConfigJson, Data: d.data,
		}
		return reconcile.Result{}, d.Create(ctx, secret)
	case err != nil || bytes.Equal(have.Data[corev1.DockerConfigJsonKey], d.data[corev1.DockerConfigJsonKey]):
		return reconcile.Result{}, err
	}
	have.Data = d.data
	return reconcile.Result{}, d.Update(ctx, &have)
}

// attach gives a ServiceAccount its entry.
func (d *distributor) attach(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var account corev1.ServiceAccount
	if err := d.Get(ctx, request.NamespacedName, &account); err != nil || account.DeletionTimestamp != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	entry := corev1.LocalObjectReference{Name: d.name}
	if slices.Contains(account.ImagePullSecrets, entry) {
		return reconcile.Result{}, nil
	}
	patch := client.MergeFromWithOptions(account.DeepCopy(), client.MergeFromWithOptimisticLock{})
	account.ImagePullSecrets = append(account.ImagePullSecrets, entry)
	return reconcile.Result{}, d.Patch(ctx, &account, patch)
}
