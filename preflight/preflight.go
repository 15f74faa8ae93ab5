// Package preflight asks the API server whether everything that the manager needs is there, so that everything that is missing is
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

// doubtful is how long refusals do not count: an API server that has just started does not know any roles.
const doubtful = 3 * time.Second

// Config says what is needed.
type Config struct {
	Log     *slog.Logger
	Clients *clientset.Clientset
	// Namespace is the manager's own.
	Namespace string
	// Signer issues the webhook's serving certificate.
	Signer string
	// Tokens are the names of the Secrets that hold the records of tokens, which one role grants together; empty where none are kept.
	Tokens []string
	// HostsUpdater is the namespace of hosts-updater, for which private addresses are published; blank where none are published.
	HostsUpdater string
	// Lease is the name of the Lease of leader election; blank where there is only one replica.
	Lease string
	// SecretsRole is the ClusterRole in which the manager lists the Secrets that it may read; blank where it keeps no such role.
	SecretsRole string
	// Role is the manager's ClusterRole. WebhookRole is the one that owns the validating webhook configuration and the certificate, and
	// MutatingWebhookRole the one that owns the mutating webhook configuration; each is blank where there is no such webhook. They are named
	// where a permission is missing.
	Role, WebhookRole, MutatingWebhookRole string
	// Owner looks up the owner of the objects that the manager writes for itself.
	Owner func(context.Context) (*metav1.OwnerReference, error)
}

// Run returns nil once everything that is needed is there, and otherwise an error with everything that is missing. An API server that
// fails, or cannot be reached, is asked again until it answers, since giving up would help nobody.
func Run(ctx context.Context, cfg Config) error {
	pauses := backoff.Between(200*time.Millisecond, 15*time.Second)
	var refused time.Time // when something was first refused
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

// transient reports whether an error leaves open what was asked.
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

// errRefused marks errors about what is missing, as the API server says.
var errRefused = errors.New("not there")

// refusal is an error that is marked with errRefused.
type refusal struct{ error }

func (refusal) Is(target error) bool { return target == errRefused }

// check asks once. Missing permissions that the manager can do without are returned in lesser, with one verb each.
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

// namespaceExists lists instead of using get, since the watch of all namespaces needs the permission to list anyway.
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
