// Package gather reads from a cluster what diagnose judges. It only reads, asks for as little as possible, and continues where
// it lacks a permission: it reports what it could not read.
package gather

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

// The resources that are read.
var (
	imagePullSecrets   = v1.GroupVersion.WithResource("imagepullsecrets")
	derivedAttachments = v1.GroupVersion.WithResource("derivedattachments")
	pods               = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	events             = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	namespaces         = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	serviceAccounts    = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	secrets            = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps         = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deployments        = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	daemonSets         = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	leases             = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	webhooks           = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1",
		Resource: "mutatingwebhookconfigurations"}
	policies = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingadmissionpolicies"}
)

// Cluster is the cluster that is read.
type Cluster struct {
	client dynamic.Interface
	proxy  *proxy
	// product is the namespace that the product is installed in.
	product string
}

// New returns the cluster that config names. product is the namespace in which the product is installed there.
func New(config *rest.Config, product string) (*Cluster, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("configuring the client: %w", err)
	}
	proxy, err := newProxy(config)
	if err != nil {
		return nil, fmt.Errorf("configuring the client: %w", err)
	}
	return &Cluster{client: client, proxy: proxy, product: product}, nil
}

// get reads an object.
func get[T any](ctx context.Context, c *Cluster, kind schema.GroupVersionResource, namespace, name string) (*T, error) {
	object, err := c.client.Resource(kind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", title(kind, namespace, name), silent(err))
	}
	read := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, read); err != nil {
		// The error may repeat a part of the object.
		return nil, fmt.Errorf("reading %s: it does not match its kind's schema", title(kind, namespace, name))
	}
	return read, nil
}

// silent replaces an error that would repeat an object: one about an object without a kind or version repeats all of it.
func silent(err error) error {
	if runtime.IsMissingKind(err) || runtime.IsMissingVersion(err) {
		return errors.New("the answer is not an object")
	}
	return err
}

// pageSize is how many objects one request lists.
const pageSize = 500

// list reads all objects of a kind that the options select.
func list[T any](
	ctx context.Context, c *Cluster, kind schema.GroupVersionResource, namespace string, options metav1.ListOptions,
) ([]T, error) {
	var all []T
	options.Limit = pageSize
	for {
		page, err := c.client.Resource(kind).Namespace(namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", title(kind, namespace, ""), silent(err))
		}
		for _, object := range page.Items {
			var read T
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &read); err != nil {
				return nil, fmt.Errorf("listing %s: %s does not match its kind's schema", title(kind, namespace, ""), object.GetName())
			}
			all = append(all, read)
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

func title(kind schema.GroupVersionResource, namespace, name string) string {
	switch {
	case name == "" && namespace == "":
		return kind.Resource
	case name == "":
		return kind.Resource + " of " + namespace
	case namespace == "":
		return kind.Resource + " " + name
	default:
		return kind.Resource + " " + namespace + "/" + name
	}
}

// stopped returns an error if the caller no longer waits: what was not read by then does not count as hidden.
func stopped(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("looking at the cluster: %w", err)
	}
	return nil
}

// lookup is the result of reading an object; nil without an error if it does not exist.
type lookup[T any] struct {
	object *T
	err    error
}

// once reads an object, and remembers the result, even if it is an error.
func once[T any](known map[string]lookup[T], name string, read func() (*T, error)) (*T, error) {
	if _, looked := known[name]; !looked {
		object, err := read()
		if apierrors.IsNotFound(err) {
			object, err = nil, nil
		}
		known[name] = lookup[T]{object, err}
	}
	return known[name].object, known[name].err
}

// unseen collects what could not be read.
type unseen []diagnose.Unseen

// note records that a part could not be read.
func (u *unseen) note(part diagnose.Part, err error) {
	why := err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && apierrors.IsForbidden(err) {
		why = status.Status().Message // it names the user, the verb and the resource
	}
	found := diagnose.Unseen{Part: part, Why: why}
	if !slices.Contains(*u, found) {
		*u = append(*u, found)
	}
}

// Objects returns all ImagePullSecrets.
func (c *Cluster) Objects(ctx context.Context) ([]v1.ImagePullSecret, error) {
	return list[v1.ImagePullSecret](ctx, c, imagePullSecrets, "", metav1.ListOptions{})
}

// Object returns the ImagePullSecret of that name.
func (c *Cluster) Object(ctx context.Context, name string) (*v1.ImagePullSecret, error) {
	return get[v1.ImagePullSecret](ctx, c, imagePullSecrets, "", name)
}
