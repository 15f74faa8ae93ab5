package observe

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/prometheus"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// TestWhatAnOperatorSees runs the walk-through and some failures under the eyes of Prometheus. Its parts build on each other.
func TestWhatAnOperatorSees(t *testing.T) {
	const many = 1000
	w := newWorld(t)
	w.namespaces("many", many)
	began := time.Now()
	parts := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a thousand namespaces are one event with a count", func(t *testing.T) {
			w.Create("many")
			w.ready("many")
			assert.Equal(t, []string{"Normal x1 secret tcr.ipsmany was issued in 1005 namespaces"}, w.tells("many", "Issued"))
		}},
		{"after an edit, kubectl wait returns once the new credential is everywhere, and one event says so", func(t *testing.T) {
			w.Kubectl("patch", "ipss", "many", "--type=merge", "-p", `{"spec":{"docker":{"password":"password-of-many-renewed"}}}`)
			w.Kubectl("wait", "--for=condition=Ready", "--timeout="+w.Hang.String(), "ipss/many")
			secrets, err := w.Client.CoreV1().Secrets("").List(w.Ctx, metav1.ListOptions{FieldSelector: "metadata.name=tcr.ipsmany"})
			require.NoError(t, err)
			assert.Len(t, secrets.Items, many+5)
			for _, secret := range secrets.Items {
				require.Contains(t, string(secret.Data[corev1.DockerConfigJsonKey]), "password-of-many-renewed", secret.Namespace)
			}
			assert.Equal(t, []string{"Normal x1 secret tcr.ipsmany was issued again, with the current credential, in 1005 namespaces"},
				w.tells("many", "Reissued"))
		}},
		{"Prometheus counts what the walk-through did", func(t *testing.T) { w.walkThrough(t, many+6) }},
		{"a credential that is refused, and one that ends, are alerts until they are renewed", w.credentials},
		{"a credential that the cloud does not renew is an alert before it expires", w.refusedRenewal},
		{"the running process serves what the table lists, and nothing else", w.servesWhatIsListed},
		{"promtool has no complaint about the metrics", func(t *testing.T) {
			out, err := prometheus.Promtool(w.Ctx, w.metrics(t), "check", "metrics")
			require.NoError(t, err)
			assert.Empty(t, out)
		}},
		{"each query of the dashboard returns data", func(t *testing.T) {
			for panel, query := range dashboardQueries(t) {
				w.Eventually(panel+" has data", func() error {
					samples, err := w.prometheus.Query(w.Ctx, query)
					if err == nil && len(samples) == 0 {
						err = fmt.Errorf("%s yields nothing", query)
					}
					return err
				})
			}
		}},
		{"a foreign secret in the way is a failure, an event and an alert until it goes", w.foreignSecret},
		{"a permission that is taken away is named, and what fails is no success", w.forbiddenWrites},
		{"a permission to look that is missing is named too", w.forbiddenWatch},
		{"someone who keeps undoing a secret is named once and met with patience", w.contend},
		{"then the cluster is steady: neither events nor statuses are written", func(t *testing.T) {
			// Where the cloud is asked with keys in a Secret, that is read each time: once a minute.
			w.Kubectl("patch", "ipss", "issued", "--type=json", "-p", `[{"op":"remove","path":"/spec/tcr/privateNetwork"}]`)
			time.Sleep(6 * time.Second) // an event waits up to five seconds for more to tell of
			quiet := time.Now()
			time.Sleep(8 * time.Second)
			for _, request := range w.requests(func(r cluster.Request) bool {
				return r.Received.After(quiet) && r.Resource != "leases" && r.Verb != "watch"
			}) {
				assert.Fail(t, "the manager was not silent", "%s %s", request.Verb, request.URI)
			}
		}},
		{"a status was never written more than once a second", func(t *testing.T) {
			writes := map[string]int{}
			for _, request := range w.requests(func(r cluster.Request) bool { return r.Subresource == "status" }) {
				writes[request.Name]++
			}
			require.NotEmpty(t, writes)
			for name, count := range writes {
				t.Logf("status of %s: %d writes", name, count)
			}
			w.noTwoWithinASecond(t)
		}},
		{"a manager that is gone is an alert, and a signer that issues nothing an event", w.fallback},
		{"no credential is seen anywhere", func(t *testing.T) {
			events := w.Kubectl("get", "events", "--all-namespaces", "-o", "json")
			secrets := []string{"password-of-", w.cloud.Key.SecretKey, w.cloud.Key.SecretID}
			for _, token := range w.cloud.Tokens(suite.RegistryID) {
				secrets = append(secrets, token.Password)
			}
			for _, text := range []string{w.metrics(t), events, w.manager.Log(), w.Kubectl("get", "ipss", "issued", "-o", "jsonpath={.status}")} {
				for _, secret := range secrets {
					assert.NotContains(t, text, secret)
				}
			}
		}},
	}
	for _, part := range parts {
		if !t.Run(part.name, func(t *testing.T) {
			w.T = t
			part.run(t)
		}) {
			break
		}
	}
	w.T = t
	t.Logf("all of it took %s", time.Since(began).Round(time.Second))
}

// metrics returns what the manager serves now.
func (w *world) metrics(t *testing.T) string {
	t.Helper()
	text, err := w.manager.Get(w.Ctx, "/metrics")
	require.NoError(t, err)
	return text
}

func (w *world) walkThrough(t *testing.T, namespaces float64) {
	w.Namespace("newns")
	w.Kubectl("create", "serviceaccount", "kung", "-n", "newns")
	bad := suite.Sample("bad", suite.InNamespaces("newns,newns"))
	_, err := w.IPS.Create(w.Ctx, bad, metav1.CreateOptions{})
	require.Error(t, err)
	w.ready("many")

	w.asks(`sum(tcr_assistant_secrets_desired)`, namespaces)
	w.asks(`sum(tcr_assistant_secrets_present)`, namespaces)
	accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
	require.NoError(t, err)
	w.asks(`tcr_assistant_service_accounts_desired{image_pull_secret="many"}`, float64(len(accounts.Items)))
	w.asks(`tcr_assistant_service_accounts_present{image_pull_secret="many"}`, float64(len(accounts.Items)))
	w.asks(`tcr_assistant_image_pull_secret_ready{image_pull_secret="many"}`, 1)
	w.asks(`sum(tcr_assistant_failures)`, 0)
	w.asks(`tcr_assistant_writes_total{object="secret",verb="issue",result="success"}`, namespaces)
	w.asks(`tcr_assistant_writes_total{object="secret",verb="reissue",result="success"}`, namespaces-1)
	w.asks(`tcr_assistant_writes_total{object="secret",verb="issue",result="error"}`, 0)
	w.asks(`tcr_assistant_admission_requests_total{webhook="validating",outcome="denied"}`, 1)
	w.asks(`tcr_assistant_admission_requests_total{webhook="mutating",outcome="patched"} >= bool 2`, 1)
	w.asks(`sum(tcr_assistant_admission_requests_total{outcome="error"})`, 0)
	w.asks(`sum(tcr_assistant_leader)`, 1)
	w.asks(`tcr_assistant_certificate_issuer{mode="signer"}`, 1)
	w.asks(`tcr_assistant_certificate_rotations_total{mode="signer"}`, 1)
	w.asks(`tcr_assistant_certificate_not_after_timestamp_seconds > bool time()`, 1)
	w.asks(`tcr_assistant_certificate_renewal_timestamp_seconds > bool time()`, 1)
	w.asks(`sum(workqueue_depth{name="namespaces"})`, 0)
	w.asks(`sum(rest_client_requests_total{code="201"}) > bool 1000`, 1)
	w.asks(`tcr_hosts_entries`, 1)
}

// servesWhatIsListed compares names, types and labels with the table of the documentation, both ways.
func (w *world) servesWhatIsListed(t *testing.T) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(w.metrics(t)))
	require.NoError(t, err)
	served := map[string]string{}
	for name, family := range families {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			name = "go_*, process_*"
			served[name] = ""
			continue
		}
		labels := map[string]bool{}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = true
			}
		}
		served[name] = kind(family) + " " + sorted(labels)
	}
	listed := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([^|]+)` \\| ([a-z]*) ?\\|([^|]*)\\| [^|]+ \\|$")
	for _, match := range row.FindAllStringSubmatch(read(t, metricsDocPath), -1) {
		if match[2] == "" {
			listed[strings.ReplaceAll(match[1], "`", "")] = ""
			continue
		}
		labels := map[string]bool{}
		for _, label := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(match[3], -1) {
			labels[label[1]] = true
		}
		listed[match[1]] = match[2] + " " + sorted(labels)
	}
	assert.Equal(t, listed, served)
}

// refusedRenewal takes the permission to create tokens away while one is to be renewed. Whoever can pull goes on pulling.
func (w *world) refusedRenewal(t *testing.T) {
	w.cloud.SetLinks(suite.RegistryID, tencentcloud.Link{VPC: "vpc-a1", Status: "Running", Address: "10.0.0.5"})
	w.Create("issued", suite.InNamespaces("default"), suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.PrivateNetwork = &v1.PrivateNetwork{}
	}))
	w.ready("issued")
	w.asks(`tcr_assistant_credential_issued{image_pull_secret="issued"}`, 1)
	w.asks(`tcr_assistant_private_network_ready{image_pull_secret="issued"}`, 1)
	w.cloud.SetPolicy(w.cloud.Key.SecretID)
	w.firing("TCRAssistantCredentialNotIssued", true)
	w.firing("TCRAssistantCredentialExpires", true)
	status := w.Status("issued", func(v1.ImagePullSecretStatus) error { return nil })
	assert.True(t, time.Now().Before(status.Credential.ExpiresAt.Time), "it is told ahead")
	w.asks(`tcr_assistant_credential_expiry_timestamp_seconds{image_pull_secret="issued"}`, float64(status.Credential.ExpiresAt.Unix()))
	w.asks(`tcr_assistant_image_pull_secret_ready{image_pull_secret="issued"}`, 1)

	// The next one lasts, so that nothing is renewed while the cluster is to be steady.
	w.cloud.AddRegistry(tencentcloud.Registry{ID: suite.RegistryID, Region: suite.RegistryRegion, Domain: suite.RegistryDomain})
	w.cloud.SetPolicy(w.cloud.Key.SecretID, tencentcloud.Everything)
	// A change is tried at once; else the next try may be minutes away by now.
	w.Kubectl("patch", "ipss", "issued", "--type=merge", "-p", `{"spec":{"tcr":{"rotateAfter":"2000h"}}}`)
	w.firing("TCRAssistantCredentialNotIssued", false)
	w.firing("TCRAssistantCredentialExpires", false)
	w.asks(`tcr_assistant_credential_issued{image_pull_secret="issued"}`, 1)
}

func kind(family *dto.MetricFamily) string { return strings.ToLower(family.GetType().String()) }

func sorted(set map[string]bool) string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func (w *world) foreignSecret(t *testing.T) {
	w.Namespace("taken")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsother"}, Type: corev1.SecretTypeOpaque,
		StringData: map[string]string{"mine": "kept"}}
	_, err := w.Client.CoreV1().Secrets("taken").Create(w.Ctx, secret, metav1.CreateOptions{})
	require.NoError(t, err)
	w.Create("other", suite.InNamespaces("taken"))

	failure := w.fails("other", "ForeignSecret")
	assert.Equal(t, "taken/tcr.ipsother", failure.NamespacedName)
	assert.WithinDuration(t, time.Now(), failure.Since.Time, w.Hang)
	w.asks(`tcr_assistant_secrets_desired{image_pull_secret="other"} - tcr_assistant_secrets_present`, 1)
	w.asks(`tcr_assistant_failures{image_pull_secret="other",reason="ForeignSecret"}`, 1)
	w.firing("TCRAssistantSecretsMissing", true)
	told := w.tells("other", "ForeignSecret")
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "Warning x1 taken/tcr.ipsother: a Secret of this name is in the way")

	require.NoError(t, w.Client.CoreV1().Secrets("taken").Delete(w.Ctx, "tcr.ipsother", metav1.DeleteOptions{}))
	w.ready("other")
	w.asks(`tcr_assistant_failures{image_pull_secret="other",reason="ForeignSecret"}`, 0)
	w.firing("TCRAssistantSecretsMissing", false)
	assert.Equal(t, told, w.told("other", "ForeignSecret"), "it was told once")
}

// secretVerbs is what the manager may do with Secrets as installed.
const secretVerbs = `["get","list","watch","create","patch","delete"]`

// allow replaces the verbs that the manager is granted on Secrets.
func (w *world) allow(t *testing.T, verbs string) {
	t.Helper()
	role := w.Kubectl("get", "clusterrole", "tcr-assistant-manager-role", "-o", "json")
	index := -1
	for i, rule := range strings.Split(role, `"verbs"`) {
		if strings.Contains(rule, `"secrets"`) {
			index = i
		}
	}
	require.GreaterOrEqual(t, index, 0)
	w.Kubectl("patch", "clusterrole", "tcr-assistant-manager-role", "--type=json", "-p",
		fmt.Sprintf(`[{"op":"replace","path":"/rules/%d/verbs","value":%s}]`, index, verbs))
}

func (w *world) forbiddenWrites(t *testing.T) {
	const issued = `tcr_assistant_writes_total{object="secret",verb="issue",result="success"}`
	before, err := w.value(issued)
	require.NoError(t, err)
	w.allow(t, `["get","list","watch","delete"]`)
	w.Create("locked", suite.InNamespaces("newns"))

	failure := w.fails("locked", "Forbidden")
	assert.Equal(t, "newns/tcr.ipslocked", failure.NamespacedName)
	assert.Equal(t, `the manager is not allowed to patch secrets: grant its role the verb "patch" on the resource "secrets" in the API group ""`, failure.Message)
	w.asks(`tcr_assistant_writes_total{object="secret",verb="issue",result="error"} > bool 0`, 1)
	w.firing("TCRAssistantSecretsMissing", true)
	w.asks(issued, before)
	told := w.tells("locked", "Forbidden")
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "Warning x1 newns/tcr.ipslocked: the manager is not allowed to patch secrets")

	w.allow(t, secretVerbs)
	w.ready("locked")
	w.firing("TCRAssistantSecretsMissing", false)
	w.asks(issued, before+1)
	assert.Equal(t, told, w.told("locked", "Forbidden"), "it was told once")
}

func (w *world) forbiddenWatch(t *testing.T) {
	w.allow(t, `["get","create","patch","delete"]`)
	// A watch that runs outlives the permission, and shows what is issued from then on, too. It ends with the API server.
	require.NoError(t, w.StopAPIServer())
	require.NoError(t, w.StartAPIServer(w.Ctx))
	w.Create("unseen", suite.InNamespaces("newns"))
	failure := w.fails("unseen", "Forbidden")
	assert.Equal(t, "*/tcr.ipsunseen", failure.NamespacedName)
	assert.Regexp(t, `not allowed to (list|watch) secrets: grant its role the verb "(list|watch)" on the resource "secrets"`, failure.Message)
	assert.NotEmpty(t, w.tells("unseen", "Forbidden"))
	w.asks(`tcr_assistant_image_pull_secret_ready{image_pull_secret="unseen"}`, 0)
	w.allow(t, secretVerbs)
	w.ready("unseen")
}

func (w *world) contend(t *testing.T) {
	w.Create("contended", suite.InNamespaces("newns"))
	w.ready("contended")
	secrets := w.Client.CoreV1().Secrets("newns")
	object, err := w.IPS.Get(w.Ctx, "contended", metav1.GetOptions{})
	require.NoError(t, err)
	ours := string(pullsecret.Render(object.Spec.Docker))
	// undo changes the Secret back whenever it is as it should be, for as long as while returns true.
	undo := func(while func() bool) {
		for while() {
			secret, err := secrets.Get(w.Ctx, "tcr.ipscontended", metav1.GetOptions{})
			require.NoError(t, err)
			if string(secret.Data[corev1.DockerConfigJsonKey]) == ours {
				_, err = secrets.Patch(w.Ctx, "tcr.ipscontended", types.MergePatchType, []byte(`{"data":{".dockerconfigjson":"e30="}}`),
					metav1.PatchOptions{FieldManager: "rogue"})
				require.NoError(t, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	began := time.Now()
	undo(func() bool { return len(w.told("contended", "Contended")) == 0 && time.Since(began) < w.Hang })
	failure := w.fails("contended", "Contended")
	assert.Equal(t, "newns/tcr.ipscontended", failure.NamespacedName)
	assert.Contains(t, failure.Message, `"rogue" undoes what is written here`)
	told := w.tells("contended", "Contended")
	until := time.Now().Add(12 * time.Second)
	undo(func() bool { return time.Now().Before(until) })
	assert.Equal(t, told, w.told("contended", "Contended"), "it is told once")
	require.Len(t, told, 1)
	assert.Contains(t, told[0], `Warning x1 newns/tcr.ipscontended: "rogue" undoes`)
	w.firing("TCRAssistantContended", true)
	repairs := w.requests(func(r cluster.Request) bool {
		return r.Name == "tcr.ipscontended" && r.Verb == "patch" && r.Code == http.StatusOK
	})
	assert.LessOrEqual(t, len(repairs), 8+3, "after eight the pauses are 5, 10 and 20 seconds")
	assert.GreaterOrEqual(t, len(repairs), 8)

	w.ready("contended")
	w.firing("TCRAssistantContended", false)
	w.asks(`tcr_assistant_failures{image_pull_secret="contended",reason="Contended"}`, 0)
}

// noTwoWithinASecond compares the times at which the API server got the statuses; half a second is left to the way.
func (w *world) noTwoWithinASecond(t *testing.T) {
	last := map[string]time.Time{}
	for _, request := range w.requests(func(r cluster.Request) bool { return r.Subresource == "status" }) {
		if before, found := last[request.Name]; found {
			assert.Greater(t, request.Received.Sub(before), 500*time.Millisecond, request.Name)
		}
		last[request.Name] = request.Received
	}
}

func (w *world) fallback(t *testing.T) {
	issued := w.told("many", "Issued")
	require.NoError(t, w.manager.Stop())
	w.firing("TCRAssistantNoLeader", true)
	w.Kubectl("-n", "tcr-assistant-system", "delete", "secret", "tcr-assistant-webhook-server-cert")
	w.run("--cert-signer=example.com/nobody")
	w.firing("TCRAssistantNoLeader", false)
	w.asks(`tcr_assistant_certificate_issuer{mode="self-signed"}`, 1)
	w.asks(`tcr_assistant_certificate_fallbacks_total`, 1)
	w.Eventually("the event is there", func() error {
		described := w.Kubectl("describe", "mutatingwebhookconfiguration", "tcr-assistant-mutating-webhook-configuration")
		if !strings.Contains(described, "CertificateFellBack") || !strings.Contains(described, "signer example.com/nobody issued none") {
			return fmt.Errorf("described as\n%s", described)
		}
		return nil
	})
	w.ready("many")
	assert.Equal(t, issued, w.told("many", "Issued"), "a restart tells nothing anew")
}
