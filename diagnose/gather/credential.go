package gather

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Referred looks at the Secrets that ImagePullSecrets refer to, and returns which it could not see, too.
func (c *Cluster) Referred(ctx context.Context, objects ...v1.ImagePullSecret) (credential.Seen, []diagnose.Unseen) {
	referred := c.noneSeen()
	var hidden unseen
	for i := range objects {
		if err := referred.look(ctx, &objects[i]); err != nil {
			hidden.note(diagnose.PartCredentials, err)
		}
	}
	return referred.seen, hidden
}

// referred are the Secrets that ImagePullSecrets refer to.
type referred struct {
	*Cluster
	secrets map[string]lookup[corev1.Secret]
	// seen are those that could be seen.
	seen credential.Seen
}

func (c *Cluster) noneSeen() *referred {
	return &referred{Cluster: c, secrets: map[string]lookup[corev1.Secret]{},
		seen: credential.Seen{Namespace: c.product, Secrets: map[string]*corev1.Secret{}}}
}

// look looks at what an object refers to. What an invalid one names may be anything, and is not asked for.
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
