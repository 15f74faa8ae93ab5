package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// specValue is a case of the table of specs as an entry of global.imagePullSecretsCrs.
type specValue struct {
	matchtest.Spec
	entry map[string]any
	// untyped says that the entry is no list of texts under known keys: the schema refuses it.
	untyped bool
}

func (s specValue) refused() bool { return s.Refused || s.RefusedByCRD }

// specValues are the cases of the table, each under a name of its own.
func specValues(t *testing.T) []specValue {
	t.Helper()
	specs, err := matchtest.Specs("sample")
	require.NoError(t, err)
	values := make([]specValue, len(specs))
	for i, spec := range specs {
		values[i] = specValue{Spec: spec, entry: entryOf(t, spec.Manifest)}
		if values[i].entry["name"] == "sample" {
			values[i].entry["name"] = fmt.Sprintf("case-%d", i)
		}
		values[i].untyped = untyped(values[i].entry)
	}
	return values
}

// entryOf has what a manifest says as the chart's values say it. What they have no key for keeps its own.
func entryOf(t *testing.T, manifest []byte) map[string]any {
	t.Helper()
	var object struct {
		Metadata map[string]any
		Spec     map[string]any
	}
	require.NoError(t, json.Unmarshal(manifest, &object))
	entry := maps.Clone(object.Metadata)
	for key, value := range object.Spec {
		docker, nested := value.(map[string]any)
		if !nested || key != "docker" {
			entry[key] = value
			continue
		}
		for key, value := range docker {
			if key != "secretRef" && key != "additionalServers" {
				key = "docker" + strings.ToUpper(key[:1]) + key[1:]
			}
			entry[key] = value
		}
	}
	return entry
}

func untyped(entry map[string]any) bool {
	required := map[string]bool{"name": true}
	for key, value := range entry {
		switch key {
		case "name", "dockerServer", "namespaces", "serviceAccounts", "dockerUsername", "dockerPassword":
			if !isText(value) {
				return true
			}
		case "secretRef":
			reference, is := value.(map[string]any)
			if !is || len(reference) != 1 || !isText(reference["name"]) {
				return true
			}
		case "additionalServers":
			servers, is := value.([]any)
			if !is || slices.ContainsFunc(servers, func(server any) bool { return !isText(server) }) {
				return true
			}
		case "pods":
			if !slices.Contains([]any{v1.PodsNever, v1.PodsMatchingImages, v1.PodsAll}, value) {
				return true
			}
		case "healing":
			if !slices.Contains([]any{v1.HealingNever, v1.HealingEvict}, value) {
				return true
			}
		case "namespaceSelector", "excludedNamespaces", "tcr", "check":
			if !shaped(key, value) {
				return true
			}
		default:
			return true
		}
		delete(required, key)
	}
	return len(required) > 0
}

func isText(value any) bool {
	_, is := value.(string)
	return is
}

// shaped reports whether the schema lets a selector, or a list of names, pass to the chart.
func shaped(key string, value any) bool {
	text, err := json.Marshal(value)
	if err != nil {
		return false
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if key == "excludedNamespaces" {
		var names []string
		return strict.Decode(&names) == nil && len(names) <= 1024
	}
	if key == "tcr" {
		var registry v1.RegistryInstance
		return strict.Decode(&registry) == nil && registry.RegistryID != "" && registry.Region != "" &&
			slices.Contains([]string{"", v1.TokenTypeLongTerm, v1.TokenTypeTemporary}, registry.TokenType) &&
			slices.Contains([]string{"", v1.OnDeleteRevoke, v1.OnDeleteKeep}, registry.OnDelete)
	}
	if key == "check" {
		var check v1.CredentialCheck
		return strict.Decode(&check) == nil
	}
	var selector v1.LabelSelector
	if strict.Decode(&selector) != nil || len(selector.MatchLabels) > 64 || len(selector.MatchExpressions) > 32 {
		return false
	}
	for _, expression := range selector.MatchExpressions {
		known := []v1.LabelOperator{v1.OperatorIn, v1.OperatorNotIn, v1.OperatorExists, v1.OperatorDoesNotExist}
		if !slices.Contains(known, expression.Operator) || len(expression.Values) > 256 {
			return false
		}
	}
	return true
}

// valueOf is the key of the value that a path of a manifest speaks of.
func valueOf(path string) string {
	switch path {
	case "":
		return "name"
	case "spec.docker":
		return "secretRef"
	case "spec.docker.username", "spec.docker.password", "spec.docker.server":
		field := strings.TrimPrefix(path, "spec.docker.")
		return "docker" + strings.ToUpper(field[:1]) + field[1:]
	}
	return strings.TrimPrefix(strings.TrimPrefix(path, "spec."), "docker.")
}

// fileOf writes values of these entries.
func fileOf(t *testing.T, values []specValue) string {
	t.Helper()
	var entries []any
	for _, value := range values {
		entries = append(entries, value.entry)
	}
	text, err := json.Marshal(map[string]any{"global": map[string]any{"imagePullSecretsCrs": entries}})
	require.NoError(t, err)
	// Escaped: what is a line break to YAML would otherwise come to be a blank.
	return raw(t, regexp.MustCompile(`[^\x00-\x7f]`).ReplaceAllStringFunc(string(text), func(s string) string {
		return strings.Trim(strconv.QuoteToASCII(s), `"`)
	}))
}

// faults are what Helm says of each entry, as "key: what is wrong".
func faults(output string) map[int][]string {
	said := map[int][]string{}
	for _, match := range regexp.MustCompile(`(?m)^- global\.imagePullSecretsCrs\[(\d+)\]\.(.*)$`).FindAllStringSubmatch(output, -1) {
		i, _ := strconv.Atoi(match[1])
		said[i] = append(said[i], match[2])
	}
	return said
}

// TestSpecsAreJudgedBeforeAnythingIsInstalled puts to the chart the cases on which Go and the CRD agree: what either refuses fails an
// install and an upgrade as a whole.
func TestSpecsAreJudgedBeforeAnythingIsInstalled(t *testing.T) {
	t.Parallel()
	var typed, odd, good []specValue
	for _, value := range specValues(t) {
		switch {
		case value.untyped:
			require.True(t, value.refused(), value.Name)
			odd = append(odd, value)
			continue
		case !value.refused():
			good = append(good, value)
		}
		typed = append(typed, value)
	}
	require.NotEmpty(t, odd)
	for i, helm := range helms {
		t.Run(helm.Version, func(t *testing.T) {
			w := newWorld(t)
			w.home()
			w.helm = helmPaths[i]
			helmRefuses := func(t *testing.T, command string, values []specValue) string {
				t.Helper()
				out, err := w.tryHelm(command, "tcr-assistant", chart, "--namespace", manager.Namespace, "-f", fileOf(t, values))
				require.Error(t, err)
				assert.NotContains(t, out, "hidden")
				return out
			}
			said := faults(helmRefuses(t, "install", typed))
			for i, value := range typed {
				t.Run(value.Name, func(t *testing.T) { judges(t, value, said[i]) })
			}
			t.Run("what is no text or no key is refused by the schema", func(t *testing.T) {
				out := helmRefuses(t, "install", odd)
				for i, value := range odd {
					assert.Contains(t, out, fmt.Sprintf("at '/global/imagePullSecretsCrs/%d", i), value.Name)
				}
			})
			t.Run("nothing was installed", func(t *testing.T) {
				out, err := w.tryHelm("list", "--all-namespaces", "--output", "json")
				require.NoError(t, err, out)
				assert.JSONEq(t, "[]", out)
				assert.Empty(t, w.Kubectl("get", "deployments,secrets,clusterroles", "-A", "-l", "app.kubernetes.io/name=tcr-assistant", "-o", "name"))
			})
			t.Run("an upgrade is refused as an install is, and changes nothing", func(t *testing.T) {
				w.runHelm("install", chart, "-f", badValue{}.file(t))
				assert.Equal(t, said, faults(helmRefuses(t, "upgrade", typed)))
				out, err := w.tryHelm("history", "tcr-assistant", "--namespace", manager.Namespace, "--output", "json")
				require.NoError(t, err, out)
				var revisions []struct{ Status string }
				require.NoError(t, json.Unmarshal([]byte(out), &revisions))
				require.Len(t, revisions, 1)
				assert.Equal(t, "deployed", revisions[0].Status)
				objects, err := w.IPS.List(w.Ctx, metav1.ListOptions{})
				require.NoError(t, err)
				assert.Len(t, objects.Items, 1)
			})
			t.Run("what is accepted is what the API server accepts", func(t *testing.T) {
				manifests, err := w.tryHelm("template", "tcr-assistant", chart, "--kube-version", "v1.30.0", "-f", fileOf(t, good), "--show-only",
					"templates/imagepullsecrets.yaml")
				require.NoError(t, err, manifests[:min(len(manifests), 1000)])
				out, err := w.Pipe(manifests, "create", "--dry-run=server", "-f", "-")
				require.NoError(t, err, out)
			})
		})
	}
}

// about reports whether a fault is of a value, or of an entry in it.
func about(fault, key string) bool {
	rest, is := strings.CutPrefix(fault, key)
	return is && (strings.HasPrefix(rest, ": ") || strings.HasPrefix(rest, "["))
}

// judges holds what the chart says of one case to the table.
func judges(t *testing.T, value specValue, said []string) {
	t.Helper()
	if !value.refused() {
		assert.Empty(t, said)
		return
	}
	says := value.CRDSays
	if !value.RefusedByCRD { // no rule of the CRD's says so
		says = value.Says
		if strings.Contains(says, "Duplicate value") { // the chart has words of its own
			says = "is listed twice"
		}
	}
	for _, fault := range said {
		if about(fault, valueOf(value.Path)) && strings.Contains(fault, says) {
			return
		}
	}
	t.Errorf("it is not refused for %q: %q", says, said)
}
