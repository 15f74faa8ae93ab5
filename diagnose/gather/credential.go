package gather

import (
	"context"
	"crypto/x509"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Referred looks at the Secrets that ImagePullSecrets refer to, and returns which it could not see, too.
func (c *Cluster) Referred(ctx context.Context, objects ...v1.ImagePullSecret) (credential.Seen, []diagnose.Unseen) {
	seen := c.noneSeen()
	var hidden unseen
	for i := range objects {
		if err := c.refer(ctx, seen, &objects[i]); err != nil {
			hidden.note(diagnose.PartCredentials, err)
		}
	}
	return seen, hidden
}

func (c *Cluster) noneSeen() credential.Seen {
	return credential.Seen{Namespace: c.product, Secrets: map[string]*corev1.Secret{}}
}

// refer adds what an object refers to to what was seen. What an invalid one names may be anything, and is not asked for.
func (c *Cluster) refer(ctx context.Context, seen credential.Seen, object *v1.ImagePullSecret) error {
	rule, errs := pullsecret.Check(object)
	if len(errs) > 0 || rule.Reference == "" {
		return nil
	}
	if _, looked := seen.Secrets[rule.Reference]; looked {
		return nil
	}
	secret, err := get[corev1.Secret](ctx, c, secrets, c.product, rule.Reference)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	seen.Secrets[rule.Reference] = secret
	return nil
}

// Authorities returns those that an object names for its registry, nil where it names none, or what is wrong with them.
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
