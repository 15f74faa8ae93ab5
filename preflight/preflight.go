// Package preflight asks the API server whether what the manager needs is there, so that all that is missing is
// reported at once, instead of piece by piece by whatever needs it.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// doubtful is for how long nothing counts as refused: an API server that has just started knows of no roles.
const doubtful = 3 * time.Second

// Config says what is needed.
type Config struct {
	Log     *slog.Logger
	Clients *clientset.Clientset
	// Namespace is the manager's own.
	Namespace string
	// Signer issues the webhook's serving certificate.
	Signer string
	// Tokens are the Secrets with the records of tokens, which one role grants together; none where none are kept.
	Tokens []string
	// HostsUpdater is the namespace of hosts-updater, for which private addresses are published; blank where none are.
	HostsUpdater string
	// Lease is what replicas compete for; blank where there is one replica.
	Lease string
	// SecretsRole is the ClusterRole in which the manager lists the Secrets that it may read; blank where it keeps none.
	SecretsRole string
	// Role is the manager's ClusterRole, which is named where a permission is missing. So is WebhookRole, which owns what is written,
	// where there is a webhook, and MutatingWebhookRole where it attaches Secrets; they are blank where there is none.
	Role, WebhookRole, MutatingWebhookRole string
	// Owner looks up what owns the objects that the manager writes for itself.
	Owner func(context.Context) (*metav1.OwnerReference, error)
}

// Run returns nil once all that is needed is there, and else everything that is missing. An API server that fails, or that
// cannot be reached, has not answered: it is asked again until it has, since to end would help nobody.
func Run(ctx context.Context, cfg Config) error {
	pauses := backoff.Between(200*time.Millisecond, 15*time.Second)
	var refused time.Time // when something was refused first
	for {
		lesser, err := cfg.check(ctx)
		final := err == nil || !transient(err)
		if errors.Is(err, errRefused) || apierrors.IsForbidden(err) {
			if refused.IsZero() {
				refused = time.Now()
			}
			final = time.Since(refused) >= doubtful
		}
		if final || ctx.Err() != nil {
			for _, missing := range lesser {
				cfg.Log.Warn("permission is missing", "verb", missing.verbs, "resource", missing.String(), "role", missing.role, "consequence",
					missing.without)
			}
			return err
		}
		if transient(err) {
			refused = time.Time{}
			cfg.Log.Warn("cluster was not checked", "error", err)
		}
		backoff.Sleep(ctx, pauses.Step())
	}
}

// transient says whether an error is no answer to what was asked.
func transient(err error) bool {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, errRefused):
		return false
	case !errors.As(err, &status):
		return true // it was not reached
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	default:
		return code < 400 || code >= 500
	}
}

// errRefused marks what the API server said that there is not.
var errRefused = errors.New("not there")

// refusal is an error that is marked.
type refusal struct{ error }

func (refusal) Is(target error) bool { return target == errRefused }

// check asks once. What is missing and can be done without comes apart, one verb each.
func (c Config) check(ctx context.Context) (lesser []permission, err error) {
	if _, err := c.Owner(ctx); err != nil {
		return nil, err
	}
	if err := c.namespaceExists(ctx); err != nil {
		return nil, err
	}
	var missing []error
	for _, needed := range c.permissions() {
		for verb := range strings.SplitSeq(needed.verbs, ",") {
			review, err := c.Clients.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: needed.attributes(verb, c.Namespace)},
			}, metav1.CreateOptions{})
			switch {
			case err != nil:
				return nil, fmt.Errorf("asking for permissions: %w", err)
			case review.Status.Allowed:
			case needed.without != "":
				one := needed
				one.verbs = verb
				lesser = append(lesser, one)
			default:
				missing = append(missing, fmt.Errorf("permission is missing: %s %s (see %s)", verb, needed, needed.role))
			}
		}
	}
	if len(missing) > 0 {
		return lesser, refusal{errors.Join(missing...)}
	}
	return lesser, nil
}

// namespaceExists lists where it could get: RBAC grants the one for the watch of all namespaces anyway.
func (c Config) namespaceExists(ctx context.Context) error {
	list, err := c.Clients.Namespaces().List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", c.Namespace).String(), Limit: 1,
	})
	switch {
	case err != nil:
		return fmt.Errorf("looking for namespace %s (--namespace): %w", c.Namespace, err)
	case len(list.Items) == 0:
		return refusal{fmt.Errorf("looking for namespace %s (--namespace): it does not exist; create it, or name the one in which the "+
			"webhook's Service is", c.Namespace)}
	}
	return nil
}
