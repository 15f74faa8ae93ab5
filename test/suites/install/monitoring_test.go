package install

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// prometheusOperator is the module whose CRDs the chart's monitoring objects are for.
const prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

// installPrometheusOperator installs the CRDs of the Prometheus operator, as its module has them.
func (w *world) installPrometheusOperator() {
	w.T.Helper()
	out, err := exec.CommandContext(w.Ctx, "go", "mod", "download", "-json", prometheusOperator).Output()
	require.NoError(w.T, err, "%s", out)
	var module struct{ Dir string }
	require.NoError(w.T, json.Unmarshal(out, &module))
	for _, kind := range []string{"servicemonitors", "podmonitors", "prometheusrules"} {
		w.Kubectl("create", "-f", filepath.Join(module.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+kind+".yaml"))
		w.Kubectl("wait", cluster.Established, "--timeout=30s", "crd/"+kind+".monitoring.coreos.com")
	}
}

// TestPrometheusOperator has the API server check the monitoring objects by the operator's own schemas, and refuse fields
// that those do not know.
func TestPrometheusOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.installPrometheusOperator()
	w.Kubectl("create", "namespace", "nodes")
	w.runHelm("install", append([]string{chart,
		"--set", "hostsUpdater.namespace=nodes",
		"--set", "monitoring.serviceMonitor.enabled=true",
		"--set", "monitoring.serviceMonitor.interval=7s",
		"--set", "monitoring.serviceMonitor.labels.release=prometheus",
		"--set", "monitoring.prometheusRule.enabled=true",
		"--set", "monitoring.prometheusRule.labels.release=prometheus",
	}, terraform...)...)
	manifest, err := w.tryHelm("get", "manifest", "tcr-assistant", "--namespace", manager.Namespace)
	require.NoError(t, err, manifest)
	out, err := w.Pipe(manifest, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
	require.NoError(t, err, out)

	get := func(namespace, object string, into any) {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(w.Kubectl("get", object, "-n", namespace, "-o", "json")), into))
	}
	type monitor struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Selector            struct{ MatchLabels map[string]string }
			Endpoints           []struct{ Port, Interval string }
			PodMetricsEndpoints []struct{ Port, Interval string }
		}
	}
	t.Run("the ServiceMonitor finds the port of a Service that leads to replicas which are not ready too", func(t *testing.T) {
		var found monitor
		get(manager.Namespace, "servicemonitor/tcr-assistant-controller-manager", &found)
		assert.Equal(t, "prometheus", found.Metadata.Labels["release"])
		require.Len(t, found.Spec.Endpoints, 1)
		assert.Equal(t, "7s", found.Spec.Endpoints[0].Interval)
		services, err := w.Client.CoreV1().Services(manager.Namespace).List(w.Ctx,
			metav1.ListOptions{LabelSelector: labels.FormatLabels(found.Spec.Selector.MatchLabels)})
		require.NoError(t, err)
		scraped := 0
		for _, service := range services.Items {
			for _, port := range service.Spec.Ports {
				if port.Name == found.Spec.Endpoints[0].Port {
					scraped++
					assert.True(t, service.Spec.PublishNotReadyAddresses, service.Name)
				}
			}
		}
		assert.Equal(t, 1, scraped, "each replica is scraped once")
	})
	t.Run("the PodMonitor finds the pods of hosts-updater, where they are", func(t *testing.T) {
		var found monitor
		get("nodes", "podmonitor/hosts-updater", &found)
		assert.Equal(t, "prometheus", found.Metadata.Labels["release"])
		require.Len(t, found.Spec.PodMetricsEndpoints, 1)
		assert.Equal(t, "7s", found.Spec.PodMetricsEndpoints[0].Interval)
		set, err := w.Client.AppsV1().DaemonSets("nodes").Get(w.Ctx, "hosts-updater", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, set.Spec.Selector.MatchLabels, found.Spec.Selector.MatchLabels)
		assert.Equal(t, set.Spec.Template.Spec.Containers[0].Ports[0].Name, found.Spec.PodMetricsEndpoints[0].Port)
	})
	t.Run("the PrometheusRule holds the alerts of deploy/monitoring", func(t *testing.T) {
		var source, found struct {
			Metadata struct{ Labels map[string]string }
			Spec     any
		}
		text, err := os.ReadFile("../../../deploy/monitoring/prometheusrule.yaml")
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, &source))
		get(manager.Namespace, "prometheusrule/tcr-assistant", &found)
		assert.Equal(t, source.Spec, found.Spec)
		assert.Equal(t, "prometheus", found.Metadata.Labels["release"])
	})
	t.Run("nobody misses hosts-updater where there are no hosts", func(t *testing.T) {
		out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.30.0", "--set", "monitoring.prometheusRule.enabled=true")
		require.NoError(t, err, out)
		assert.Contains(t, out, "TCRAssistantNoLeader")
		assert.NotContains(t, out, "TCRAssistantHosts")
	})
	t.Run("what the guide tells users of plain manifests to apply is valid", func(t *testing.T) {
		guide, err := os.ReadFile("../../../docs/observability.md")
		require.NoError(t, err)
		_, rest, found := strings.Cut(string(guide), "```yaml\napiVersion: monitoring.coreos.com/v1\n")
		require.True(t, found)
		sample, _, found := strings.Cut(rest, "```")
		require.True(t, found)
		w.Apply("apiVersion: monitoring.coreos.com/v1\n"+sample, "--dry-run=server", "--validate=strict")
		w.Kubectl("apply", "--dry-run=server", "--validate=strict", "-n", manager.Namespace, "-f",
			"../../../deploy/monitoring/prometheusrule.yaml")
	})
}
