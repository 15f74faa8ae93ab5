package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// permission is something that this process asks of the API server. Secrets of ImagePullSecrets are not among those that
// are checked: which of them it may touch can be narrowed to single names.
type permission struct {
	verbs                        string
	group, resource, subresource string
	name                         string // all objects where it is blank
	namespaced                   bool   // in this process' own namespace
	namespace                    string // in this one
	// without says what goes wrong without it; blank where nothing works then.
	without string
}

func permissions(o *options) []permission {
	const selfSigned = "the serving certificate will be self-signed"
	needed := []permission{
		{verbs: "list,watch", group: "tcr.tencentcloudcr.com", resource: "imagepullsecrets"},
		{verbs: "patch", group: "tcr.tencentcloudcr.com", resource: "imagepullsecrets", subresource: "status"},
		{verbs: "get,list,watch,create,patch,delete", group: "tcr.tencentcloudcr.com", resource: "derivedattachments"},
		{verbs: "list,watch", resource: "namespaces"},
		{verbs: "list,watch,patch", resource: "serviceaccounts"},
		{verbs: "list,watch,patch", resource: "secrets", name: certs.DefaultSecretName, namespaced: true},
		{verbs: "list,watch,patch", group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", name: webhook.MutatingConfiguration},
		{verbs: "list,watch,patch", group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations", name: webhook.ValidatingConfiguration},
		{verbs: "create", group: "certificates.k8s.io", resource: "certificatesigningrequests", without: selfSigned},
		{verbs: "get,delete", group: "certificates.k8s.io", resource: "certificatesigningrequests", name: certs.RequestName, without: selfSigned},
		{verbs: "update", group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "approval", name: certs.RequestName, without: selfSigned},
		{verbs: "approve", group: "certificates.k8s.io", resource: "signers", name: o.certSigner, without: selfSigned},
	}
	needed = append(needed, permission{verbs: "create,patch", resource: "events", namespace: metav1.NamespaceDefault, without: "no events will tell what happens"})
	if o.leaderElect {
		needed = append(needed,
			permission{verbs: "create", group: "coordination.k8s.io", resource: "leases", namespaced: true},
			permission{verbs: "list,watch,update", group: "coordination.k8s.io", resource: "leases", name: leaseName, namespaced: true})
	}
	return needed
}

// preflight asks the API server whether what this process needs is there, so that what is missing is told at once and in
// full, instead of piece by piece by whatever stumbles over it.
func preflight(ctx context.Context, log *slog.Logger, client *clientset.Clientset, o *options) error {
	if err := namespaceExists(ctx, client, o.namespace); err != nil {
		return err
	}
	var missing []error
	for _, needed := range permissions(o) {
		for verb := range strings.SplitSeq(needed.verbs, ",") {
			review, err := client.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: needed.attributes(verb, o.namespace)},
			}, metav1.CreateOptions{})
			switch {
			case err != nil:
				return fmt.Errorf("asking for permissions: %w", err)
			case review.Status.Allowed:
			case needed.without != "":
				log.Warn("permission is missing", "verb", verb, "resource", needed.String(), "consequence", needed.without)
			default:
				missing = append(missing, fmt.Errorf("permission is missing: %s %s (see ClusterRole %s)", verb, needed, clusterRole))
			}
		}
	}
	return errors.Join(missing...)
}

func (p permission) attributes(verb, namespace string) *authorizationv1.ResourceAttributes {
	attributes := &authorizationv1.ResourceAttributes{
		Verb: verb, Group: p.group, Version: "*", Resource: p.resource, Subresource: p.subresource, Name: p.name, Namespace: p.namespace,
	}
	if p.namespaced {
		attributes.Namespace = namespace
	}
	return attributes
}

// String names the resource as RBAC rules do.
func (p permission) String() string {
	name := p.resource
	if p.subresource != "" {
		name += "/" + p.subresource
	}
	if p.group != "" {
		name += "." + p.group
	}
	if p.name != "" {
		name += " " + p.name
	}
	return name
}

// namespaceExists lists where it could get: RBAC grants the one for the watch of all namespaces anyway.
func namespaceExists(ctx context.Context, client *clientset.Clientset, name string) error {
	list, err := client.Namespaces().List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(), Limit: 1,
	})
	switch {
	case err != nil:
		return fmt.Errorf("looking for namespace %s (--namespace): %w", name, err)
	case len(list.Items) == 0:
		return fmt.Errorf("looking for namespace %s (--namespace): it does not exist; create it, or name the one in which the webhook's Service is", name)
	}
	return nil
}
