package gather

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Referred reads the Secrets that ImagePullSecrets refer to. It also returns which it could not read.
func (c *Cluster) Referred(ctx context.Context, objects ...v1.ImagePullSecret) (credential.Seen, []diagnose.Unseen) {
	referred := c.noneSeen()
	var hidden unseen
	for i := range objects {
		if err := referred.look(ctx, &objects[i]); err != nil {
			hidden.note(diagnose.PartCredentials, err)
		}
	}
	var err error
	if referred.seen.Domains, err = c.domains(ctx, objects); err != nil {
		hidden.note(diagnose.PartDomains, err)
	}
	return referred.seen, hidden
}

// Issued returns a Secret that an ImagePullSecret issues: the one in a namespace, or else one in any namespace.
func (c *Cluster) Issued(ctx context.Context, name, namespace string) (*corev1.Secret, error) {
	secret, err := get[corev1.Secret](ctx, c, secrets, namespace, pullsecret.SecretName(name))
	if err == nil && issued(secret) {
		return secret, nil
	}
	selector := fields.OneTermEqualSelector("metadata.name", pullsecret.SecretName(name)).String()
	found, err := list[corev1.Secret](ctx, c, secrets, "", metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found, func(secret corev1.Secret) bool { return issued(&secret) })
	if i < 0 {
		return nil, fmt.Errorf("looking for a secret %s: no namespace has one that TCR Assistant has issued; kubectl tcr status %s says why",
			pullsecret.SecretName(name), name)
	}
	return &found[i], nil
}

func issued(secret *corev1.Secret) bool {
	return v1.Managed(secret.Labels) && secret.Type == corev1.SecretTypeDockerConfigJson
}

// domains returns the default domains of the registry instances of objects, by id. It takes them from what the manager derives.
func (c *Cluster) domains(ctx context.Context, objects []v1.ImagePullSecret) (map[string]string, error) {
	if !slices.ContainsFunc(objects, func(object v1.ImagePullSecret) bool { return object.Spec.TCR != nil }) {
		return nil, nil
	}
	found, err := list[v1.DerivedAttachments](ctx, c, derivedAttachments, "", metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	servers := map[string]string{}
	for i := range found {
		for _, rule := range found[i].Spec.Rules {
			servers[rule.Secret] = rule.Server
		}
	}
	domains := map[string]string{}
	for i := range objects {
		object := &objects[i]
		rule, errs := pullsecret.Check(object)
		server := servers[pullsecret.SecretName(object.Name)]
		// An object that is only in a file has no generation, and the manager has derived nothing from it.
		derived := object.Generation > 0 && object.Status.ObservedGeneration == object.Generation && server != ""
		if len(errs) == 0 && rule.Registry != nil && derived && server != rule.Servers[0] { // which is a placeholder for an unknown domain
			domains[rule.Registry.ID] = server
		}
	}
	return domains, nil
}

// referred are the Secrets that ImagePullSecrets refer to.
type referred struct {
	*Cluster
	secrets map[string]lookup[corev1.Secret]
	// seen are those that could be read.
	seen credential.Seen
}

func (c *Cluster) noneSeen() *referred {
	return &referred{Cluster: c, secrets: map[string]lookup[corev1.Secret]{},
		seen: credential.Seen{Namespace: c.product, Secrets: map[string]*corev1.Secret{}}}
}

// look reads the Secret that an object refers to. An invalid object may name anything: its reference is not followed.
func (r *referred) look(ctx context.Context, object *v1.ImagePullSecret) error {
	rule, errs := pullsecret.Check(object)
	if len(errs) > 0 || rule.Reference == "" {
		return nil
	}
	secret, err := once(r.secrets, rule.Reference, func() (*corev1.Secret, error) {
		return get[corev1.Secret](ctx, r.Cluster, secrets, r.product, rule.Reference)
	})
	if err == nil {
		r.seen.Secrets[rule.Reference] = secret
	}
	return err
}

// Authorities returns the CAs that an object names for its registry, nil if it names none, or what is wrong with them.
func (c *Cluster) Authorities(ctx context.Context, object *v1.ImagePullSecret) (*x509.CertPool, *check.Result, error) {
	if object.Spec.Check == nil || object.Spec.Check.CASecretRef == nil {
		return nil, nil, nil
	}
	name := object.Spec.Check.CASecretRef.Name
	secret, err := get[corev1.Secret](ctx, c, secrets, c.product, name)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, nil, err
	}
	roots, unknown := check.Authorities(c.product+"/"+name, secret)
	return roots, unknown, nil
}
