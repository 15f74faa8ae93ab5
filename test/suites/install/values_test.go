package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
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
	{name: "a namespace twice", credential: map[string]any{"namespaces": "a, a"},
		says: []string{credentialPath + ".namespaces", `"a" is listed twice`}},
	{name: "a service account twice", credential: map[string]any{"serviceAccounts": "b,a,b"},
		says: []string{credentialPath + ".serviceAccounts", `"b" is listed twice`}},
	{name: "a list of namespaces", credential: map[string]any{"namespaces": []string{"a"}},
		says: []string{"/global/imagePullSecretsCrs/0/namespaces", "want null or string"}},
	{name: "no name", credential: map[string]any{"name": nil}, says: []string{"/global/imagePullSecretsCrs/0", "name"}},
	{name: "an upper case name", credential: map[string]any{"name": "Team"},
		says: []string{credentialPath + ".name", `"Team" is not a valid object name`, "lower case letters"}},
	{name: "an empty name", credential: map[string]any{"name": ""}, says: []string{credentialPath + ".name", `"" is not a valid object name`}},
	{name: "another type", credential: map[string]any{"type": "basic"}, says: []string{"/global/imagePullSecretsCrs/0/type", "docker"}},
	{name: "no server", credential: map[string]any{"dockerServer": "absent"},
		says: []string{credentialPath + ".dockerServer", "must be set beside a credential"}},
	{name: "a password of a truth value", credential: map[string]any{"dockerPassword": true},
		says: []string{credentialPath + ".dockerPassword", "must be a string: write it in quotes"}},
	{name: "a password of a number", credential: map[string]any{"dockerPassword": secretNumber},
		says: []string{credentialPath + ".dockerPassword", "must be a string: write it in quotes"}},
	{name: "a password of few digits", credential: map[string]any{"dockerPassword": 1234567},
		says: []string{credentialPath + ".dockerPassword", "must be a string: write it in quotes"}},
	{name: "no password", credential: map[string]any{"dockerPassword": nil},
		says: []string{credentialPath + ".dockerPassword", "must be set beside spec.docker.username"}},
	{name: "no username", credential: map[string]any{"dockerUsername": "absent"},
		says: []string{credentialPath + ".dockerUsername", "must be set beside spec.docker.password"}},
	{name: "no credential", credential: map[string]any{"dockerUsername": "absent", "dockerPassword": "absent"},
		says: []string{credentialPath + ".secretRef", "must hold a credential"}},
	{name: "two sources", credential: map[string]any{"secretRef": map[string]any{"name": "a"}},
		says: []string{credentialPath + ".secretRef", "must be the only source of the credential"}},
	{name: "a list for a password", credential: map[string]any{"dockerPassword": []string{"hidden"}},
		says: []string{credentialPath + ".dockerPassword", "must be a string: write it in quotes"}},
	{name: "a username of a number", credential: map[string]any{"dockerUsername": 100012345678},
		says: []string{credentialPath + ".dockerUsername", "Helm may have changed: write it in quotes"}},
	{name: "a name of a number", credential: map[string]any{"name": 10},
		says: []string{credentialPath + ".name", "Helm may have changed: write it in quotes"}},
	{name: "an unknown key", credential: map[string]any{"dockerUser": "a"},
		says: []string{"/global/imagePullSecretsCrs/0", "additional properties 'dockerUser' not allowed"}},
	{name: "an address that is none", host: map[string]any{"ip": "10.16.0"},
		says: []string{"/global/hosts/0/ip", "'10.16.0' is not valid ipv4"}},
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
	{name: "an IPv4 address in IPv6 form", host: map[string]any{"ip": "::ffff:10.0.0.1"},
		says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "no address", host: map[string]any{"ip": "absent"}, says: []string{"/global/hosts/0", "missing property 'ip'"}},
	{name: "a wildcard domain", host: map[string]any{"domain": "*.tencentcloudcr.com"}, says: []string{hostPath + ".domain", "is a wildcard"}},
	{name: "an empty domain", host: map[string]any{"domain": " "}, says: []string{hostPath + ".domain", "must not be empty"}},
	{name: "a domain with an underscore", host: map[string]any{"domain": "a_b.example.com"},
		says: []string{hostPath + ".domain", "must be a DNS name: labels of"}},
	{name: "a domain that is too long", host: map[string]any{"domain": strings.Repeat("a.", 126) + "aa"},
		says: []string{hostPath + ".domain", "must be a DNS name: labels of"}},
	{name: "a domain with a scheme", host: map[string]any{"domain": "https://a.example.com"},
		says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "a domain with a path", host: map[string]any{"domain": "a.example.com/team"},
		says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "a domain with a port", host: map[string]any{"domain": "a.example.com:443"},
		says: []string{hostPath + ".domain", "without scheme, path and port"}},
	{name: "an address for a domain", host: map[string]any{"domain": "10.0.0.1"},
		says: []string{hostPath + ".domain", "the address belongs in ip"}},
	{name: "localhost", host: map[string]any{"domain": "localhost"}, says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "localdomain", host: map[string]any{"domain": "node.localdomain6"},
		says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "a name of IPv6", host: map[string]any{"domain": "ip6-allnodes"},
		says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "broadcasthost", host: map[string]any{"domain": "BroadcastHost"},
		says: []string{hostPath + ".domain", "the node's name for itself"}},
	{name: "disabled: perhaps", host: map[string]any{"disabled": "perhaps"},
		says: []string{"/global/hosts/0/disabled", "must be one of true, false"}},
	{name: "the unspecified IPv6 address at length", host: map[string]any{"ip": "0:0:0:0:0:0:0:0"},
		says: []string{hostPath + ".ip", "every node can reach"}},
	{name: "no image", values: map[string]any{"image": map[string]any{"repository": ""}},
		says: []string{"image.repository: must be set", "make image PUSH="}},
	{name: "a label of the manager's selector",
		values: map[string]any{"manager": map[string]any{"podLabels": map[string]any{"app.kubernetes.io/component": "x"}}},
		says:   []string{"manager.podLabels", "which the chart sets itself"}},
	{name: "a label of the selector of hosts-updater",
		values: map[string]any{"hostsUpdater": map[string]any{"podLabels": map[string]any{"app.kubernetes.io/name": "x"}}},
		says:   []string{"hostsUpdater.podLabels", "which the chart sets itself"}},
	{name: "a label of the chart on a monitor",
		values: map[string]any{"monitoring": map[string]any{"serviceMonitor": map[string]any{"labels": map[string]any{"app.kubernetes.io/version": "x"}}}}, says: []string{"monitoring.serviceMonitor.labels", "which the chart sets itself"}},
	{name: "a surge", values: map[string]any{"hostsUpdater": map[string]any{"maxSurge": 0}},
		says: []string{"/hostsUpdater", "additional properties 'maxSurge' not allowed"}},
	{name: "a list of its own without who watches over it",
		values: map[string]any{"admissionPolicies": map[string]any{"restrictManager": false}},
		says:   []string{"rbac.secrets: must not be narrowed", "Write admissionPolicies.restrictManager: true, or rbac.secrets: all, or named"}},
	{name: "no certificate for an authority", values: map[string]any{"webhook": map[string]any{"clientCA": "/etc/ca.crt"}},
		says: []string{"webhook.clientCA: holds no certificate", "--set-file webhook.clientCA=ca.crt"}},
	{name: "an authority's key", values: map[string]any{"webhook": map[string]any{"clientCA": "-----BEGIN CERTIFICATE-----\n-----BEGIN EC " +
		"PRIVATE KEY-----\n"}}, says: []string{"webhook.clientCA: holds a private key"}},
	{name: "an endpoint without TLS", values: cloud("endpoint", "http://tcr.tencentcloudapi.com"),
		says: []string{"global.tcr.endpoint: must be an https URL with nothing but a host", "https://{service}.internal.tencentcloudapi.com"}},
	{name: "an endpoint with a path", values: cloud("endpoint", "https://tcr.tencentcloudapi.com/hidden"),
		says: []string{"global.tcr.endpoint: must be an https URL"}},
	{name: "an endpoint with another word in braces", values: cloud("endpoint", "https://{region}.tencentcloudapi.com"),
		says: []string{"global.tcr.endpoint: must be an https URL"}},
	{name: "an endpoint with a password", values: cloud("endpoint", "https://a:hidden@tcr.tencentcloudapi.com"),
		says: []string{"global.tcr.endpoint: must be an https URL"}},
	{name: "a metadata service without a scheme", values: cloud("metadataEndpoint", "metadata.tencentyun.com"),
		says: []string{"global.tcr.metadataEndpoint: must be an http or https URL", "http://metadata.tencentyun.com"}},
	{name: "a proxy without a scheme", values: cloud("httpsProxy", "proxy.example.com:3128"),
		says: []string{"global.tcr.httpsProxy: must be an http or https URL", "http://proxy.example.com:3128"}},
	{name: "a proxy with a password", values: cloud("httpsProxy", "http://a:hidden@proxy.example.com:3128"),
		says: []string{"global.tcr.httpsProxy: must be an http or https URL", "without a password"}},
	{name: "a list without commas", values: cloud("httpsProxy", "http://proxy.example.com:3128", "noProxy", "a.example.com b.example.com"),
		says: []string{"global.tcr.noProxy: must be hosts", `separated by ","`}},
	{name: "exceptions of no proxy", values: cloud("noProxy", "a.example.com"), says: []string{"global.tcr.noProxy: has no effect"}},
	{name: "another cloud's cluster", values: cloud("clusterId", "arn:aws:eks"),
		says: []string{`global.tcr.clusterId: "arn:aws:eks" must be the id of a cluster, such as cls-xxxxxxxx`}},
	{name: "a role of another cloud", values: cloud("roleArn", "arn:aws:iam::1:role/a"),
		says: []string{"global.tcr.roleArn", "qcs::cam::uin/100000000001:roleName/tcr-assistant"}},
	{name: "a role and keys", values: cloud("roleArn", "qcs::cam::uin/1:roleName/a", "credentialsSecretRef", map[string]any{"name": "cam"}),
		says: []string{"global.tcr.credentialsSecretRef: has no effect together with global.tcr.roleArn"}},
	{name: "keys without a name", values: cloud("credentialsSecretRef", map[string]any{"name": ""}),
		says: []string{`global.tcr.credentialsSecretRef.name: "" is not a valid object name`}},
	{name: "a Secret of certificates that is none", values: cloud("caSecretRef", map[string]any{"name": "A_b"}),
		says: []string{`global.tcr.caSecretRef.name: "A_b" is not a valid object name`}},
	{name: "no certificate for the cloud", values: cloud("ca", "/etc/ca.crt"),
		says: []string{"global.tcr.ca: holds no certificate", "--set-file global.tcr.ca=ca.crt"}},
	{name: "the key of the cloud", values: cloud("ca", "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"),
		says: []string{"global.tcr.ca: holds a private key"}},
	{name: "certificates in two places", values: cloud("ca", "-----BEGIN CERTIFICATE-----", "caConfigMapRef", map[string]any{"name": "a"}),
		says: []string{"global.tcr.caConfigMapRef: must not be set together with global.tcr.ca"}},
	{name: "an unknown mode", values: map[string]any{"rbac": map[string]any{"secrets": "some"}},
		says: []string{"/rbac/secrets", "'all', 'named'"}},
	{name: "an unknown value", values: map[string]any{"replicas": 3}, says: []string{"additional properties 'replicas' not allowed"}},
	{name: "a text for a number", values: map[string]any{"manager": map[string]any{"replicas": "2"}},
		says: []string{"/manager/replicas", "got string, want integer"}},
}

// cloud returns values of global.tcr, given keys and their values in turn.
func cloud(pairs ...any) map[string]any {
	values := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i].(string)] = pairs[i+1]
	}
	return map[string]any{"global": map[string]any{"tcr": values}}
}

// secretNumber is a password that must not be repeated.
const secretNumber = 48151623420

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
				}}), `global.imagePullSecretsCrs[1].name: "a" is already the name of global.imagePullSecretsCrs[0]`,
					`global.hosts[1].domain: "A.example.com." has an address of this kind from global.hosts[0] already`)
			})
		})
	}
	assert.Empty(t, w.Kubectl("get", "deployments,secrets,clusterroles", "-A", "-l", "app.kubernetes.io/name=tcr-assistant", "-o", "name"),
		"nothing of them was installed")
}

func TestGoodValuesAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, values := range map[string]map[string]any{
		"nothing": {},
		"nulls":   {"global": map[string]any{"imagePullSecretsCrs": nil, "hosts": nil, "cluster": nil}},
		"an IPv6 registry": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(),
			map[string]any{"dockerServer": "[2001:db8::1]:5000"})}}},
		"names with blanks": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(),
			map[string]any{"namespaces": " a , b ", "serviceAccounts": "x.y"})}}},
		"blank lists": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(),
			map[string]any{"namespaces": "", "serviceAccounts": nil})}}},
		"both kinds of address": {"global": map[string]any{"hosts": []any{goodHost(),
			map[string]any{"domain": "a.example.com", "ip": "fd00::5"}}}},
		"a disabled host is not read": {"global": map[string]any{"hosts": []any{map[string]any{"domain": "*", "ip": "none",
			"disabled": "true"}}}},
		"a cluster of other keys": {"global": map[string]any{"cluster": map[string]any{"id": "cls-1"}}},
		"a reference": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(), map[string]any{
			"dockerUsername": nil, "dockerPassword": nil, "secretRef": map[string]any{"name": "a"}, "additionalServers": []any{"b.example.com"},
		})}}},
		"neither more servers nor a reference": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(),
			map[string]any{"secretRef": nil, "additionalServers": nil})}}},
		"a type that is null": {"global": map[string]any{"imagePullSecretsCrs": []any{merged(goodCredential(),
			map[string]any{"type": nil})}}},
		"a pull secret of digits": {"imagePullSecrets": []any{"123"}},
		"no cloud":                {"global": map[string]any{"tcr": nil}},
		"nulls of a cloud": cloud("endpoint", nil, "ca", nil, "caSecretRef", nil, "credentialsSecretRef", nil, "httpsProxy",
			nil, "noProxy", nil, "clusterId", nil, "roleArn", nil),
		"a cloud by names": cloud("endpoint", "https://{service}.internal.tencentcloudapi.com"),
		"a cloud by addresses": cloud("endpoint", "https://10.0.0.1:8443/", "metadataEndpoint", "http://[fd00::1]:80",
			"httpsProxy", "https://proxy", "noProxy", "a, .b.example.com,10.0.0.0/8"),
		"a role by its other name": cloud("roleArn", "qcs::cam::uin/100012345678:role/tcr-assistant"),
		"keys of other charts":     {"global": map[string]any{"imageRegistry": "registry.example.com"}},
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
	assert.NotContains(t, out, fmt.Sprint(secretNumber))
	assert.NotContains(t, out, "1234567")
}

// TestAddressesMeanTheSameEverywhere holds the chart to what hosts-updater takes.
func TestAddressesMeanTheSameEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, ip := range []string{
		"10.0.0.5", "127.0.0.1", "169.254.0.47", "1.0.0.0", "223.255.255.255", "240.0.0.1", "255.255.255.254",
		"0.0.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255", "10.0.0.05", "10.0.0", "10.0.0.5/24", "10.0.0.5:443",
		"fd00::5", "2001:db8::ffff:1:2", "::1", "1::", "FD00:0:0:0:0:0:0:5", "64:ff9b::10.0.0.1", "fec0::1", "fe00::1", "::ffff:0:1:2",
		"0:0:0:0:1:ffff:1:2",
		"::", "0:0:0:0:0:0:0:0", "0::0", "0000:0::", "::0.0.0.0", "ff02::1", "FF0e:0:0:0:0:0:0:1", "fe80::1", "FEBF::1",
		"::ffff:10.0.0.1", "::FFFF:a00:1", "0:0:0:0:0:ffff:a00:1", "0:0:0:0:0:FFFF:10.0.0.1", "0000:0000:0000:0000:0000:ffff:0a00:0001",
		"0::ffff:a00:1",
		"fe80::1%eth0", "fd00::5/64", "[fd00::5]",
	} {
		file := badValue{host: map[string]any{"ip": ip}}.file(t)
		out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.30.0", "-f", file)
		_, refusal := hostsd.ParseEntry("a.example.com", ip)
		assert.Equal(t, refusal == nil, err == nil, "%s: hosts-updater says %v, the chart %v", ip, refusal, err)
		if err != nil {
			assert.Contains(t, out, "ip", ip)
		}
	}
}

// TestNumbersBySetKeepTheirDigits holds what Helm does to numbers on a command line, and in the values that a release keeps.
func TestNumbersBySetKeepTheirDigits(t *testing.T) {
	t.Parallel()
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w := newWorld(t)
			w.home()
			w.helm = helmPaths[i]
			const of = "global.imagePullSecretsCrs[0]."
			w.runHelm("install", chart, "--set", of+"name=123", "--set", of+"dockerUsername=100012345678", "--set-string", of+"dockerPassword=0123",
				"--set", of+"dockerServer=a.example.com")
			holds := func(username string) {
				t.Helper()
				object, err := w.IPS.Get(w.Ctx, "123", metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, username, object.Spec.Docker.Username)
				assert.Equal(t, "0123", object.Spec.Docker.Password)
			}
			holds("100012345678")
			w.runHelm("upgrade", chart, "--reuse-values", "--set", "manager.replicas=1")
			holds("100012345678")
			for _, written := range []string{"1e5", "1_000", "0100012345670", "12.0"} {
				w.runHelm("upgrade", chart, "--set", of+"name=123", "--set", of+"dockerUsername="+written, "--set-string", of+"dockerPassword=0123",
					"--set", of+"dockerServer=a.example.com")
				holds(written)
				out, err := w.tryHelm("upgrade", "tcr-assistant", chart, "--namespace", manager.Namespace, "--values",
					raw(t, "global: {imagePullSecretsCrs: [{name: '123', dockerUsername: "+written+
						", dockerPassword: '0123', dockerServer: a.example.com}]}"))
				require.Error(t, err)
				assert.Contains(t, out, credentialPath+".dockerUsername: is a number, which Helm may have changed")
				holds(written)
			}
			out, err := w.tryHelm("upgrade", "tcr-assistant", chart, "--namespace", manager.Namespace, "--set", of+"name=123", "--set",
				of+"dockerUsername=a", "--set", of+"dockerPassword="+fmt.Sprint(secretNumber), "--set", of+"dockerServer=a.example.com")
			require.Error(t, err)
			assert.Contains(t, out, credentialPath+".dockerPassword: must be a string: write it in quotes, or pass it by --set-string")
			assert.NotContains(t, out, fmt.Sprint(secretNumber))
		})
	}
}

func raw(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
