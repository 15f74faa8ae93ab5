package observe

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/harness/prometheus"
)

// What an installation takes from the checkout.
const (
	alertsPath     = "../../../deploy/monitoring/alerts.yaml"
	operatorPath   = "../../../deploy/monitoring/prometheusrule.yaml"
	dashboardPath  = "../../../deploy/monitoring/dashboard.json"
	metricsDocPath = "../../../docs/metrics.md"
	guidePath      = "../../../docs/observability.md"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// group is a group of rules, as far as tests look at it.
type group struct {
	Name  string
	Rules []struct {
		Alert, Expr, For    string
		Labels, Annotations map[string]string
	}
}

func alertGroups(t *testing.T) []group {
	t.Helper()
	var rules struct{ Groups []group }
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, alertsPath)), &rules))
	return rules.Groups
}

func TestAlerts(t *testing.T) {
	t.Run("the PrometheusRule holds what a plain Prometheus reads", func(t *testing.T) {
		var plain map[string]any
		var operator struct {
			APIVersion, Kind string
			Metadata         map[string]any
			Spec             map[string]any
		}
		require.NoError(t, yaml.Unmarshal([]byte(read(t, alertsPath)), &plain))
		require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, operatorPath)), &operator))
		assert.Equal(t, "monitoring.coreos.com/v1 PrometheusRule", operator.APIVersion+" "+operator.Kind)
		assert.Equal(t, plain, operator.Spec)
	})
	t.Run("promtool finds nothing wrong with the rules", func(t *testing.T) {
		out, err := prometheus.Promtool(t.Context(), "", "check", "rules", alertsPath)
		require.NoError(t, err)
		assert.Contains(t, out, "SUCCESS")
	})
	t.Run("each fires when it should, not before, and resolves", func(t *testing.T) {
		_, err := prometheus.Promtool(t.Context(), "", "test", "rules", filepath.Join("testdata", "alerts_test.yaml"))
		require.NoError(t, err)
	})
	t.Run("each says what to do and names a section of the guide that exists", func(t *testing.T) {
		anchors := map[string]bool{}
		for line := range strings.Lines(read(t, guidePath)) {
			if title, found := strings.CutPrefix(strings.TrimSpace(line), "### "); found {
				anchors[strings.ReplaceAll(strings.ToLower(title), " ", "-")] = true
			}
		}
		tests := read(t, filepath.Join("testdata", "alerts_test.yaml"))
		for _, group := range alertGroups(t) {
			for _, rule := range group.Rules {
				assert.Contains(t, tests, rule.Alert, "it has a unit test")
				assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
				assert.NotEmpty(t, rule.Annotations["description"], rule.Alert)
				assert.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"], rule.Alert)
				file, anchor, _ := strings.Cut(rule.Annotations["runbook"], "#")
				assert.Equal(t, "docs/observability.md", file, rule.Alert)
				assert.True(t, anchors[anchor], "%s: %s has no section %q", rule.Alert, guidePath, anchor)
			}
		}
	})
}

// dashboardQueries returns the queries of all panels by panel and letter, with Grafana's variables filled in.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, dashboardPath)), &dashboard))
	queries := map[string]string{}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$image_pull_secret", ".*")
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			query := fill.Replace(target.Expr)
			require.NotContains(t, query, "$", "%s uses a variable that this test does not know", panel.Title)
			queries[panel.Title+" "+target.RefID] = query
		}
	}
	require.NotEmpty(t, queries)
	return queries
}

// hastyAlerts writes the alerts with all waiting cut to seconds, and returns where.
func hastyAlerts(t *testing.T, dir string) string {
	t.Helper()
	var rules struct {
		Groups []struct {
			Name  string           `json:"name"`
			Rules []map[string]any `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, alertsPath)), &rules))
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			rule["for"] = "2s"
			rule["expr"] = strings.NewReplacer("[5m]", "[10s]", "[10m]", "[10s]", "[15m]", "[10s]").Replace(rule["expr"].(string))
		}
	}
	text, err := yaml.Marshal(rules)
	require.NoError(t, err)
	path := filepath.Join(dir, "alerts.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	_, err = prometheus.Promtool(context.WithoutCancel(t.Context()), "", "check", "rules", path)
	require.NoError(t, err)
	return path
}
