package install

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/certs"
)

// TestTextsSayWhatToWrite holds that a value of a wrong form is answered with one of the right form.
func TestTextsSayWhatToWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bad := range []struct{ path, value, says string }{
		{"image.repository", "registry.example.com/a:v1", "names a tag: write the tag in image.tag"},
		{"image.repository", "registry.example.com/a@sha256:1", "names a digest: write that in image.digest"},
		{"image.repository", "https://registry.example.com/a", "must be without a scheme: write registry.example.com/a"},
		{"image.repository", "registry.example.com/A", "must be a registry's host and a path of lower case letters"},
		{"image.tag", "20260101", "is a number, which Helm may have changed: write it in quotes, or pass it by --set-string"},
		{"image.tag", "a b", "must be a tag: at most 128 letters"},
		{"image.digest", "sha256:1", "must be sha256: and 64 digits"},
		{"hostsUpdater.namespace", "123", "is a number, which Helm may have changed: write it in quotes, or pass it by --set-string"},
		{"hostsUpdater.namespace", "Nodes", "is not a valid namespace name: write one of lower case letters"},
		{"manager.podDisruptionBudget.maxUnavailable", "half", "must be a number, or a percentage such as 50%"},
		{"hostsUpdater.maxUnavailable", "0%", "must be a number of at least 1, or a percentage from 1% to 100%"},
		{"hostsUpdater.maxUnavailable", "101%", "must be a number of at least 1, or a percentage from 1% to 100%"},
	} {
		out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.30.0", "--set", bad.path+"="+bad.value)
		require.Error(t, err, bad.value)
		assert.Contains(t, out, bad.path+": ")
		assert.Contains(t, out, bad.says)
		assert.NotContains(t, out, "does not match pattern")
	}
}

// TestTheCertificatesFlagsAreCheckedAsTheManagerDoes holds the chart to what the manager refuses, and takes.
func TestTheCertificatesFlagsAreCheckedAsTheManagerDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agree := func(flag, value string, refused bool) {
		out, err := w.tryHelm("template", "x", chart, "--kube-version", "v1.30.0", "--set-string", "webhook."+flag+"="+value)
		assert.Equal(t, refused, err != nil, "%s=%s: %s", flag, value, out)
		if err != nil {
			assert.Contains(t, out, "webhook."+flag+": ")
			assert.Contains(t, out, "write ")
		}
	}
	for _, value := range []string{
		"10m", "87600h", "24h", "1.5h", ".5h", "600s", "600000ms", "9m60s", "1h30m", "1.h", "87599h60m", "600000000us", "600000000µs",
		"600000000000ns",
		".h", "..5h", "1m", "5ns", "9m59s", "87600h1s", "87601h", "24", "a: b", "1.2.3h", "h", "0", "-1h", "1d", "1h 1m", "99999999999999h",
	} {
		duration, err := time.ParseDuration(value)
		agree("certDuration", value, err != nil || duration < certs.MinDuration || duration > certs.MaxDuration)
	}
	for _, value := range []string{
		"kubernetes.io/kubelet-serving", "beta.eks.amazonaws.com/app-serving", "example.com/a.b", "a.b/c",
		"kubernetes.io/legacy-unknown", "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet",
		"kubernetes.io/other",
		"", "a", "a/b", "example.com/", "example.com/a/b", "example.com/A", "Example.com/a", "example.com/a..b", "example.com/a_b", "a: b",
		"example.com/a\"b",
		strings.Repeat("a.", 126) + "a/b", strings.Repeat("a.", 127) + "a/b",
	} {
		config := certs.Config{Namespace: "default", DNSNames: []string{"localhost"}, Signer: value}
		agree("certSigner", value, value == "" || len(config.Validate()) > 0)
	}
}

// TestNamespacesOfDigitsAreTexts renders into namespaces whose names YAML takes for numbers.
func TestNamespacesOfDigitsAreTexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.tryHelm("template", "x", chart, "--namespace", "123", "--kube-version", "v1.30.0", "--set", oneHost, "--set-string",
		"hostsUpdater.namespace=1e3",
		"--set", "networkPolicy.enabled=true,monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true")
	require.NoError(t, err, out)
	assert.Contains(t, out, `namespace: "123"`)
	assert.Contains(t, out, `namespace: "1e3"`)
	for _, unquoted := range []string{"namespace: 123", "namespace: 1e3", "[1e3]"} {
		assert.NotContains(t, out, unquoted)
	}
}
