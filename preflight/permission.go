package preflight

import (
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork/keeper"
	"github.com/tcr-assistant/tcr-assistant/webhook/registration"
)

// The Roles of this process, each in the namespace for which it grants permissions.
const (
	certificateRole = "Role tcr-assistant-webhook-server-cert-role"
	leaseRole       = "Role tcr-assistant-leader-election-role"
	credentialsRole = "Role tcr-assistant-credentials-role"
	tokensRole      = "Role tcr-assistant-tokens-role"
	networkRole     = "Role tcr-assistant-private-network-role"
)

func clusterRole(name string) string { return "ClusterRole " + name }

// permission is a permission that this process needs. Permissions for the Secrets of ImagePullSecrets are not checked: they can be
// narrowed to single names.
type permission struct {
	verbs                        string
	group, resource, subresource string
	name                         string // blank for all objects
	others                       string // further names that the role grants, after a comma
	namespaced                   bool   // in this process' own namespace
	namespace                    string // another namespace; blank for its own, or for all
	role                         string // the role that grants it, with its kind
	// without says what goes wrong without the permission; blank where nothing works then.
	without string
}

func (c Config) permissions() []permission {
	own := clusterRole(c.Role)
	needed := []permission{
		{verbs: "list,watch", group: "tcr.tencentcloudcr.com", resource: "imagepullsecrets", role: own},
		{verbs: "patch", group: "tcr.tencentcloudcr.com", resource: "imagepullsecrets", subresource: "status", role: own},
		{verbs: "get,list,watch,create,patch,delete", group: "tcr.tencentcloudcr.com", resource: "derivedattachments", role: own},
		{verbs: "list,watch", resource: "namespaces", role: own},
		{verbs: "get", resource: "namespaces", role: own,
			without: "an account created together with its namespace may get entries that depend on labels only moments later"},
		{verbs: "list,watch,patch", resource: "serviceaccounts", role: own},
		{verbs: "create,patch", resource: "events", role: own, without: "no events are recorded"},
		{verbs: "list,watch", resource: "secrets", namespaced: true, role: credentialsRole,
			without: "ImagePullSecrets with spec.docker.secretRef get no credential"},
	}
	if len(c.Tokens) > 0 {
		needed = append(needed, permission{
			verbs: "get,create,patch,update,delete", resource: "secrets",
			name: c.Tokens[0], others: strings.Join(append([]string{""}, c.Tokens[1:]...), ","),
			namespaced: true, role: tokensRole, without: "ImagePullSecrets with spec.tcr get no credential",
		})
	}
	if c.HostsUpdater != "" {
		const unfound = "private addresses of registries, for spec.tcr.privateNetwork, do not reach the nodes"
		needed = append(needed,
			permission{verbs: "list,watch", resource: "configmaps", name: keeper.Fixed, namespace: c.HostsUpdater, role: networkRole,
				without: unfound},
			permission{
				verbs: "list,watch,create,patch,delete", resource: "configmaps", name: keeper.Discovered, namespace: c.HostsUpdater,
				role: networkRole, without: unfound,
			})
	}
	if c.SecretsRole != "" {
		needed = append(needed,
			permission{verbs: "create", resource: "secrets", role: own},
			permission{verbs: "list,watch,patch,escalate", group: "rbac.authorization.k8s.io", resource: "clusterroles", name: c.SecretsRole,
				role: own})
	}
	if c.Lease != "" {
		needed = append(needed,
			permission{verbs: "create", group: "coordination.k8s.io", resource: "leases", namespaced: true, role: leaseRole},
			permission{verbs: "list,watch,update", group: "coordination.k8s.io", resource: "leases", name: c.Lease, namespaced: true,
				role: leaseRole})
	}
	return append(needed, c.webhookPermissions()...)
}

// webhookPermissions returns the permissions for the webhook; none where there is no webhook.
func (c Config) webhookPermissions() []permission {
	if c.WebhookRole == "" {
		return nil
	}
	role := clusterRole(c.WebhookRole)
	const selfSigned = "the serving certificate will be self-signed"
	needed := []permission{
		{verbs: "list,watch,create,patch,delete", resource: "secrets", name: certs.DefaultSecretName, namespaced: true, role: certificateRole},
		{verbs: "create", group: "certificates.k8s.io", resource: "certificatesigningrequests", role: role, without: selfSigned},
		{verbs: "get,watch,delete", group: "certificates.k8s.io", resource: "certificatesigningrequests", name: certs.RequestName, role: role,
			without: selfSigned},
		{verbs: "update", group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "approval", name: certs.RequestName,
			role: role, without: selfSigned},
		{verbs: "approve", group: "certificates.k8s.io", resource: "signers", name: c.Signer, role: role, without: selfSigned},
	}
	needed = append(needed, configurationPermissions(c.WebhookRole, "validatingwebhookconfigurations",
		registration.ValidatingConfiguration)...)
	if c.MutatingWebhookRole != "" {
		needed = append(needed, configurationPermissions(c.MutatingWebhookRole, "mutatingwebhookconfigurations",
			registration.MutatingConfiguration)...)
	}
	return needed
}

// configurationPermissions returns the permissions for one webhook configuration, and for the role that owns it.
func configurationPermissions(role, resource, name string) []permission {
	const unowned = "a webhook configuration that has no owner yet cannot be written where OwnerReferencesPermissionEnforcement is on"
	return []permission{
		{verbs: "get", group: "rbac.authorization.k8s.io", resource: "clusterroles", name: role, role: clusterRole(role)},
		{verbs: "list,watch,create,patch", group: "admissionregistration.k8s.io", resource: resource, name: name, role: clusterRole(role)},
		{verbs: "delete", group: "admissionregistration.k8s.io", resource: resource, name: name, role: clusterRole(role), without: unowned},
	}
}

func (p permission) attributes(verb, namespace string) *authorizationv1.ResourceAttributes {
	attributes := &authorizationv1.ResourceAttributes{
		Verb: verb, Group: p.group, Version: "*", Resource: p.resource, Subresource: p.subresource, Name: p.name,
	}
	if attributes.Namespace = p.namespace; p.namespaced {
		attributes.Namespace = namespace
	}
	return attributes
}

// String returns the resource as RBAC rules name it, with the names of single objects.
func (p permission) String() string {
	name := p.resource
	if p.subresource != "" {
		name += "/" + p.subresource
	}
	if p.group != "" {
		name += "." + p.group
	}
	if p.name != "" {
		name += " " + p.name + p.others
	}
	return name
}
