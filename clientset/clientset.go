// Package clientset holds clients for the few built-in kinds that the product reads and writes, and for no others: client-go's own
// Clientset links every kind of every version of every API group, even if a process uses only one of them. That would cost 8 MiB of
// memory and half of the executable.
package clientset

import (
	"context"
	"fmt"
	"net/http"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
)

// groups are the API groups of the kinds that have clients here.
var groups = []struct {
	version schema.GroupVersion
	add     func(*runtime.Scheme) error
}{
	{corev1.SchemeGroupVersion, corev1.AddToScheme},
	{admissionregistrationv1.SchemeGroupVersion, admissionregistrationv1.AddToScheme},
	{authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme},
	{authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme},
	{batchv1.SchemeGroupVersion, batchv1.AddToScheme},
	{certificatesv1.SchemeGroupVersion, certificatesv1.AddToScheme},
	{coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme},
	{policyv1.SchemeGroupVersion, policyv1.AddToScheme},
	{rbacv1.SchemeGroupVersion, rbacv1.AddToScheme},
}

// Clientset makes clients. They share connections, and the rate limit if config has a RateLimiter.
type Clientset struct {
	scheme     *runtime.Scheme
	parameters runtime.ParameterCodec
	groups     map[schema.GroupVersion]rest.Interface
	codecs     serializer.CodecFactory
	http       *http.Client
}

// accepted are the encodings that answers may have. The API server reads and writes protobuf fastest.
const accepted = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON

// New returns a Clientset for the API server that config names, over httpClient's connections.
func New(config *rest.Config, httpClient *http.Client) (*Clientset, error) {
	limited := *httpClient
	limited.Transport = limiting{limited.Transport}
	if httpClient.Transport == nil {
		limited.Transport = limiting{http.DefaultTransport}
	}
	c := &Clientset{scheme: runtime.NewScheme(), groups: map[schema.GroupVersion]rest.Interface{}, http: &limited}
	c.parameters = runtime.NewParameterCodec(c.scheme)
	for _, group := range groups {
		if err := group.add(c.scheme); err != nil {
			return nil, fmt.Errorf("registering %s: %w", group.version, err)
		}
	}
	c.codecs = serializer.NewCodecFactory(c.scheme)
	codecs := c.codecs.WithoutConversion()
	for _, group := range groups {
		config := rest.CopyConfig(config)
		config.GroupVersion, config.APIPath, config.NegotiatedSerializer = &group.version, "/apis", codecs
		if group.version.Group == corev1.GroupName {
			config.APIPath = "/api"
		}
		config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, accepted
		client, err := rest.RESTClientForConfigAndClient(config, c.http)
		if err != nil {
			return nil, fmt.Errorf("configuring the client of %s: %w", group.version, err)
		}
		c.groups[group.version] = client
	}
	return c, nil
}

// Scheme returns a scheme with the kinds that have clients here.
func (c *Clientset) Scheme() *runtime.Scheme { return c.scheme }

// Namespaces returns a client of all namespaces.
func (c *Clientset) Namespaces() *gentype.ClientWithList[*corev1.Namespace, *corev1.NamespaceList] {
	return withList[corev1.Namespace, corev1.NamespaceList](c, corev1.SchemeGroupVersion, "namespaces", "")
}

// ServiceAccounts returns a client of the ServiceAccounts of a namespace, or of all where it is blank.
func (c *Clientset) ServiceAccounts(namespace string) *gentype.ClientWithList[*corev1.ServiceAccount, *corev1.ServiceAccountList] {
	return withList[corev1.ServiceAccount, corev1.ServiceAccountList](c, corev1.SchemeGroupVersion, "serviceaccounts", namespace)
}

// Secrets returns a client of the Secrets of a namespace, or of all where it is blank.
func (c *Clientset) Secrets(namespace string) *gentype.ClientWithList[*corev1.Secret, *corev1.SecretList] {
	return withList[corev1.Secret, corev1.SecretList](c, corev1.SchemeGroupVersion, "secrets", namespace)
}

// ConfigMaps returns a client of the ConfigMaps of a namespace.
func (c *Clientset) ConfigMaps(namespace string) *gentype.ClientWithList[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return withList[corev1.ConfigMap, corev1.ConfigMapList](c, corev1.SchemeGroupVersion, "configmaps", namespace)
}

// Events returns a client of the events of a namespace.
func (c *Clientset) Events(namespace string) *gentype.ClientWithList[*corev1.Event, *corev1.EventList] {
	return withList[corev1.Event, corev1.EventList](c, corev1.SchemeGroupVersion, "events", namespace)
}

// Pods returns a client of the pods of a namespace, or of all where it is blank.
func (c *Clientset) Pods(namespace string) *gentype.ClientWithList[*corev1.Pod, *corev1.PodList] {
	return withList[corev1.Pod, corev1.PodList](c, corev1.SchemeGroupVersion, "pods", namespace)
}

// Evict evicts a pod. It does not retry, even if the API server says when to.
func (c *Clientset) Evict(ctx context.Context, eviction *policyv1.Eviction) error {
	return c.groups[policyv1.SchemeGroupVersion].Post().AbsPath("/api/v1").Namespace(eviction.Namespace).
		Resource("pods").Name(eviction.Name).SubResource("eviction").Body(eviction).MaxRetries(0).Do(ctx).Error()
}

// Jobs returns a client of the Jobs of a namespace.
func (c *Clientset) Jobs(namespace string) *gentype.Client[*batchv1.Job] {
	return withoutList[batchv1.Job](c, batchv1.SchemeGroupVersion, "jobs", namespace)
}

// Leases returns a client of the Leases of a namespace.
func (c *Clientset) Leases(namespace string) *gentype.ClientWithList[*coordinationv1.Lease, *coordinationv1.LeaseList] {
	return withList[coordinationv1.Lease, coordinationv1.LeaseList](c, coordinationv1.SchemeGroupVersion, "leases", namespace)
}

// MutatingWebhookConfigurations returns a client of all of them.
func (c *Clientset) MutatingWebhookConfigurations() *gentype.ClientWithList[*admissionregistrationv1.MutatingWebhookConfiguration,
	*admissionregistrationv1.MutatingWebhookConfigurationList] {
	return withList[admissionregistrationv1.MutatingWebhookConfiguration, admissionregistrationv1.MutatingWebhookConfigurationList](
		c, admissionregistrationv1.SchemeGroupVersion, "mutatingwebhookconfigurations", "")
}

// ValidatingWebhookConfigurations returns a client of all of them.
func (c *Clientset) ValidatingWebhookConfigurations() *gentype.ClientWithList[*admissionregistrationv1.ValidatingWebhookConfiguration,
	*admissionregistrationv1.ValidatingWebhookConfigurationList] {
	return withList[admissionregistrationv1.ValidatingWebhookConfiguration, admissionregistrationv1.ValidatingWebhookConfigurationList](
		c, admissionregistrationv1.SchemeGroupVersion, "validatingwebhookconfigurations", "")
}

// CertificateSigningRequests returns a client of all of them.
func (c *Clientset) CertificateSigningRequests() *CertificateSigningRequests {
	return &CertificateSigningRequests{
		Client: withoutList[certificatesv1.CertificateSigningRequest](
			c, certificatesv1.SchemeGroupVersion, certificateSigningRequests, ""),
		client:     c.groups[certificatesv1.SchemeGroupVersion],
		parameters: c.parameters,
	}
}

// ClusterRoles returns a client of all of them.
func (c *Clientset) ClusterRoles() *gentype.ClientWithList[*rbacv1.ClusterRole, *rbacv1.ClusterRoleList] {
	return withList[rbacv1.ClusterRole, rbacv1.ClusterRoleList](c, rbacv1.SchemeGroupVersion, "clusterroles", "")
}

// SelfSubjectReviews returns a client of them. They can only be created.
func (c *Clientset) SelfSubjectReviews() *gentype.Client[*authenticationv1.SelfSubjectReview] {
	return withoutList[authenticationv1.SelfSubjectReview](c, authenticationv1.SchemeGroupVersion, "selfsubjectreviews", "")
}

// SelfSubjectAccessReviews returns a client of them. They can only be created.
func (c *Clientset) SelfSubjectAccessReviews() *gentype.Client[*authorizationv1.SelfSubjectAccessReview] {
	return withoutList[authorizationv1.SelfSubjectAccessReview](c, authorizationv1.SchemeGroupVersion, "selfsubjectaccessreviews", "")
}

const certificateSigningRequests = "certificatesigningrequests"

// CertificateSigningRequests is a client of CertificateSigningRequests that can also approve them.
type CertificateSigningRequests struct {
	*gentype.Client[*certificatesv1.CertificateSigningRequest]
	client     rest.Interface
	parameters runtime.ParameterCodec
}

// UpdateApproval stores the conditions of a request, such as its approval, and returns it as stored.
func (c *CertificateSigningRequests) UpdateApproval(
	ctx context.Context, request *certificatesv1.CertificateSigningRequest, options metav1.UpdateOptions,
) (*certificatesv1.CertificateSigningRequest, error) {
	stored := &certificatesv1.CertificateSigningRequest{}
	err := c.client.Put().Resource(certificateSigningRequests).Name(request.Name).SubResource("approval").
		VersionedParams(&options, c.parameters).Body(request).Do(ctx).Into(stored)
	return stored, err
}

// kind is a pointer to a struct that is a Kubernetes object.
type kind[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

// list is a pointer to a struct that is a list of Kubernetes objects.
type list[T any] interface {
	*T
	runtime.Object
}

func withList[T, L any, Kind kind[T], List list[L]](
	c *Clientset, version schema.GroupVersion, resource, namespace string,
) *gentype.ClientWithList[Kind, List] {
	return gentype.NewClientWithList[Kind, List](resource, c.groups[version], c.parameters, namespace,
		func() Kind { return new(T) }, func() List { return new(L) })
}

func withoutList[T any, Kind kind[T]](c *Clientset, version schema.GroupVersion, resource, namespace string) *gentype.Client[Kind] {
	return gentype.NewClient[Kind](resource, c.groups[version], c.parameters, namespace, func() Kind { return new(T) })
}
