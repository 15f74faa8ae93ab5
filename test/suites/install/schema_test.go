package install

import (
	"strings"
	"testing"
)

// wrong is a value that the schema refuses, where it stands, and what is said of it.
type wrong struct {
	path  string
	value any
	says  string
}

const (
	firstCredential = "global/imagePullSecretsCrs"
	firstHost       = "global/hosts"
)

// tables are the values that hold others, all but those within them.
var tables = []string{"global", "image", "manager", "webhook", "hostsUpdater", "rbac", "admissionPolicies", "priorityQuota",
	"networkPolicy", "monitoring", "uninstall"}

// required are the values that have a default which a null must not take away, by the table that they are in.
var required = map[string][]string{
	"image":                       {"repository", "pullPolicy"},
	"manager":                     {"replicas", "podDisruptionBudget", "logFormat", "logLevel"},
	"manager/podDisruptionBudget": {"enabled", "maxUnavailable"},
	"webhook":                     {"failurePolicy", "certSigner"},
	"hostsUpdater":                {"maxUnavailable", "keepLines", "logFormat", "logLevel"},
	"rbac":                        {"secrets", "certificates", "credentials"},
	"admissionPolicies":           {"restrictManager", "attach"},
	"priorityQuota":               {"enabled"},
	"networkPolicy":               {"enabled"},
	"monitoring":                  {"serviceMonitor", "prometheusRule"},
	"monitoring/serviceMonitor":   {"enabled", "interval"},
	"monitoring/prometheusRule":   {"enabled"},
	"uninstall":                   {"keepCredentials", "timeoutSeconds"},
}

func nulls(keys []string) map[string]any {
	values := map[string]any{}
	for _, key := range keys {
		values[key] = nil
	}
	return values
}

func missing(keys []string) string {
	if len(keys) == 1 {
		return "missing property '" + keys[0] + "'"
	}
	return "missing properties '" + strings.Join(keys, "', '") + "'"
}

// wrongs has one value for each rule of values.schema.json that badValues leaves out.
func wrongs() []wrong {
	all := []wrong{
		{"global", "x", "at '/global': got string, want object"},
		{"global/imagePullSecretsCrs", "x", "at '/global/imagePullSecretsCrs': got string, want null or array"},
		{"global/hosts", map[string]any{"a": "b"}, "at '/global/hosts': got object, want null or array"},
		{"global/cluster", "gz", "at '/global/cluster': got string, want null or object"},
		{"global/cluster/region", 1, "at '/global/cluster/region': got number, want null or string"},
		{"global/cluster/longregion", 1, "at '/global/cluster/longregion': got number, want null or string"},

		{"image/repository", 1, "at '/image/repository': got number, want string"},
		{"image/tag", true, "at '/image/tag': got boolean, want number or string"},
		{"hostsUpdater/namespace", true, "at '/hostsUpdater/namespace': got boolean, want number or string"},
		{"image/digest", 1, "at '/image/digest': got number, want string"},
		{"image/pullPolicy", "always", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{"imagePullSecrets", "own", "at '/imagePullSecrets': got string, want array"},
		{"imagePullSecrets", []any{map[string]any{"name": "own"}}, "at '/imagePullSecrets/0': got object, want string"},
		{"imagePullSecrets", []any{""}, "at '/imagePullSecrets/0': minLength: got 0, want 1"},

		{"manager/replicas", -1, "at '/manager/replicas': minimum: got -1, want 0"},
		{"manager/logFormat", "xml", "at '/manager/logFormat': value must be one of 'text', 'json'"},
		{"manager/logLevel", "loud", "at '/manager/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"},
		{"manager/extraArgs", "--concurrency=16", "at '/manager/extraArgs': got string, want array"},
		{"manager/extraArgs", []any{1}, "at '/manager/extraArgs/0': got number, want string"},
		{"manager/affinity", "x", "at '/manager/affinity': got string, want object"},
		{"manager/topologySpreadConstraints", "x", "at '/manager/topologySpreadConstraints': got string, want array"},
		{"manager/topologySpreadConstraints", []any{"x"}, "at '/manager/topologySpreadConstraints/0': got string, want object"},
		{"manager/podDisruptionBudget/maxUnavailable", true,
			"at '/manager/podDisruptionBudget/maxUnavailable': got boolean, want integer or string"},

		{"webhook/failurePolicy", "ignore", "at '/webhook/failurePolicy': value must be one of 'Ignore', 'Fail'"},
		{"webhook/certSigner", 1, "at '/webhook/certSigner': got number, want string"},
		{"webhook/certDuration", 24, "at '/webhook/certDuration': got number, want string"},
		{"hostsUpdater/maxUnavailable", true, "at '/hostsUpdater/maxUnavailable': got boolean, want integer or string"},
		{"hostsUpdater/maxUnavailable", 0, "at '/hostsUpdater/maxUnavailable': minimum: got 0, want 1"},
		{"hostsUpdater/affinity", "x", "at '/hostsUpdater/affinity': got string, want null or object"},
		{"hostsUpdater/logFormat", "xml", "at '/hostsUpdater/logFormat': value must be one of 'text', 'json'"},
		{"hostsUpdater/logLevel", "loud", "at '/hostsUpdater/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"},
		{"hostsUpdater/extraArgs", "--once", "at '/hostsUpdater/extraArgs': got string, want array"},
		{"hostsUpdater/extraArgs", []any{1}, "at '/hostsUpdater/extraArgs/0': got number, want string"},
		{"manager/runAsUser", 0, "at '/manager/runAsUser': minimum: got 0, want 1"},
		{"manager/runAsUser", "65532", "at '/manager/runAsUser': got string, want null or integer"},
		{"admissionPolicies/attach", "yes", "at '/admissionPolicies/attach': value must be one of 'auto', true, false, 'true', 'false'"},
		{"monitoring/serviceMonitor/interval", 30, "at '/monitoring/serviceMonitor/interval': got number, want string"},
		{"uninstall/timeoutSeconds", "60", "at '/uninstall/timeoutSeconds': got string, want integer"},
		{"uninstall/timeoutSeconds", 0, "at '/uninstall/timeoutSeconds': minimum: got 0, want 1"},

		{firstCredential, []any{"x"}, "at '/global/imagePullSecretsCrs/0': got string, want object"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"name": "absent"})},
			"at '/global/imagePullSecretsCrs/0': missing property 'name'"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"name": true})},
			"at '/global/imagePullSecretsCrs/0/name': got boolean, want number or string"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"serviceAccounts": []any{"a"}})},
			"at '/global/imagePullSecretsCrs/0/serviceAccounts': got array, want null or string"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"dockerUsername": true})},
			"at '/global/imagePullSecretsCrs/0/dockerUsername': got boolean, want null or number or string"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"dockerServer": 1})},
			"at '/global/imagePullSecretsCrs/0/dockerServer': got number, want null or string"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"secretRef": "a"})},
			"at '/global/imagePullSecretsCrs/0/secretRef': got string, want null or object"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"secretRef": map[string]any{}})},
			"at '/global/imagePullSecretsCrs/0/secretRef': missing property 'name'"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"secretRef": map[string]any{"name": "a", "namespace": "b"}})},
			"at '/global/imagePullSecretsCrs/0/secretRef': additional properties 'namespace' not allowed"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"secretRef": map[string]any{"name": 1}})},
			"at '/global/imagePullSecretsCrs/0/secretRef/name': got number, want string"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"additionalServers": "a"})},
			"at '/global/imagePullSecretsCrs/0/additionalServers': got string, want null or array"},
		{firstCredential, []any{merged(goodCredential(), map[string]any{"additionalServers": []any{1}})},
			"at '/global/imagePullSecretsCrs/0/additionalServers/0': got number, want string"},
		{firstHost, []any{"x"}, "at '/global/hosts/0': got string, want object"},
		{firstHost, []any{merged(goodHost(), map[string]any{"port": 1})}, "at '/global/hosts/0': additional properties 'port' not allowed"},
		{firstHost, []any{merged(goodHost(), map[string]any{"domain": "absent"})}, "at '/global/hosts/0': missing property 'domain'"},
		{firstHost, []any{merged(goodHost(), map[string]any{"domain": 1})}, "at '/global/hosts/0/domain': got number, want string"},
		{firstHost, []any{merged(goodHost(), map[string]any{"ip": 1})}, "at '/global/hosts/0/ip': got number, want string"},
	}
	for table, keys := range required {
		all = append(all, wrong{table, nulls(keys), "at '/" + table + "': " + missing(keys)})
	}
	at := func(path string) string { return "at '/" + path + "': " }
	for table := range required {
		all = append(all,
			wrong{table, "x", at(table) + "got string, want object"},
			wrong{table + "/unknown", 1, at(table) + "additional properties 'unknown' not allowed"})
	}
	all = append(all, wrong{"global/tcr", "x", at("global/tcr") + "got string, want null or object"},
		wrong{"global/tcr/unknown", 1, at("global/tcr") + "additional properties 'unknown' not allowed"})
	for _, text := range []string{"roleArn", "clusterId", "endpoint", "metadataEndpoint", "ca", "httpsProxy", "noProxy"} {
		all = append(all, wrong{"global/tcr/" + text, 1, at("global/tcr/"+text) + "got number, want null or string"})
	}
	for _, reference := range []string{"credentialsSecretRef", "caConfigMapRef", "caSecretRef"} {
		path := "global/tcr/" + reference
		all = append(all,
			wrong{path, "x", at(path) + "got string, want null or object"},
			wrong{path + "/name", 1, at(path+"/name") + "got number, want string"},
			wrong{path + "/key", "x", at(path) + "additional properties 'key' not allowed"})
	}
	for _, texts := range []string{
		"manager/nodeSelector", "manager/podAnnotations", "manager/podLabels", "monitoring/serviceMonitor/labels",
		"monitoring/prometheusRule/labels",
		"hostsUpdater/nodeSelector", "hostsUpdater/podAnnotations", "hostsUpdater/podLabels", "hostsUpdater/seLinuxOptions",
	} {
		all = append(all,
			wrong{texts, "x", at(texts) + "got string, want object"},
			wrong{texts + "/a", 1, at(texts+"/a") + "got number, want string"})
	}
	for _, component := range []string{"manager", "hostsUpdater"} {
		all = append(all,
			wrong{component + "/resources", "x", at(component+"/resources") + "got string, want object"},
			wrong{component + "/tolerations", map[string]any{"a": "b"}, at(component+"/tolerations") + "got object, want array"},
			wrong{component + "/tolerations", []any{"x"}, at(component+"/tolerations/0") + "got string, want object"},
			wrong{component + "/priorityClassName", 1, at(component+"/priorityClassName") + "got number, want string"})
	}
	for _, truth := range []string{
		"manager/hostNetwork", "manager/podDisruptionBudget/enabled", "hostsUpdater/keepLines", "rbac/certificates",
		"admissionPolicies/restrictManager",
		"networkPolicy/enabled", "priorityQuota/enabled", "monitoring/serviceMonitor/enabled", "monitoring/prometheusRule/enabled",
		"uninstall/keepCredentials",
	} {
		all = append(all, wrong{truth, "yes", at(truth) + "got string, want boolean"})
	}
	return all
}

// rounds puts values into as few files as they fit in beside each other.
func rounds(all []wrong) [][]wrong {
	var files [][]wrong
	for _, w := range all {
		i := 0
		for i < len(files) && !fits(w, files[i]) {
			i++
		}
		if i == len(files) {
			files = append(files, nil)
		}
		files[i] = append(files[i], w)
	}
	return files
}

// fits says whether no value stands where the other one does, or within it.
func fits(w wrong, beside []wrong) bool {
	for _, other := range beside {
		if strings.HasPrefix(w.path+"/", other.path+"/") || strings.HasPrefix(other.path+"/", w.path+"/") {
			return false
		}
	}
	return true
}

// values are those of a round, as a file has them.
func values(round []wrong) map[string]any {
	all := map[string]any{}
	for _, w := range round {
		place := all
		keys := strings.Split(w.path, "/")
		for _, key := range keys[:len(keys)-1] {
			if place[key] == nil {
				place[key] = map[string]any{}
			}
			place = place[key].(map[string]any)
		}
		place[keys[len(keys)-1]] = w.value
	}
	return all
}

// TestEveryRuleOfTheSchema gives Helm many wrong values at a time, all of which it has to tell.
func TestEveryRuleOfTheSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w.helm = helmPaths[i]
			for _, round := range rounds(wrongs()) {
				var says []string
				for _, wrong := range round {
					says = append(says, wrong.says)
				}
				w.refuses(t, write(t, values(round)), says...)
			}
			w.refuses(t, write(t, nulls(tables)), "at '': "+missing(tables))
		})
	}
}
