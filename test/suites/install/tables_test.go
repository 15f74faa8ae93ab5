package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

const uninstallAccount = "tcr-assistant-uninstall"

// try is an attempt to do something with a stolen token. It changes nothing where it is allowed.
type try = func(kubernetes.Interface) error

// documented are the lines of a table in docs/rbac.md, each as its cells, found by the beginning of the table's head.
func documented(t *testing.T, head string) (lines [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/rbac.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n| "+head+" |")
	require.True(t, found, head)
	table, _, _ := strings.Cut(rest, "\n\n")
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		lines = append(lines, cells)
	}
	return lines
}

// dry has a write change nothing, applied one by server-side apply.
var (
	dry     = []string{metav1.DryRunAll}
	applied = metav1.PatchOptions{FieldManager: "thief", DryRun: dry}
)

// asks returns an attempt that asks whether it would be allowed.
func asks(ctx context.Context, verb, group, resource, namespace, name string) try {
	return func(stolen kubernetes.Interface) error {
		review, err := stolen.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Group: group, Resource: resource, Namespace: namespace, Name: name,
			}},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = apierrors.NewForbidden(schema.GroupResource{Group: group, Resource: resource}, name, fmt.Errorf("%s", verb))
		}
		return err
	}
}

func tries(attempts ...attempt) (all []try) {
	for _, a := range attempts {
		all = append(all, a.try)
	}
	return all
}

// either is allowed where one of them is.
func either(some ...try) try {
	return func(stolen kubernetes.Interface) (err error) {
		for _, one := range some {
			if err = one(stolen); err == nil {
				return nil
			}
		}
		return err
	}
}

func secretTries(ctx context.Context) (create, apply try, foreign []try) {
	post := func(name string, edit ...func(*corev1.Secret)) try {
		return func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Create(ctx, secret(name, edit...), metav1.CreateOptions{DryRun: dry})
			return err
		}
	}
	apply = func(stolen kubernetes.Interface) error {
		body := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"tcr.ipscentral","labels":{"app.kubernetes.io/managed-by":"tcr-assistant"}},` +
			`"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"e30="}}`
		_, err := stolen.CoreV1().Secrets("team").Patch(ctx, "tcr.ipscentral", types.ApplyPatchType, []byte(body), applied)
		return err
	}
	return post("tcr.ipsx"), apply, []try{
		post("registry"), post("tcr.ipsx", opaque),
		func(stolen kubernetes.Interface) error {
			_, err := stolen.CoreV1().Secrets("team").Patch(ctx, "database", types.MergePatchType, []byte(`{"data":{"a":"Yg=="}}`),
				metav1.PatchOptions{DryRun: dry})
			return err
		},
		func(stolen kubernetes.Interface) error {
			return stolen.CoreV1().Secrets("team").Delete(ctx, "database", metav1.DeleteOptions{DryRun: dry})
		},
	}
}

// accountTry patches the account "builder".
func accountTry(ctx context.Context, patch string) try {
	return func(stolen kubernetes.Interface) error {
		_, err := stolen.CoreV1().ServiceAccounts("team").Patch(ctx, "builder", types.MergePatchType, []byte(patch),
			metav1.PatchOptions{DryRun: dry})
		return err
	}
}

const (
	attaching  = `{"imagePullSecrets":[{"name":"theirs"},{"name":"tcr.ipsx"}]}`
	annotating = `{"metadata":{"annotations":{"a":"b"}}}`
	ipsGroup   = "tcr.tencentcloudcr.com"
	hookGroup  = "admissionregistration.k8s.io"
)

// managersTries are what each line of the first two tables is tried by. Where it is allowed, the first of them is.
func managersTries(ctx context.Context, w *world) map[string][]try {
	create, apply, foreign := secretTries(ctx)
	configuration := func(resource, own string) []try {
		return []try{
			asks(ctx, "patch", hookGroup, resource, "", own),
			asks(ctx, "create", hookGroup, resource, "", own),
			asks(ctx, "delete", hookGroup, resource, "", own),
		}
	}
	return map[string][]try{
		"read somebody else's Secret, outside the manager's namespace":             tries(foreignReads(ctx)...),
		"read the Secrets of the manager's namespace":                              {asks(ctx, "list", "", "secrets", manager.Namespace, "")},
		"read the credentials in ImagePullSecrets":                                 {asks(ctx, "list", ipsGroup, "imagepullsecrets", "", "")},
		"create, change or delete somebody else's Secret":                          foreign,
		"create Secrets of ours, named `tcr.ips…`, of our type and with our label": {either(create, apply)},
		"attach and detach entries `tcr.ips…`":                                     {accountTry(ctx, attaching)},
		"change anything else of a ServiceAccount": {accountTry(ctx, annotating),
			accountTry(ctx, `{"imagePullSecrets":[]}`)},
		"get more permissions":                        tries(widenings(ctx)...),
		"act as another account, or issue its tokens": tries(disguises(ctx, w)[:5]...),
		"remove the policies that restrict it":        tries(sheddings(ctx)[:4]...),
		"keep the manager from its work, by its Lease or what is derived": {
			asks(ctx, "patch", ipsGroup, "derivedattachments", "", ""),
			asks(ctx, "update", "coordination.k8s.io", "leases", manager.Namespace, "tcr-assistant-leader-election"),
		},
		"read and change the records of the tokens that the cloud has issued, with these in them": {
			asks(ctx, "get", "", "secrets", manager.Namespace, "tcr-assistant-tokens-0"),
			asks(ctx, "update", "", "secrets", manager.Namespace, "tcr-assistant-tokens-7"),
		},
		"lead any domain to a private address, in every node's hosts file": {
			asks(ctx, "patch", "", "configmaps", manager.Namespace, "updater-config-discovered"),
		},
		"rewrite what anybody writes, and so [become cluster admin](#what-a-stolen-token-of-the-manager-can-still-do)": configuration("mutatingwebhookconfigurations", "tcr-assistant-mutating-webhook-configuration"),
		"read and refuse what anybody writes": configuration("validatingwebhookconfigurations", "tcr-assistant-validating-webhook-configuration"),
		"have the signer certify any server": {
			func(stolen kubernetes.Interface) error {
				_, err := stolen.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
					ObjectMeta: metav1.ObjectMeta{Name: "tcr-assistant-webhook"}, Spec: certificatesv1.CertificateSigningRequestSpec{
						Request: certificateRequest(w.T), SignerName: "kubernetes.io/kubelet-serving",
						Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
					},
				}, metav1.CreateOptions{DryRun: dry})
				return err
			},
			asks(ctx, "approve", "certificates.k8s.io", "signers", "", "kubernetes.io/kubelet-serving"),
		},
		"replace the webhook's certificate, and read its key": {func(stolen kubernetes.Interface) error {
			body := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"` + servingCertificate + `"},` +
				`"type":"kubernetes.io/tls","data":{"tls.crt":"","tls.key":""}}`
			_, err := stolen.CoreV1().Secrets(manager.Namespace).Patch(ctx, servingCertificate, types.ApplyPatchType, []byte(body), applied)
			return err
		}},
	}
}

// othersTries are what each line of the third table is tried by.
func othersTries(ctx context.Context) map[string][]try {
	create, apply, foreign := secretTries(ctx)
	get := func(stolen kubernetes.Interface) error {
		_, err := stolen.CoreV1().Secrets("team").Get(ctx, "database", metav1.GetOptions{})
		return err
	}
	var writes []try
	for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
		writes = append(writes, asks(ctx, verb, "", "secrets", "team", ""),
			asks(ctx, verb, "", "configmaps", manager.Namespace, "updater-config"),
			asks(ctx, verb, "", "configmaps", manager.Namespace, "updater-config-discovered"),
			asks(ctx, verb, "apps", "daemonsets", manager.Namespace, "hosts-updater"),
			asks(ctx, verb, "", "pods", manager.Namespace, ""),
			asks(ctx, verb, "", "nodes", "", ""))
	}
	return map[string][]try{
		"**The uninstall job's**, while it runs: read somebody else's Secret": {get},
		"list the Secrets of the manager's namespace":                         {asks(ctx, "list", "", "secrets", manager.Namespace, "")},
		"list others, or watch any": {asks(ctx, "list", "", "secrets", "", ""),
			asks(ctx, "watch", "", "secrets", "", ""),
			asks(ctx, "watch", "", "secrets", manager.Namespace, ""),
			asks(ctx, "list", "", "secrets", "team", "database")},
		"read, change and delete the records of tokens": {
			asks(ctx, "get", "", "secrets", manager.Namespace, "tcr-assistant-tokens-0"),
			asks(ctx, "delete", "", "secrets", manager.Namespace, "tcr-assistant-tokens-7"),
		},
		"create, change or delete a Secret":                          append(foreign, create, apply),
		"read the credentials in ImagePullSecrets, and delete these": {asks(ctx, "list", ipsGroup, "imagepullsecrets", "", "")},
		"remove entries `tcr.ips…` from ServiceAccounts":             {accountTry(ctx, attaching)},
		"change anything else of a ServiceAccount":                   {accountTry(ctx, annotating)},
		"get more permissions":                                       tries(widenings(ctx)...),
		"write webhook configurations, or request certificates": {
			asks(ctx, "create", hookGroup, "mutatingwebhookconfigurations", "", ""),
			asks(ctx, "patch", hookGroup, "mutatingwebhookconfigurations", "", "tcr-assistant-mutating-webhook-configuration"),
			asks(ctx, "patch", hookGroup, "validatingwebhookconfigurations", "", "tcr-assistant-validating-webhook-configuration"),
			asks(ctx, "create", "certificates.k8s.io", "certificatesigningrequests", "", ""),
		},
		"**That of hosts-updater**: read a Secret": append([]try{get}, asks(ctx, "list", "", "secrets", manager.Namespace, "")),
		"read anything but its DaemonSet, its namespace and its two ConfigMaps": {
			asks(ctx, "get", "", "configmaps", manager.Namespace, "other"),
			asks(ctx, "watch", "", "configmaps", manager.Namespace, ""),
			asks(ctx, "get", "apps", "daemonsets", manager.Namespace, "other"),
			asks(ctx, "get", "", "namespaces", "team", "team"),
			asks(ctx, "list", "", "pods", "", ""),
			asks(ctx, "list", ipsGroup, "imagepullsecrets", "", ""),
		},
		"write anything": writes,
	}
}

// tableHolds holds a column of a table to what is refused and what is not.
func (w *world) tableHolds(t *testing.T, lines [][]string, column int, tries map[string][]try, whose func(line int) kubernetes.Interface) {
	t.Helper()
	for number, cells := range lines {
		stolen, tried := whose(number), tries[cells[0]]
		if !assert.NotEmpty(t, tried, "nothing tries %q", cells[0]) {
			continue
		}
		refused := strings.HasPrefix(cells[column], "no")
		if !refused {
			tried = tried[:1]
		}
		for i, one := range tried {
			w.Eventually(fmt.Sprintf("try %d of %q is as it is documented: %s", i, cells[0], cells[column]), func() error {
				err := one(stolen)
				if refused && !apierrors.IsForbidden(err) {
					return fmt.Errorf("it is not refused: %w", err)
				}
				if !refused {
					return err
				}
				return nil
			})
		}
	}
}

// oneCredential is a value of the chart.
const oneCredential = "global.imagePullSecretsCrs[0].name=central,global.imagePullSecretsCrs[0].dockerUsername=u," +
	"global.imagePullSecretsCrs[0].dockerPassword=p,global.imagePullSecretsCrs[0].dockerServer=a.example.com"

// TestWhatAStolenTokenCanDoIsAsDocumented installs the product in each mode and tries every line of the tables with each token.
func TestWhatAStolenTokenCanDoIsAsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	for _, theirs := range map[string]*corev1.Secret{"database": secret("database", opaque),
		"foreign": secret("tcr.ipsforeign", labelled(nil))} {
		_, err := w.Client.CoreV1().Secrets("team").Create(w.Ctx, theirs, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	bySecrets, byWebhook := documented(t, "The manager's token, by `rbac.secrets`"), documented(t, "The manager's token, by `webhook`")
	others := documented(t, "Other tokens, by `rbac.secrets`")
	hostsUpdaters := len(others) - 3
	webhooks := []string{"webhook.enabled=false", "webhook.mutating=auto", "webhook.mutating=true"}
	if !w.AttachesByItself() {
		webhooks = []string{"", "", "webhook.mutating=auto"} // the others are refused: TestTheWebhookIsSwitchedOffAndOn
	}
	command := "install"
	for i, secrets := range []string{"narrowed", "named", "all"} {
		for k, webhook := range webhooks {
			if webhook == "" {
				continue
			}
			t.Run(secrets+", "+webhook, func(t *testing.T) {
				set := "rbac.secrets=" + secrets + "," + webhook + "," + oneHost + "," + oneCredential
				w.runHelm(command, chart, "--set", set)
				command = "upgrade"
				w.uninstallRoles(set)
				of := w.stolen(managerAccount)
				manages := func(int) kubernetes.Interface { return of }
				w.tableHolds(t, bySecrets, 1+i, managersTries(w.Ctx, w), manages)
				w.tableHolds(t, byWebhook, 1+k, managersTries(w.Ctx, w), manages)
				uninstalls, updates := w.stolen(uninstallAccount), w.stolen("hosts-updater")
				w.tableHolds(t, others, 1+i, othersTries(w.Ctx), func(line int) kubernetes.Interface {
					if line < hostsUpdaters {
						return uninstalls
					}
					return updates
				})
			})
		}
	}
}

// uninstallRoles makes what there is of the uninstall's job while it runs, but for the job.
func (w *world) uninstallRoles(set string) {
	w.T.Helper()
	rendered, err := w.tryHelm("template", "tcr-assistant", chart, "--namespace", manager.Namespace, "--kube-version", w.Version(),
		"--api-versions", policyAPI,
		"--set", set, "--show-only", "templates/uninstall.yaml")
	require.NoError(w.T, err, rendered)
	var kept []string
	for part := range strings.SplitSeq(rendered, "\n---\n") {
		if !strings.Contains(part, "\nkind: Job\n") {
			kept = append(kept, part)
		}
	}
	file := filepath.Join(w.T.TempDir(), "uninstall.yaml")
	require.NoError(w.T, os.WriteFile(file, []byte(strings.Join(kept, "\n---\n")), 0o600))
	w.Kubectl("apply", "-f", file)
}
