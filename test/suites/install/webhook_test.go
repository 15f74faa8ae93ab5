package install

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// What there is of the webhook besides its roles. The first is there where it attaches Secrets.
const (
	mutatingConfiguration   = "mutatingwebhookconfiguration.admissionregistration.k8s.io/tcr-assistant-mutating-webhook-configuration"
	validatingConfiguration = "validatingwebhookconfiguration.admissionregistration.k8s.io/tcr-assistant-validating-webhook-configuration"
	signingRequest          = "certificatesigningrequest.certificates.k8s.io/tcr-assistant-webhook"
	servingSecret           = "secret/tcr-assistant-webhook-server-cert"
	webhookService          = "service/tcr-assistant-webhook-service"
)

// policyAPI is what a Helm that renders without a cluster is told that there is.
const policyAPI = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"

// ofTheWebhook returns all that the cluster holds of the webhook, its roles too.
func (w *world) ofTheWebhook() []string {
	w.T.Helper()
	all := strings.Fields(w.Kubectl("get",
		"mutatingwebhookconfigurations,validatingwebhookconfigurations,certificatesigningrequests,clusterroles,clusterrolebindings", "-o",
		"name"))
	all = append(all, strings.Fields(w.Kubectl("get", "secrets,services,roles,rolebindings", "-n", manager.Namespace, "-o", "name"))...)
	return slices.DeleteFunc(all, func(name string) bool {
		return !strings.Contains(name, "tcr-assistant") || !strings.Contains(name, "webhook")
	})
}

// webhookIs waits until the cluster holds of the webhook, besides roles, exactly what is wanted.
func (w *world) webhookIs(want ...string) {
	w.T.Helper()
	want = slices.Sorted(slices.Values(want))
	w.Eventually("there is of the webhook what there should be", func() error {
		have := slices.DeleteFunc(w.ofTheWebhook(), func(name string) bool { return strings.Contains(name, "role") })
		if slices.Sort(have); !slices.Equal(have, want) {
			return fmt.Errorf("there is %q", have)
		}
		return nil
	})
}

// may says which of the verbs the manager's token allows on a resource, by whichever name.
func (w *world) may(group, resource, name string) (allowed []string) {
	w.T.Helper()
	_, config := w.tokenFor(managerAccount)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(w.T, err)
	resource, subresource, _ := strings.Cut(resource, "/")
	for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "approve"} {
		review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(w.Ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Group: group, Resource: resource, Subresource: subresource, Name: name,
			}},
		}, metav1.CreateOptions{})
		require.NoError(w.T, err)
		if review.Status.Allowed {
			allowed = append(allowed, verb)
		}
	}
	return allowed
}

// bears waits until an account of the namespace "team" is born with these entries, whatever becomes of it later.
func (w *world) bears(want ...string) {
	w.T.Helper()
	want = slices.Sorted(slices.Values(want))
	w.Eventually("accounts are born with what they should list", func() error {
		account, err := w.Client.CoreV1().ServiceAccounts("team").Create(w.Ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "newborn"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if have := suite.Entries(account); !slices.Equal(slices.Sorted(slices.Values(have)), want) {
			return fmt.Errorf("it is born with %q", have)
		}
		return nil
	})
}

// ends stops a manager in order.
func ends(t *testing.T, m *manager.Manager) {
	t.Helper()
	require.NoError(t, m.Stop())
}

// TestTheWebhookIsSwitchedOffAndOn upgrades from one way of attaching Secrets to another, with the manager of before running on
// while Helm removes what it kept.
func TestTheWebhookIsSwitchedOffAndOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	before := w.objects()
	w.runHelm("install", chart)
	w.collectorLooks()
	m := w.run()
	all := []string{mutatingConfiguration, validatingConfiguration, signingRequest, servingSecret, webhookService}
	if !w.AttachesByItself() {
		t.Run("where nothing else attaches, it is there as a whole, and cannot be switched off", func(t *testing.T) { w.keepsItsWebhook(t, all) })
		return
	}
	w.Create("first")
	w.bears("tcr.ipsfirst")

	t.Run("by default it only validates where the API server attaches", func(t *testing.T) {
		w.webhookIs(all[1:]...)
		w.onlyValidates(t)
	})
	t.Run("told to, it attaches as well", func(t *testing.T) {
		w.runHelm("upgrade", chart, "--set", "webhook.mutating=true")
		ends(t, m)
		m = w.run()
		w.webhookIs(all...)
	})
	t.Run("no longer told to, its configuration goes, while whoever kept it runs", func(t *testing.T) {
		w.runHelm("upgrade", chart)
		w.webhookIs(all[1:]...)
		ends(t, m)
		m = w.run()
		w.webhookIs(all[1:]...)
		w.runHelm("upgrade", chart, "--set", "webhook.mutating=true")
		ends(t, m)
		m = w.run()
		w.webhookIs(all...)
	})
	t.Run("switched off, all of it goes, while whoever kept it runs", func(t *testing.T) {
		w.runHelm("upgrade", chart, "--set", "webhook.enabled=false")
		w.Eventually("nothing is left, nor any role", func() error {
			if left := w.ofTheWebhook(); len(left) > 0 {
				return fmt.Errorf("there is %q", left)
			}
			return nil
		})
		ends(t, m)
		m = w.run()
		assert.Empty(t, w.ofTheWebhook(), "nothing was restored by the one, or written by the other")
		w.withoutWebhook(t, m)
		ends(t, m)
		w.bears("tcr.ipsfirst", "tcr.ipssecond")
		assert.Empty(t, w.ofTheWebhook())
	})
	t.Run("on again, it is as it was", func(t *testing.T) {
		w.runHelm("upgrade", chart, "--set", "webhook.mutating=true")
		m = w.run()
		w.webhookIs(all...)
		w.Create("third")
		w.teamLists("builder", "theirs", "tcr.ipsfirst", "tcr.ipssecond", "tcr.ipsthird")
	})
	t.Run("an uninstall leaves nothing", func(t *testing.T) {
		w.runHelm("upgrade", chart, "--set", "webhook.enabled=false")
		ends(t, m)
		m = w.run()
		stop := w.runJobs()
		w.runHelm("uninstall")
		assert.Equal(t, 1, stop(), "jobs that ran")
		ends(t, m)
		w.leaves(before, crds...)
		w.teamLists("builder", "theirs")
	})
}

// keepsItsWebhook holds that a cluster in which nothing else attaches goes on with its webhook.
func (w *world) keepsItsWebhook(t *testing.T, all []string) {
	t.Helper()
	w.webhookIs(all...)
	for _, set := range []string{"webhook.enabled=false", "webhook.mutating=false", "webhook.enabled=false,admissionPolicies.attach=true"} {
		out, err := w.tryHelm("upgrade", "tcr-assistant", chart, "--namespace", manager.Namespace, "--set", set)
		require.Error(t, err, set)
		assert.Contains(t, out, "must not be false on this API server, "+w.Version()+", which cannot attach Secrets by itself")
	}
	w.webhookIs(all...)
}

// onlyValidates holds what is promised of a webhook that attaches nothing.
func (w *world) onlyValidates(t *testing.T) {
	t.Helper()
	assert.Empty(t, w.may("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "tcr-assistant-mutating-webhook-configuration"))
	server := w.Kubectl("get", "ipss", "first", "-o", "jsonpath={.spec.docker.server}")
	out, err := w.Pipe("{apiVersion: tcr.tencentcloudcr.com/v1, kind: ImagePullSecret, metadata: {name: twice}, spec: {docker: {username: "+
		"u, password: p, server: "+server+"}}}", "create", "-f", "-")
	require.NoError(t, err)
	assert.Contains(t, out, "Warning", "two credentials for one server")
	w.Kubectl("delete", "ipss", "twice")
	w.bears("tcr.ipsfirst")
}

// withoutWebhook holds what is promised of a manager that serves none.
func (w *world) withoutWebhook(t *testing.T, m *manager.Manager) {
	t.Helper()
	connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(w.Ctx, "tcp", m.WebhookAddress)
	if !assert.Error(t, err, "nobody listens") {
		connection.Close()
	}
	deployment, err := w.Client.AppsV1().Deployments(manager.Namespace).Get(w.Ctx, "tcr-assistant-controller-manager", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		deployment.Spec.Template.Spec.Containers[0].Ports)

	assert.Empty(t, w.may("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "tcr-assistant-mutating-webhook-configuration"))
	assert.Empty(t, w.may("admissionregistration.k8s.io", "validatingwebhookconfigurations", "tcr-assistant-validating-webhook-configuration"))
	assert.Empty(t, w.may("certificates.k8s.io", "certificatesigningrequests", "tcr-assistant-webhook"))
	assert.Empty(t, w.may("certificates.k8s.io", "certificatesigningrequests/approval", "tcr-assistant-webhook"))
	assert.Empty(t, w.may("certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving"))

	w.Create("second")
	w.teamLists("builder", "theirs", "tcr.ipsfirst", "tcr.ipssecond")
	w.bears("tcr.ipsfirst", "tcr.ipssecond")
	out, err := w.Pipe("{apiVersion: tcr.tencentcloudcr.com/v1, kind: ImagePullSecret, metadata: {name: bad}, spec: {namespaces: 'a,*', "+
		"docker: {username: u, password: p, server: a.example.com}}}", "create", "-f", "-")
	require.Error(t, err)
	assert.Contains(t, out, "spec.namespaces", "the CRD says what is wrong")
	scraped, err := m.Get(w.Ctx, "/metrics")
	require.NoError(t, err)
	assert.NotContains(t, scraped, "tcr_assistant_certificate_not_after_timestamp_seconds", "it has none")
}

// TestPruningTakesTheWebhookAlong switches the webhook off and on with kubectl alone, as GitOps tools do: what is no longer rendered is
// deleted.
func TestPruningTakesTheWebhookAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		t.Log("the webhook cannot be switched off: TestTheWebhookIsSwitchedOffAndOn")
		return
	}
	w.home()
	w.Kubectl("apply", "-f", filepath.Join(chart, "crds"))
	w.Kubectl("wait", cluster.Established, "--timeout=30s", "-f", filepath.Join(chart, "crds"))
	w.collectorLooks()
	apply := func(set string) {
		t.Helper()
		manifest, err := w.tryHelm("template", "tcr-assistant", chart, "--namespace", manager.Namespace, "--no-hooks", "--kube-version",
			w.Version(), "--api-versions", policyAPI, "--set", set)
		require.NoError(t, err, manifest)
		file := filepath.Join(t.TempDir(), "rendered.yaml")
		require.NoError(t, os.WriteFile(file, []byte(manifest), 0o600))
		args := []string{"apply", "-f", file, "--prune", "--selector", "app.kubernetes.io/name=tcr-assistant"}
		for _, kind := range []string{"core/v1/Service", "rbac.authorization.k8s.io/v1/ClusterRole",
			"rbac.authorization.k8s.io/v1/ClusterRoleBinding", "rbac.authorization.k8s.io/v1/Role", "rbac.authorization.k8s.io/v1/RoleBinding"} {
			args = append(args, "--prune-allowlist", kind)
		}
		w.Kubectl(args...)
	}
	apply("webhook.mutating=true")
	m := w.run()
	all := []string{mutatingConfiguration, validatingConfiguration, signingRequest, servingSecret, webhookService}
	w.webhookIs(all...)
	for _, name := range []string{"first", "second"} {
		apply("webhook.enabled=false")
		w.webhookIs()
		assert.Empty(t, w.ofTheWebhook())
		ends(t, m)
		m = w.run()
		w.Create(name)
		w.Holds("default", name)
		assert.Empty(t, w.ofTheWebhook())

		apply("webhook.mutating=true")
		ends(t, m)
		m = w.run()
		w.webhookIs(all...)
		w.Create(name + "-reviewed")
		w.Holds("default", name+"-reviewed")
	}
}

// TestTheWebhookIsRefusedToGo renders for clusters where nothing else would attach Secrets.
func TestTheWebhookIsRefusedToGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct{ name, version, set, says string }{
		{"off, before 1.36", "v1.35.4", "webhook.enabled=false",
			"webhook.enabled: must not be false on this API server, v1.35.4, which cannot attach Secrets by itself"},
		{"off, before 1.36, whatever else is said", "v1.35.4", "webhook.enabled=false,admissionPolicies.attach=true",
			"Write webhook.enabled: true"},
		{"off, without the policy", "v1.36.0", "webhook.enabled=false,admissionPolicies.attach=false",
			"webhook.enabled: must not be false if admissionPolicies.attach is false: nothing would attach Secrets to new ServiceAccounts. Write " +
				"webhook.enabled: true, or admissionPolicies.attach: auto"},
		{"validating alone, before 1.36", "v1.35.4", "webhook.mutating=false", "webhook.mutating: must not be false on this API server"},
		{"validating alone, without the policy", "v1.36.0", "webhook.mutating=false,admissionPolicies.attach=false",
			"Write webhook.mutating: auto, or admissionPolicies.attach: auto"},
		{"a word that is none of them", "v1.36.0", "webhook.mutating=never", "/webhook/mutating"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := w.tryHelm("template", "x", chart, "--namespace", manager.Namespace, "--kube-version", tc.version, "--api-versions",
				policyAPI, "--set", tc.set)
			require.Error(t, err, out)
			assert.Contains(t, out, tc.says)
		})
	}
	for _, tc := range []struct{ name, version, set, has, lacks string }{
		{"auto, before 1.36", "v1.35.4", "webhook.mutating=auto", "tcr-assistant-mutating-webhook-role", "--webhook-mutating=false"},
		{"auto, from 1.36 on", "v1.36.0", "webhook.mutating=auto", "--webhook-mutating=false", "mutatingwebhookconfigurations"},
		{"auto, without the policy", "v1.36.0", "admissionPolicies.attach=false", "tcr-assistant-mutating-webhook-role",
			"--webhook-mutating=false"},
		{"told to", "v1.36.0", "webhook.mutating=true", "tcr-assistant-mutating-webhook-role", "--webhook-mutating=false"},
		{"off", "v1.36.0", "webhook.enabled=false,networkPolicy.enabled=true", "--webhook=false", "webhookconfigurations"},
		{"off, its port", "v1.36.0", "webhook.enabled=false,networkPolicy.enabled=true", "port: metrics", "port: webhook"},
		{"off, its certificate", "v1.36.0", "webhook.enabled=false", "variables.issued", "server-cert"},
		{"off, what holds the manager to its role", "v1.36.0", "webhook.enabled=false", "policyName: tcr-assistant-manager-clusterroles",
			"tcr-assistant-manager-certificatesigningrequests"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := w.tryHelm("template", "x", chart, "--no-hooks", "--namespace", manager.Namespace, "--kube-version", tc.version,
				"--api-versions", policyAPI, "--set", tc.set)
			require.NoError(t, err, out)
			assert.Contains(t, out, tc.has)
			assert.NotContains(t, out, tc.lacks)
		})
	}
}

// TestAStolenTokenWidensNoRoleWithoutAWebhook tries, where the webhook is switched off, to get more from the role in which the manager
// lists Secrets: what holds it to that must not go with the webhook.
func TestAStolenTokenWidensNoRoleWithoutAWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		t.Log("the webhook cannot be switched off: TestTheWebhookIsSwitchedOffAndOn")
		return
	}
	w.home()
	w.team("team")
	w.runHelm("install", chart, "--set", "webhook.enabled=false")
	w.run()
	w.Create("central")
	w.Holds("team", "central")
	w.lists("tcr.ipscentral")
	stolen := w.stolen(managerAccount)
	for _, a := range append(widenings(w.Ctx), sheddings(w.Ctx)...) {
		t.Run(a.name, func(t *testing.T) {
			err := a.try(stolen)
			require.Error(t, err)
			assert.True(t, apierrors.IsForbidden(err), "%v", err)
			assert.Contains(t, err.Error(), a.says)
		})
	}
	w.lists("tcr.ipscentral")
}

// webhookArgs returns what the Deployment that is installed tells the manager of its webhook.
func (w *world) webhookArgs() (args []string) {
	w.T.Helper()
	text := w.Kubectl("get", "deployment", "tcr-assistant-controller-manager", "-n", manager.Namespace, "-o",
		"jsonpath={.spec.template.spec.containers[0].args}")
	require.NoError(w.T, json.Unmarshal([]byte(text), &args))
	return slices.DeleteFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "--webhook") })
}
