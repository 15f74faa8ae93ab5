package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

// The ClusterRoles of this process. Each owns what it permits to write: once the role is deleted, by an uninstall or by an upgrade that no
// longer has it, the cluster's garbage collector deletes that, too, and this process needs no permission to delete it.
const (
	managerRole         = "tcr-assistant-manager-role"          // the Lease, what is derived
	webhookRole         = "tcr-assistant-webhook-role"          // the validating configuration, the certificate
	mutatingWebhookRole = "tcr-assistant-mutating-webhook-role" // the mutating configuration
)

// ownerLookup returns a reference to the owner of what is written.
type ownerLookup = func(context.Context) (*metav1.OwnerReference, error)

// ownership returns an ownerLookup for a ClusterRole of this process. It returns nil if the role does not exist, as for a process that runs
// outside the cluster under an account of its own. Once the role has been seen, it fails if the role is missing: an uninstall would leave
// behind what is written then. A role that was deleted and recreated is another owner.
func ownership(log *slog.Logger, client *clientset.Clientset, clusterRole string) ownerLookup {
	var known atomic.Bool
	warn := sync.OnceFunc(func() {
		log.Warn("cluster role was not found: what it would own will have to be deleted by hand", "clusterRole", clusterRole)
	})
	return func(ctx context.Context) (*metav1.OwnerReference, error) {
		role, err := client.ClusterRoles().Get(ctx, clusterRole, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && !known.Load():
			warn()
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading cluster role %s: %w", clusterRole, err)
		}
		known.Store(true)
		return &metav1.OwnerReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: role.Name, UID: role.UID}, nil
	}
}

// identity returns a function that fills in the user name of this process and the owner of each configuration in a template.
func identity(
	log *slog.Logger, client *clientset.Clientset, validating ownerLookup,
) func(context.Context, string, *registration.Template) error {
	owners := map[string]ownerLookup{
		registration.ValidatingConfiguration: validating,
		registration.MutatingConfiguration:   ownership(log, client, mutatingWebhookRole),
	}
	var known atomic.Pointer[string]
	return func(ctx context.Context, configuration string, template *registration.Template) (err error) {
		if template.Owner, err = owners[configuration](ctx); err != nil {
			return err
		}
		if known.Load() == nil {
			name, err := ownName(ctx, log, client)
			if err != nil {
				return err
			}
			known.Store(&name)
		}
		template.Self = *known.Load()
		return nil
	}
}

// ownName returns the user name of this process at the API server; blank if the API server does not report it, as before 1.28.
func ownName(ctx context.Context, log *slog.Logger, client *clientset.Clientset) (string, error) {
	review, err := client.SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err):
		log.Info("own user name was not found: the webhook is called for this process' own writes, too", "error", err)
		return "", nil
	case err != nil:
		return "", fmt.Errorf("asking for the user name of this process: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}

// certConfig returns the certificate's configuration, with the names and addresses at which API servers call this process.
func certConfig(log *slog.Logger, o *options, owner ownerLookup) certs.Config {
	config := certs.Config{
		Log: log, Namespace: o.namespace, Signer: o.certSigner, Duration: o.certDuration,
		DNSNames: []string{registration.ServiceName + "." + o.namespace + ".svc"},
		Owner:    owner,
	}
	if o.webhookURL == "" {
		return config
	}
	if parsed, err := url.Parse(o.webhookURL); err == nil {
		if ip := net.ParseIP(parsed.Hostname()); ip != nil {
			config.IPs = append(config.IPs, ip)
		} else {
			config.DNSNames = append(config.DNSNames, parsed.Hostname())
		}
	}
	return config
}
