package permissions

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

const manifest = `
kind: ServiceAccount
---
kind: ClusterRole
metadata: {name: wide}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [a, b], verbs: [create, patch]}
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval], verbs: [update]}
- {apiGroups: [certificates.k8s.io], resources: [signers], verbs: [approve]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], resourceNames: [mine], verbs: [escalate]}
---
kind: Role
metadata: {name: narrow, namespace: home}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list]}
`

func TestUnused(t *testing.T) {
	grants, err := Grants([]byte(manifest))
	require.NoError(t, err)
	require.Len(t, grants, 7)
	patch := cluster.Request{Verb: "patch", Resource: "secrets", Name: "a", Code: 200}
	lease := cluster.Request{Verb: "get", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "home", Code: 404}
	stream := cluster.Request{Verb: "watch", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "home", Code: 200,
		URI: "/leases?sendInitialEvents=true&watch=true"}
	approve := cluster.Request{Verb: "update", APIGroup: "certificates.k8s.io", Resource: "certificatesigningrequests",
		Subresource: "approval", Code: 200}
	role := cluster.Request{Verb: "patch", APIGroup: "rbac.authorization.k8s.io", Resource: "clusterroles", Name: "mine", Code: 200}
	for _, test := range []struct {
		name     string
		requests []cluster.Request
		want     []string
	}{
		{"nothing uses nothing", nil, []string{"create secrets a,b", "patch secrets a,b",
			"update certificatesigningrequests/approval.certificates.k8s.io ", "approve signers.certificates.k8s.io ",
			"escalate clusterroles.rbac.authorization.k8s.io mine", "get leases.coordination.k8s.io ", "list leases.coordination.k8s.io "}},
		{"each request uses its verb", []cluster.Request{patch, lease, stream, approve, role}, []string{"create secrets a,b"}},
		{"a patch that creates uses both", []cluster.Request{{Verb: "patch", Resource: "secrets", Name: "b", Code: 201}, lease, stream, approve,
			role}, nil},
		{"another name uses nothing", []cluster.Request{{Verb: "patch", Resource: "secrets", Name: "c", Code: 200}, lease, stream, approve, role},
			[]string{"create secrets a,b", "patch secrets a,b"}},
		{"another namespace uses nothing", []cluster.Request{patch,
			{Verb: "get", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "away", Code: 200}, stream, approve, role},
			[]string{"create secrets a,b", "get leases.coordination.k8s.io "}},
		{"a watch that does not begin with what there is is no list",
			[]cluster.Request{{Verb: "watch", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "home", Code: 200}, patch, lease,
				approve, role}, []string{"create secrets a,b", "list leases.coordination.k8s.io "}},
		{"who writes another role escalates nothing", []cluster.Request{{Verb: "patch", APIGroup: "rbac.authorization.k8s.io",
			Resource: "clusterroles", Name: "view", Code: 200}, {Verb: "patch", Resource: "secrets", Name: "b", Code: 201}, lease, stream, approve},
			[]string{"escalate clusterroles.rbac.authorization.k8s.io mine"}},
		{"a request that was refused uses nothing", []cluster.Request{{Verb: "patch", Resource: "secrets", Name: "a", Code: 403}, lease, stream,
			approve, role}, []string{"create secrets a,b", "patch secrets a,b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var have []string
			for _, grant := range Unused(grants, test.requests) {
				have = append(have, grant.String()[len(grant.Role)+2:])
			}
			assert.Equal(t, test.want, have)
		})
	}
}

func TestRefused(t *testing.T) {
	refused := cluster.Request{Verb: "list", Resource: "secrets", Code: 403, Unauthorized: true}
	// A namespace that is ending refuses new objects with 403 too, whoever asks.
	assert.Equal(t, []cluster.Request{refused}, Refused([]cluster.Request{refused, {Verb: "create", Code: 403}, {Verb: "get", Code: 200}}))
}
