package install

import (
	"cmp"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// updater is hosts-updater as a pod of the DaemonSet runs it, over a hosts file of its own.
type updater struct {
	*exec.Cmd
	t     *testing.T
	hosts string
	log   string // the file of it
}

const (
	others = "127.0.0.1 localhost\n"
	ours   = "10.16.0.17 fanjiankong-bj.tencentcloudcr.com # managed by tcr hosts-updater\n"
)

// runUpdater starts what the DaemonSet of a namespace says, with the token that a pod of it would have, and waits for its line.
func (w *world) runUpdater(t *testing.T, namespace string, pod ...string) *updater {
	t.Helper()
	set, err := w.Client.AppsV1().DaemonSets(namespace).Get(w.Ctx, "hosts-updater", metav1.GetOptions{})
	require.NoError(t, err)
	config, err := w.Client.CoreV1().ConfigMaps(namespace).Get(w.Ctx, "updater-config", metav1.GetOptions{})
	require.NoError(t, err)
	dir := t.TempDir()
	u := &updater{t: t, hosts: filepath.Join(dir, "hosts"), log: filepath.Join(t.TempDir(), "log")}
	require.NoError(t, os.WriteFile(u.hosts, []byte(others), 0o644))
	for name, text := range config.Data {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	container := set.Spec.Template.Spec.Containers[0]
	assert.Equal(t, []string{"/hosts-updater"}, container.Command)
	args := []string{"--service-account=" + dir}
	for _, arg := range container.Args {
		args = append(args, strings.NewReplacer("=/config", "="+dir, "=/host/etc/hosts", "="+u.hosts, "=:8080", "=127.0.0.1:0").Replace(arg))
	}
	u.Cmd = exec.CommandContext(w.Ctx, hostsUpdater, args...)
	u.Env = append(process.Environ(), "NODE_NAME=node")
	log, err := os.Create(u.log)
	require.NoError(t, err)
	defer log.Close()
	u.Stderr = log
	if *set.Spec.Template.Spec.AutomountServiceAccountToken {
		u.Env = append(u.Env, w.mountAccount(t, namespace, set.Spec.Template.Spec.ServiceAccountName, dir, pod...)...)
	}
	require.NoError(t, u.Start())
	t.Cleanup(func() {
		if u.ProcessState == nil {
			_ = u.Process.Kill()
			_ = u.Wait() // it was killed
		}
	})
	w.Eventually("the line is there", func() error {
		if u.file() != ours+others {
			return errors.New("it is not")
		}
		return nil
	})
	return u
}

// mountAccount writes into dir what the kubelet mounts into a pod of an account, and returns where the API server is.
func (w *world) mountAccount(t *testing.T, namespace, account, dir string, pod ...string) (env []string) {
	t.Helper()
	hour := int64(3600)
	spec := authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}
	for _, name := range pod { // as the kubelet's requests are
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: name}
	}
	request, err := w.Client.CoreV1().ServiceAccounts(namespace).CreateToken(w.Ctx, account, &authenticationv1.TokenRequest{Spec: spec},
		metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(request.Status.Token), 0o600))
	admin := w.RESTConfig()
	authority := admin.CAData
	if len(authority) == 0 {
		authority, err = os.ReadFile(admin.CAFile)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), authority, 0o600))
	address, err := url.Parse(admin.Host)
	require.NoError(t, err)
	return []string{"KUBERNETES_SERVICE_HOST=" + address.Hostname(), "KUBERNETES_SERVICE_PORT=" + address.Port()}
}

// token is that of its account.
func (u *updater) token() string {
	u.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(u.hosts), "token"))
	require.NoError(u.t, err)
	return string(text)
}

func (u *updater) file() string {
	u.t.Helper()
	text, err := os.ReadFile(u.hosts)
	require.NoError(u.t, err)
	return string(text)
}

// ends ends it as the kubelet does, and returns the hosts file as it is left.
func (u *updater) ends() string {
	u.t.Helper()
	require.NoError(u.t, u.Process.Signal(syscall.SIGTERM))
	require.NoError(u.t, u.Wait())
	return u.file()
}

// seen waits until the API server has opened the watch that it asks for at its start.
func (w *world) seen(since time.Time) {
	w.T.Helper()
	w.Eventually("it watches its configuration", func() error {
		asked, err := w.Requests(func(r cluster.Request) bool {
			return strings.HasSuffix(r.User, ":hosts-updater") && r.Resource == "configmaps" && r.Verb == "watch" && r.Running &&
				r.Received.After(since)
		})
		if err == nil && len(asked) == 0 {
			err = errors.New("it has not")
		}
		return err
	})
}

// TestHostsUpdaterAsInstalled runs what the DaemonSet says, and ends it as all sorts of ends do.
func TestHostsUpdaterAsInstalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.installUpdater()
	for _, step := range []struct {
		name   string
		before func()
		pod    endingPod
		comes  func(u *updater) // what comes about before the pod ends
		left   string
		after  func()
	}{
		{name: "a pod that ends leaves the lines", left: ours + others},
		{
			name: "an upgrade that leaves no host takes them away", left: others,
			comes: func(*updater) { w.runHelm("upgrade", chart, "--reuse-values", "--set-json", "global.hosts=[]") },
			after: func() { w.runHelm("rollback", "1") },
		},
		{name: "so does an uninstall", comes: w.uninstalled, left: others, after: func() { w.installUpdater() }},
		{name: "so does the deletion of the manifests, in one stroke", comes: w.manifestsDeleted, left: others, after: func() {
			w.runHelm("uninstall")
			w.installUpdater()
		}},
		{name: "so does a DaemonSet that waits for its pods", left: others, comes: func(*updater) {
			w.holdDaemonSet(manager.Namespace)
			w.Kubectl("delete", "daemonset", "hosts-updater", "-n", manager.Namespace, "--wait=false")
		}, after: func() { w.releaseDaemonSet(manager.Namespace) }},
		{
			name: "they stay where that is wanted, without a token", before: w.keepLines, pod: endingPod{blind: true},
			comes: w.uninstalled, left: ours + others,
		},
		{
			name: "they stay through the upgrade that asks for that", before: func() { w.installUpdater() },
			comes: func(*updater) { w.keepLines() }, // whose pods end after it
			left:  ours + others, after: func() { w.runHelm("uninstall") },
		},
		{
			name: "they stay when a pod is deleted by force", before: w.installWithForced, pod: endingPod{name: "forced"},
			comes: w.deletedByForce, left: ours + others, after: func() { w.runHelm("uninstall") },
		},
		{
			name: "they stay where the API server does not know of its roles", before: func() { w.installUpdater() },
			comes: func(*updater) { w.Kubectl("delete", "rolebinding", "hosts-updater", "-n", manager.Namespace) },
			left:  ours + others, after: func() { w.runHelm("uninstall") },
		},
		{
			name: "a namespace that is ending takes them away, whatever goes first", left: others, pod: endingPod{namespace: "nodes"},
			before: func() {
				w.Kubectl("create", "namespace", "nodes")
				w.installUpdater("--set", "hostsUpdater.namespace=nodes")
				w.holdDaemonSet("nodes") // held, it is there when the pod ends, as it may be for any pod of a namespace that is ending
			},
			comes: func(*updater) { w.Kubectl("delete", "namespace", "nodes", "--wait=false") },
			after: func() { w.releaseDaemonSet("nodes") },
		},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				step.before()
			}
			if step.after != nil {
				defer step.after()
			}
			u := w.watching(t, step.pod)
			if step.comes != nil {
				step.comes(u)
			}
			assert.Equal(t, step.left, u.ends())
		})
	}
}

// endingPod is which pod hosts-updater runs as.
type endingPod struct {
	namespace string // by default the product's
	name      string // of one that its token is bound to, if any
	blind     bool   // it has no token, and so watches nothing
}

// watching starts hosts-updater as a pod, and waits until it watches its configuration.
func (w *world) watching(t *testing.T, pod endingPod) *updater {
	t.Helper()
	namespace, since := cmp.Or(pod.namespace, manager.Namespace), time.Now()
	var bound []string
	if pod.name != "" {
		bound = []string{pod.name}
	}
	u := w.runUpdater(t, namespace, bound...)
	if !pod.blind {
		w.seen(since)
	}
	return u
}

// installUpdater installs the chart with hosts, whose uninstall leaves the credentials.
func (w *world) installUpdater(args ...string) {
	w.T.Helper()
	w.runHelm("install", slices.Concat([]string{chart}, args, []string{"--set", "uninstall.keepCredentials=true"}, terraform)...)
}

func (w *world) uninstalled(*updater) { w.runHelm("uninstall") }

func (w *world) manifestsDeleted(u *updater) {
	u.t.Helper()
	manifest, err := w.tryHelm("get", "manifest", "tcr-assistant", "--namespace", manager.Namespace)
	require.NoError(u.t, err)
	out, err := w.Pipe(manifest, "delete", "-f", "-")
	require.NoError(u.t, err, out)
}

// keepLines upgrades to lines that stay.
func (w *world) keepLines() {
	w.T.Helper()
	w.runHelm("upgrade", chart, "--reuse-values", "--set", "hostsUpdater.keepLines=true")
}

// holdDaemonSet has the DaemonSet stay after its deletion until it is released.
func (w *world) holdDaemonSet(namespace string) {
	w.T.Helper()
	w.Kubectl("patch", "daemonset", "hosts-updater", "-n", namespace, "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/held"]}}`)
}

func (w *world) releaseDaemonSet(namespace string) {
	w.T.Helper()
	w.Kubectl("patch", "daemonset", "hosts-updater", "-n", namespace, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}

// installWithForced installs, and creates a pod of hosts-updater's account.
func (w *world) installWithForced() {
	w.T.Helper()
	w.installUpdater()
	w.Kubectl("run", "forced", "-n", manager.Namespace, "--image=r.io/x", "--overrides", `{"spec":{"serviceAccountName":"hosts-updater","nodeName":"node",
		"securityContext":{"runAsNonRoot":true,"runAsUser":7,"seccompProfile":{"type":"RuntimeDefault"}},
		"containers":[{"name":"forced","image":"r.io/x","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`)
}

// deletedByForce deletes the pod, and waits until its token is refused.
func (w *world) deletedByForce(u *updater) {
	u.t.Helper()
	w.Kubectl("delete", "pod", "forced", "-n", manager.Namespace, "--grace-period=0", "--force")
	w.Eventually("its token is refused", func() error { // one that was good is taken for good for a while
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: u.token()}}
		review, err := w.Client.AuthenticationV1().TokenReviews().Create(w.Ctx, review, metav1.CreateOptions{})
		if err == nil && review.Status.Authenticated {
			err = errors.New("it is not")
		}
		return err
	})
}

// oneHost is what makes hosts-updater run.
const oneHost = "global.hosts[0].domain=a.example.com,global.hosts[0].ip=10.0.0.5"

// TestSwitches holds what is rendered to the values that no other test turns.
func TestSwitches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		name, set, has, lacks string
	}{
		{"no disruption budget", "manager.podDisruptionBudget.enabled=false", "kind: Deployment", "kind: PodDisruptionBudget"},
		{"a disruption budget", "manager.podDisruptionBudget.maxUnavailable=50%", `maxUnavailable: "50%"`, ""},
		{"the nodes' network", "manager.hostNetwork=true", "hostNetwork: true", "maxSurge: 1\n      maxUnavailable: 0"},
		{"a network of its own", "manager.hostNetwork=false", "maxSurge: 1\n      maxUnavailable: 0", "hostNetwork"},
		{"no policies for the manager", "rbac.secrets=all,admissionPolicies.restrictManager=false", "kind: ClusterRole",
			"kind: ValidatingAdmissionPolicy"},
		{"no policy that attaches, on any version", "admissionPolicies.attach=false", "kind: ClusterRole", "kind: MutatingAdmissionPolicy"},
		{"the policy that attaches, on any version", "admissionPolicies.attach=true", "kind: MutatingAdmissionPolicyBinding", ""},
		{"a digest", "image.digest=sha256:" + strings.Repeat("a", 64) + ",image.tag=v9",
			"image: \"" + image + "@sha256:" + strings.Repeat("a", 64), "v9"},
		{"a tag", "image.repository=registry.example.com/a,image.tag=v9", `image: "registry.example.com/a:v9"`, ""},
		{"a failure policy", "webhook.failurePolicy=Fail", "--webhook-failure-policy=Fail", ""},
		{"a lifetime", "webhook.certDuration=24h", "--cert-duration=24h", ""},
		{"the manager's own lifetime", "webhook.certDuration=", "kind: Deployment", "--cert-duration"},
		{"an authority of the webhook's callers, in the flag", "webhook.clientCA=-----BEGIN CERTIFICATE-----",
			"--webhook-client-ca=/etc/tcr-assistant/webhook-client-ca/ca.crt", ""},
		{"an authority of the webhook's callers, mounted", "webhook.clientCA=-----BEGIN CERTIFICATE-----",
			"configMap: {name: tcr-assistant-webhook-client-ca}", ""},
		{"an authority of the webhook's callers, kept", "webhook.clientCA=-----BEGIN CERTIFICATE-----", `ca.crt: "-----BEGIN CERTIFICATE-----"`,
			""},
		{"a webhook that answers everybody", "webhook.clientCA=", "kind: Deployment", "webhook-client-ca"},
		{"a signer, in the flag", "webhook.certSigner=example.com/serving", "--cert-signer=example.com/serving", ""},
		{"a signer, in the role", "webhook.certSigner=example.com/serving", `resourceNames: ["example.com/serving"]`, ""},
		{"a signer, in the policy", "webhook.certSigner=example.com/serving", `object.spec.signerName == "example.com/serving"`,
			"kubelet-serving"},
		{"no certificate requests", "rbac.certificates=false", "kind: ClusterRole", "certificatesigningrequests/approval"},
		{"a deadline for the job of an uninstall", "uninstall.timeoutSeconds=7", "activeDeadlineSeconds: 7", ""},
		{"no job of an uninstall", "uninstall.keepCredentials=true", "kind: ClusterRole", "helm.sh/hook"},
		{"network policies", "networkPolicy.enabled=true", "kind: NetworkPolicy", ""},
		{"a user for the manager", "manager.runAsUser=1000720000", "runAsUser: 1000720000\n        runAsGroup: 1000720000", "65532"},
		{"no user for the manager, nor for the job of an uninstall", "manager.runAsUser=null", "runAsNonRoot: true", "runAsUser:"},
		{"a quota that critical pods may need", "priorityQuota.enabled=true", "kind: ResourceQuota", ""},
		{"no quota", "priorityQuota.enabled=false", "kind: Deployment", "kind: ResourceQuota"},
		{"hosts-updater away from virtual nodes", oneHost, "values:\n                - virtual-kubelet", ""},
		{"hosts-updater on any node", oneHost + ",hostsUpdater.affinity=null", "kind: DaemonSet", "nodeAffinity"},
		{"an update that no node can stop", oneHost, "maxSurge: 0\n      maxUnavailable: \"100%\"", ""},
		{"an update in steps", oneHost + ",hostsUpdater.maxUnavailable=3", "maxUnavailable: 3", ""},
		{"a log of hosts-updater", oneHost + ",hostsUpdater.logLevel=debug,hostsUpdater.logFormat=text",
			"--log-format=text\n            - --log-level=debug", ""},
		{"more flags of hosts-updater", oneHost + ",hostsUpdater.extraArgs[0]=--resync-period=1m", "- \"--resync-period=1m\"", ""},
		{"lines that go with the DaemonSet", oneHost + ",networkPolicy.enabled=true", "--daemonset=" + manager.Namespace + "/hosts-updater",
			"Egress"},
		{"lines that stay", oneHost + ",networkPolicy.enabled=true,hostsUpdater.keepLines=true", "policyTypes: [Ingress, Egress]",
			"--daemonset="},
		{"a permission that old pods need after an upgrade, where lines stay", oneHost + ",hostsUpdater.keepLines=true",
			"resources: [daemonsets]", ""},
		{"no token where lines stay", oneHost + ",hostsUpdater.keepLines=true", "automountServiceAccountToken: false\n      enableServiceLinks",
			""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := w.tryHelm("template", "x", chart, "--namespace", manager.Namespace, "--kube-version", "v1.30.0", "--set", tc.set)
			require.NoError(t, err, out)
			assert.Contains(t, out, tc.has)
			if tc.lacks != "" {
				assert.NotContains(t, out, tc.lacks)
			}
		})
	}
}
