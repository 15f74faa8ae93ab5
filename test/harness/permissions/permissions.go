// Package permissions compares what RBAC grants with what an audit log shows to be asked for.
package permissions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

// Grant is one verb on one resource.
type Grant struct {
	Role      string   // which gives it
	Namespace string   // in which it holds; empty for all, and for what is in none
	APIGroup  string   // empty for the core group
	Resource  string   // with its subresource, as in RBAC
	Names     []string // of the objects on which it holds; empty for all
	Verb      string
}

// String names the grant as a table of permissions would.
func (g Grant) String() string {
	name := g.Resource
	if g.APIGroup != "" {
		name += "." + g.APIGroup
	}
	return fmt.Sprintf("%s: %s %s %s", g.Role, g.Verb, name, strings.Join(g.Names, ","))
}

// Grants returns what the ClusterRoles and Roles of a manifest grant. All of them are taken to be bound to one user.
func Grants(manifest []byte) ([]Grant, error) {
	var grants []Grant
	reader := yaml.NewYAMLToJSONDecoder(bytes.NewReader(manifest))
	for {
		var role rbacv1.ClusterRole // a Role has the same shape
		switch err := reader.Decode(&role); {
		case errors.Is(err, io.EOF):
			return grants, nil
		case err != nil:
			return nil, fmt.Errorf("reading the roles of a manifest: %w", err)
		case role.Kind != "ClusterRole" && role.Kind != "Role":
			continue
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						grants = append(grants, Grant{role.Name, role.Namespace, group, resource, rule.ResourceNames, verb})
					}
				}
			}
		}
	}
}

// Listed returns what a role grants whose rules are written while the product runs, for whichever names.
func Listed(role secretsrole.Role) []Grant {
	var grants []Grant
	for _, verb := range role.Verbs {
		grants = append(grants, Grant{Role: role.Name, Resource: "secrets", Verb: verb})
	}
	return grants
}

// Unused returns the grants that none of the requests needs.
func Unused(grants []Grant, requests []cluster.Request) []Grant {
	return slices.DeleteFunc(slices.Clone(grants), func(grant Grant) bool {
		return slices.ContainsFunc(requests, grant.neededFor)
	})
}

// neededFor says whether a request that was answered makes use of the grant.
func (g Grant) neededFor(r cluster.Request) bool {
	resource := r.Resource
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	switch {
	case r.Code >= 400 && r.Code != 404 && r.Code != 409:
		return false
	case g.Resource == "signers":
		// No request names a signer: who approves a certificate request needs it.
		return g.Verb == "approve" && resource == "certificatesigningrequests/approval"
	case g.Verb == "escalate":
		// No request escalates: who writes a role that grants what it lacks itself needs it.
		return r.Verb == "patch" && r.APIGroup == g.APIGroup && resource == g.Resource && slices.Contains(g.Names, r.Name)
	case g.APIGroup == "admissionregistration.k8s.io" && g.Verb == "delete":
		// No request deletes one: who sets its owner needs it, where OwnerReferencesPermissionEnforcement is on.
		return r.Verb == "patch" && r.APIGroup == g.APIGroup && resource == g.Resource && slices.Contains(g.Names, r.Name)
	case r.APIGroup != g.APIGroup || resource != g.Resource:
		return false
	case g.Namespace != "" && r.Namespace != g.Namespace, len(g.Names) > 0 && !slices.Contains(g.Names, r.Name):
		return false
	}
	switch g.Verb {
	case r.Verb:
		return true
	case "create":
		// A patch that creates its object, as a server-side apply may, needs both verbs.
		return r.Verb == "patch" && r.Code == 201
	case "list":
		// A watch that begins with what there is takes the place of a list (KEP-3157). API servers that cannot do it refuse, and
		// get the list.
		return r.Verb == "watch" && strings.Contains(r.URI, "sendInitialEvents=true")
	default:
		return false
	}
}

// Refused returns the requests for which there was no grant.
func Refused(requests []cluster.Request) []cluster.Request {
	return slices.DeleteFunc(slices.Clone(requests), func(r cluster.Request) bool { return !r.Unauthorized })
}
