package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

// badValue is one wrong value beside good ones, and what the refusal must say.
type badValue struct {
	name string
	// object changes the one credential or host that is otherwise right.
	credential, host map[string]any
	// values are other values.
	values map[string]any
	says   []string
}

const (
	credentialPath = "global.imagePullSecretsCrs[0]"
	hostPath       = "global.hosts[0]"
)

var badValues = []badValue{
	{name: "a pattern in namespaces", credential: map[string]any{"namespaces": "team-*"}, says: []string{credentialPath + ".namespaces", "patterns are not supported"}},
	{name: "every sign of a pattern", credential: map[string]any{"namespaces": "a[,a],a(,a),a{,a},a^,a$,a|,a+,a?,a\\"}, says: patterns("a[", "a]", "a(", "a)", "a{", "a}", "a^", "a$", "a|", "a+", "a?", "a\\")},
	{name: "a star among names", credential: map[string]any{"namespaces": "a,*"}, says: []string{credentialPath + ".namespaces", `must be "*" alone`}},
	{name: "an empty entry", credential: map[string]any{"namespaces": "a,,b"}, says: []string{credentialPath + ".namespaces", "empty entry"}},
	{name: "a namespace twice", credential: map[string]any{"namespaces": "a, a"}, says: []string{credentialPath + ".namespaces", `"a" is listed twice`}},
	{name: "an upper case namespace", credential: map[string]any{"namespaces": "Team"}, says: []string{credentialPath + ".namespaces", "lower case"}},
	{name: "a namespace with a dot", credential: map[string]any{"namespaces": "a.b"}, says: []string{credentialPath + ".namespaces", `"a.b"`}},
	{name: "a namespace that is too long", credential: map[string]any{"namespaces": strings.Repeat("a", 64)}, says: []string{credentialPath + ".namespaces", "must be an exact namespace name"}},
	{name: "an upper case service account", credential: map[string]any{"serviceAccounts": "Builder"}, says: []string{credentialPath + ".serviceAccounts", "must be an exact service account name"}},
	{name: "a service account that is too long", credential: map[string]any{"serviceAccounts": strings.Repeat("a", 254)}, says: []string{credentialPath + ".serviceAccounts", "must be an exact service account name"}},
	{name: "a pattern in service accounts", credential: map[string]any{"serviceAccounts": "build-?"}, says: []string{credentialPath + ".serviceAccounts", "patterns are not supported"}},
	{name: "a list of namespaces", credential: map[string]any{"namespaces": []string{"a"}}, says: []string{"/global/imagePullSecretsCrs/0/namespaces", "want null or string"}},
	{name: "no name", credential: map[string]any{"name": nil}, says: []string{"/global/imagePullSecretsCrs/0", "name"}},
	{name: "an upper case name", credential: map[string]any{"name": "Team"}, says: []string{credentialPath + ".name", "lower case"}},
	{name: "a name that is too long", credential: map[string]any{"name": strings.Repeat("a", 247)}, says: []string{credentialPath + ".name", "at most 246"}},
	{name: "another type", credential: map[string]any{"type": "basic"}, says: []string{"/global/imagePullSecretsCrs/0/type", "docker"}},
	{name: "no server", credential: map[string]any{"dockerServer": "absent"}, says: []string{"/global/imagePullSecretsCrs/0", "missing property 'dockerServer'"}},
	{name: "an empty server", credential: map[string]any{"dockerServer": ""}, says: []string{credentialPath + ".dockerServer", "write the registry's host"}},
	{name: "a scheme", credential: map[string]any{"dockerServer": "https://a.example.com/x"}, says: []string{credentialPath + ".dockerServer", `write "a.example.com"`}},
	{name: "a path", credential: map[string]any{"dockerServer": "a.example.com/team"}, says: []string{credentialPath + ".dockerServer", `write "a.example.com"`}},
	{name: "user info", credential: map[string]any{"dockerServer": "hidden@a.example.com"}, says: []string{credentialPath + ".dockerServer", "without user info"}},
	{name: "a wildcard server", credential: map[string]any{"dockerServer": "*.example.com"}, says: []string{credentialPath + ".dockerServer", "patterns are not supported"}},
	{name: "a port that is none", credential: map[string]any{"dockerServer": "a.example.com:65536"}, says: []string{credentialPath + ".dockerServer", "port from 1 to 65535"}},
	{name: "port 0", credential: map[string]any{"dockerServer": "a.example.com:0"}, says: []string{credentialPath + ".dockerServer", "port from 1 to 65535"}},
	{name: "a server with an underscore", credential: map[string]any{"dockerServer": "a_b.example.com"}, says: []string{credentialPath + ".dockerServer", "must be a host with an optional port"}},
	{name: "an empty username", credential: map[string]any{"dockerUsername": " "}, says: []string{credentialPath + ".dockerUsername", "must not be blank"}},
	{name: "a username with a password", credential: map[string]any{"dockerUsername": "robot:hidden"}, says: []string{credentialPath + ".dockerUsername", `must not hold ":"`}},
	{name: "an empty password", credential: map[string]any{"dockerPassword": ""}, says: []string{credentialPath + ".dockerPassword", "must not be empty"}},
	{name: "a password of a truth value", credential: map[string]any{"dockerPassword": true}, says: []string{"/global/imagePullSecretsCrs/0/dockerPassword", "got boolean, want integer or string"}},
	{name: "a number that lost digits", credential: map[string]any{"dockerUsername": 1e15}, says: []string{"/global/imagePullSecretsCrs/0/dockerUsername", "maximum"}},
	{name: "an unknown key", credential: map[string]any{"dockerUser": "a"}, says: []string{"/global/imagePullSecretsCrs/0", "additional properties 'dockerUser' not allowed"}},
	{name: "an address that is none", host: map[string]any{"ip": "10.16.0"}, says: []string{"/global/hosts/0/ip", "'10.16.0' is not valid ipv4"}},
	{name: "an octet that is none", host: map[string]any{"ip": "10.16.0.256"}, says: []string{"/global/hosts/0/ip", "is not valid ipv4"}},
	{name: "a network", host: map[string]any{"ip": "10.16.0.0/24"}, says: []string{"/global/hosts/0/ip", "is not valid ipv4"}},
	{name: "a zone", host: map[string]any{"ip": "fe80::1%eth0"}, says: []string{"/global/hosts/0/ip", "is not valid ipv6"}},
	{name: "the unspecified address", host: map[string]any{"ip": "0.0.0.0"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "a multicast address", host: map[string]any{"ip": "239.1.2.3"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "another multicast address", host: map[string]any{"ip": "224.0.0.1"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "the broadcast address", host: map[string]any{"ip": "255.255.255.255"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "the unspecified IPv6 address", host: map[string]any{"ip": "::"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "a multicast IPv6 address", host: map[string]any{"ip": "ff02::1"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "a link-local IPv6 address", host: map[string]any{"ip": "FE80::1"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "an IPv4 address in IPv6 form", host: map[string]any{"ip": "::ffff:10.0.0.1"}, says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "no address", host: map[string]any{"ip": "absent"}, says: []string{"/global/hosts/0", "missing property 'ip'"}},
	{name: "a wildcard domain", host: map[string]any{"domain": "*.tencentcloudcr.com"}, says: []string{hostPath + ".domain", "is a wildcard"}},
	{name: "an empty domain", host: map[string]any{"domain": " "}, says: []string{hostPath + ".domain", "must not be empty"}},
	{name: "a domain with an underscore", host: map[string]any{"domain": "a_b.example.com"}, says: []string{hostPath + ".domain", "must be a DNS name: labels of"}},
	{name: "a domain that is too long", host: map[string]any{"domain": strings.Repeat("a.", 126) + "aa"}, says: []string{hostPath + ".domain", "must be a DNS name: labels of"}},
	{name: "a domain with a scheme", host: map[string]any{"domain": "https://a.example.com"}, says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "a domain with a path", host: map[string]any{"domain": "a.example.com/team"}, says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "a domain with a port", host: map[string]any{"domain": "a.example.com:443"}, says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "an address for a domain", host: map[string]any{"domain": "10.0.0.1"}, says: []string{hostPath + ".domain", "the address belongs in ip"}},
	{name: "localhost", host: map[string]any{"domain": "localhost"}, says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "localdomain", host: map[string]any{"domain": "node.localdomain6"}, says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "a name of IPv6", host: map[string]any{"domain": "ip6-allnodes"}, says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "broadcasthost", host: map[string]any{"domain": "BroadcastHost"}, says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "disabled: perhaps", host: map[string]any{"disabled": "perhaps"}, says: []string{"/global/hosts/0/disabled", "must be one of true, false"}},
	{name: "an unknown mode", values: map[string]any{"rbac": map[string]any{"secrets": "some"}}, says: []string{"/rbac/secrets", "'all', 'named'"}},
	{name: "an unknown value", values: map[string]any{"replicas": 3}, says: []string{"additional properties 'replicas' not allowed"}},
	{name: "a text for a number", values: map[string]any{"manager": map[string]any{"replicas": "2"}}, says: []string{"/manager/replicas", "got string, want integer"}},
}

func patterns(entries ...string) (says []string) {
	for _, entry := range entries {
		says = append(says, fmt.Sprintf("%q must be an exact namespace name: patterns are not supported", entry))
	}
	return says
}

func TestBadValuesFailTheInstall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w.helm = helmPaths[i]
			for _, bad := range badValues {
				t.Run(bad.name, func(t *testing.T) {
					w.refuses(t, bad.file(t), bad.says...)
				})
			}
			t.Run("two credentials of one name and two addresses of one domain are told together", func(t *testing.T) {
				w.refuses(t, write(t, map[string]any{"global": map[string]any{
					"imagePullSecretsCrs": []any{goodCredential(), goodCredential()},
					"hosts":               []any{goodHost(), map[string]any{"domain": "A.example.com.", "ip": "10.0.0.6"}},
				}}), `global.imagePullSecretsCrs[1].name: "a" is the name of global.imagePullSecretsCrs[0] already`,
					`global.hosts[1].domain: "A.example.com." has an address of this kind from global.hosts[0] already`)
			})
		})
	}
	assert.Empty(t, w.Kubectl("get", "deployments,secrets,clusterroles", "-A", "-l", "app.kubernetes.io/name=tcr-assistant", "-o", "name"), "nothing of them was installed")
}

func TestGoodValuesAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, values := range map[string]map[string]any{
		"nothing":                     {},
		"nulls":                       {"global": map[string]any{"imagePullSecretsCrs": nil, "hosts": nil, "cluster": nil}},
		"an IPv6 registry":            {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(), map[string]any{"dockerServer": "[2001:db8::1]:5000"})}}},
		"names with blanks":           {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(), map[string]any{"namespaces": " a , b ", "serviceAccounts": "x.y"})}}},
		"blank lists":                 {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(), map[string]any{"namespaces": "", "serviceAccounts": nil})}}},
		"both kinds of address":       {"global": map[string]any{"hosts": []any{goodHost(), map[string]any{"domain": "a.example.com", "ip": "fd00::5"}}}},
		"a disabled host is not read": {"global": map[string]any{"hosts": []any{map[string]any{"domain": "*", "ip": "none", "disabled": "true"}}}},
		"keys of other charts":        {"global": map[string]any{"imageRegistry": "registry.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.30.0", "-f", write(t, values))
			assert.NoError(t, err, out)
		})
	}
}

func goodCredential() map[string]any {
	return map[string]any{"name": "a", "namespaces": "*", "serviceAccounts": "*", "type": "docker",
		"dockerUsername": "u", "dockerPassword": "hidden", "dockerServer": "a.example.com"}
}

func goodHost() map[string]any { return map[string]any{"domain": "a.example.com", "ip": "10.0.0.5"} }

// merged returns values with others over them; "absent" removes a key.
func merged(values, others map[string]any) map[string]any {
	for key, value := range others {
		values[key] = value
		if value == "absent" {
			delete(values, key)
		}
	}
	return values
}

func (b badValue) file(t *testing.T) string {
	t.Helper()
	return write(t, merged(map[string]any{"global": map[string]any{
		"imagePullSecretsCrs": []any{merged(goodCredential(), b.credential)}, "hosts": []any{merged(goodHost(), b.host)},
	}}, b.values))
}

func write(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(values)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// refuses asks Helm to install the values, which must fail and say why, without the password.
func (w *world) refuses(t *testing.T, file string, says ...string) {
	t.Helper()
	out, err := w.tryHelm("install", "tcr-assistant", chart, "--namespace", manager.Namespace, "-f", file)
	require.Error(t, err)
	for _, what := range says {
		assert.Contains(t, out, what)
	}
	assert.NotContains(t, out, "hidden")
}
