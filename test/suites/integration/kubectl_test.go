package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// plugin is a world with "kubectl tcr" on the path.
type plugin struct {
	*world
	folder string
	said   bytes.Buffer // all that it ever printed
}

func withPlugin(t *testing.T, w *world) *plugin {
	t.Helper()
	p := &plugin{world: w, folder: t.TempDir()}
	_, err := manager.Build(w.Ctx, p.folder, "kubectl-tcr")
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, secret := range []string{"password-of-", "cGFzc3dvcmQtb2Yt", "hush"} {
			assert.NotContains(t, p.said.String(), secret, "it prints no credential")
		}
	})
	return p
}

// ask runs kubectl tcr, and returns what it prints and the code that it ends with.
func (p *plugin) ask(input string, args ...string) (stdout string, code int) {
	p.T.Helper()
	var out, problems bytes.Buffer
	command := p.KubectlCommand(p.Ctx, append([]string{"tcr"}, args...)...)
	command.Env = append(command.Env, "PATH="+p.folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	command.Dir = p.folder
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &problems
	err := command.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		require.NoError(p.T, err)
	}
	p.said.Write(out.Bytes())
	p.said.Write(problems.Bytes())
	p.T.Logf("kubectl tcr %s: %d\n%s%s", strings.Join(args, " "), command.ProcessState.ExitCode(), out.String(), problems.String())
	return out.String() + problems.String(), command.ProcessState.ExitCode()
}

// why asks why, and returns the reasons.
func (p *plugin) why(args ...string) (reasons []diagnose.Reason, code int) {
	p.T.Helper()
	out, code := p.ask("", append([]string{"why", "-o", "json"}, args...)...)
	var report diagnose.Report
	require.NoError(p.T, json.Unmarshal([]byte(out), &report), out)
	for _, finding := range report.Findings {
		reasons = append(reasons, finding.Reason)
	}
	return reasons, code
}

// pod creates a pod, which copies its account's entries unless it has some of its own.
func (p *plugin) pod(namespace, name, image string, entries ...string) {
	p.T.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
	for _, entry := range entries {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	_, err := p.Client.CoreV1().Pods(namespace).Create(p.Ctx, pod, metav1.CreateOptions{})
	require.NoError(p.T, err)
}

// fails writes into a pod's status, and into an event, what a kubelet does whose pull has failed twice, the second time now.
func (p *plugin) fails(namespace, name, message string) {
	p.T.Helper()
	pod, err := p.Client.CoreV1().Pods(namespace).Get(p.Ctx, name, metav1.GetOptions{})
	require.NoError(p.T, err)
	image := pod.Spec.Containers[0].Image
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: image, State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff",
			Message: `Back-off pulling image "` + image + `": ErrImagePull: ` + message},
	}}}
	_, err = p.Client.CoreV1().Pods(namespace).UpdateStatus(p.Ctx, pod, metav1.UpdateOptions{})
	require.NoError(p.T, err)
	_, err = p.Client.CoreV1().Events(namespace).Create(p.Ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, GenerateName: name + "."},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name, UID: pod.UID},
		Reason:         "Failed", Type: "Warning", Count: 2, LastTimestamp: metav1.NewTime(time.Now().Add(2 * time.Second)),
		Message: `Failed to pull image "` + image + `": ` + message,
	}, metav1.CreateOptions{})
	require.NoError(p.T, err)
}

const (
	unauthorized = `failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://r/token?account=hush: 401 Unauthorized`
	noSuchHost   = `failed to do request: Head "https://demo.example.com/v2/": dial tcp: lookup demo.example.com on 10.0.0.2:53: no such host`
)

func TestKubectlTCRSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	p := withPlugin(t, w)
	p.Namespace("shop")
	p.Namespace("late")
	p.Namespace("other")
	p.pod("late", "early", "demo.example.com/app")
	p.Create("demo", suite.InNamespaces("shop,late"))
	p.Lists("shop", "default", "tcr.ipsdemo")
	p.Lists("late", "default", "tcr.ipsdemo")
	p.Holds("shop", "demo")

	for name, c := range map[string]struct {
		namespace, image, message string
		entries                   []string
		before                    func()
		want                      []diagnose.Reason
	}{
		"refused": {namespace: "shop", image: "demo.example.com/app", message: unauthorized,
			want: []diagnose.Reason{diagnose.CredentialRefused}},
		"resolved": {namespace: "shop", image: "demo.example.com/app", message: noSuchHost, want: []diagnose.Reason{diagnose.NameNotResolved}},
		"nobody": {namespace: "shop", image: "nobody.example.com/app", message: unauthorized,
			want: []diagnose.Reason{diagnose.NoCredentialForServer}},
		"apart": {namespace: "other", image: "demo.example.com/app", message: unauthorized, want: []diagnose.Reason{diagnose.NotSelected}},
		"own": {namespace: "shop", image: "demo.example.com/app", message: unauthorized, entries: []string{"own"},
			want: []diagnose.Reason{diagnose.PodListsItsOwn}},
		"sibling": {namespace: "shop", image: "demo.example.com/app", message: "illegal base64 data at input byte 4",
			entries: []string{"tcr.ipsdemo", "broken"},
			before:  func() { p.secret("shop", "broken", `{"auths":{"x.example.com":{"auth":"%%hush"}}}`) },
			want:    []diagnose.Reason{diagnose.SiblingSecretBroken}},
		"theirs": {namespace: "shop", image: "theirs.example.com/app", message: unauthorized, entries: []string{"theirs"},
			before: func() {
				p.secret("shop", "theirs", `{"auths":{"theirs.example.com":{"username":"u","password":"hush"}}}`)
			}, want: []diagnose.Reason{diagnose.OtherRegistry}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			p.pod(c.namespace, name, c.image, c.entries...)
			reasons, code := p.why(name, "-n", c.namespace)
			assert.Equal(t, []diagnose.Reason{diagnose.Healthy}, reasons, "before its image is pulled")
			assert.Equal(t, 0, code)
			p.fails(c.namespace, name, c.message)
			reasons, code = p.why(name, "-n", c.namespace)
			assert.Equal(t, c.want, reasons)
			assert.Equal(t, 1, code)
		})
	}
	t.Run("a pod that is older than the entry", p.olderPod)
	t.Run("all pods of a namespace", p.namespacePods)
	t.Run("the Secret is somebody else's", p.foreign)
	t.Run("the credential was renewed since", p.renewed)
	t.Run("what is not there", p.absent)
	t.Run("the pods of a deployment", p.deployment)
	t.Run("a narrow user is told what they may not see", p.narrowUser)
	require.NoError(t, m.Stop())
	t.Run("no manager runs that would mend it", p.unmended)
}

// olderPod asks about a pod that was there before its account listed the entry.
func (p *plugin) olderPod(t *testing.T) {
	p.fails("late", "early", unauthorized)
	out, code := p.ask("", "why", "pod/early", "--namespace=late")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "PodOlderThanEntry: pod late/early\n")
	assert.Contains(t, out, "To do: kubectl delete pod -n late early, and create it again")
	assert.LessOrEqual(t, strings.Count(out, "\n"), 12)
	assert.NotContains(t, out, "\x1b", "colours are for terminals")
}

// namespacePods asks about all of a namespace at once.
func (p *plugin) namespacePods(t *testing.T) {
	reasons, code := p.why("namespace/shop")
	assert.Equal(t, 1, code)
	for _, reason := range []diagnose.Reason{diagnose.CredentialRefused, diagnose.SiblingSecretBroken, diagnose.OtherRegistry} {
		assert.Contains(t, reasons, reason)
	}
}

// foreign asks about a pod whose entry leads to a Secret that is not the manager's.
func (p *plugin) foreign(t *testing.T) {
	p.foreignSecret("other", "tcr.ipsforeign")
	p.Create("foreign", suite.InNamespaces("other"))
	p.Lists("other", "default", "tcr.ipsforeign")
	p.pod("other", "foreign", "foreign.example.com/app")
	p.fails("other", "foreign", unauthorized)
	reasons, code := p.why("foreign", "-n", "other")
	assert.Equal(t, []diagnose.Reason{diagnose.SecretForeign}, reasons)
	assert.Equal(t, 1, code)
}

// renewed asks about a pod that has failed with the credential before this one.
func (p *plugin) renewed(t *testing.T) {
	p.pod("shop", "renewed", "demo.example.com/app")
	p.fails("shop", "renewed", unauthorized)
	time.Sleep(3 * time.Second) // managedFields know seconds
	p.edit("demo", password("password-of-demo-renewed"))
	p.Holds("shop", "demo")
	reasons, code := p.why("renewed", "-n", "shop")
	assert.Equal(t, []diagnose.Reason{diagnose.BackingOff}, reasons)
	assert.Equal(t, 1, code)
}

// absent asks about pods, namespaces, owners and an API server that do not exist.
func (p *plugin) absent(t *testing.T) {
	for _, args := range [][]string{{"none", "-n", "shop"}, {"namespace/none"}, {"deployment/none", "-n", "shop"}, {"cronjob/none"}} {
		_, code := p.ask("", append([]string{"why"}, args...)...)
		assert.Equal(t, 2, code, args)
	}
	_, code := p.ask("", "why", "--server=https://127.0.0.1:1")
	assert.Equal(t, 2, code)
}

// unmended asks about a pod whose Secret is gone while no manager runs.
func (p *plugin) unmended(t *testing.T) {
	require.NoError(t, p.Client.CoreV1().Secrets("shop").Delete(p.Ctx, "tcr.ipsdemo", metav1.DeleteOptions{}))
	reasons, code := p.why("refused", "-n", "shop")
	assert.Equal(t, []diagnose.Reason{diagnose.ManagerDown, diagnose.SecretMissing}, reasons)
	assert.Equal(t, 1, code)
	out, code := p.ask("", "status")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "no replica leads")
}

func (p *plugin) secret(namespace, name, config string) {
	p.T.Helper()
	_, err := p.Client.CoreV1().Secrets(namespace).Create(p.Ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}, metav1.CreateOptions{})
	require.NoError(p.T, err)
}

func (p *plugin) foreignSecret(namespace, name string) {
	p.T.Helper()
	_, err := p.Client.CoreV1().Secrets(namespace).Create(p.Ctx,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, metav1.CreateOptions{})
	require.NoError(p.T, err)
}

// deployment asks about the pods of a Deployment that the cluster's controllers have made.
func (p *plugin) deployment(t *testing.T) {
	p.Kubectl("create", "deployment", "web", "-n", "shop", "--image=demo.example.com/app", "--replicas=2")
	var names []string
	p.Eventually("the deployment has pods", func() error {
		names = strings.Fields(p.Kubectl("get", "pods", "-n", "shop", "-l", "app=web", "-o", "name"))
		if len(names) != 2 {
			return errors.New("not yet")
		}
		return nil
	})
	reasons, code := p.why("deployment/web", "-n", "shop")
	assert.Equal(t, []diagnose.Reason{diagnose.Healthy}, reasons)
	assert.Equal(t, 0, code)
	for _, name := range names {
		p.fails("shop", strings.TrimPrefix(name, "pod/"), "demo.example.com/app:latest: not found")
	}
	out, code := p.ask("", "why", "deploy/web", "-n", "shop")
	assert.Equal(t, 1, code)
	assert.Equal(t, 1, strings.Count(out, "ImageNotFound"), "once for both pods")
}

// narrowUser asks as someone who may see little.
func (p *plugin) narrowUser(t *testing.T) {
	_, err := p.Client.RbacV1().Roles("shop").Create(p.Ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "narrow"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	p.Kubectl("create", "rolebinding", "narrow", "-n", "shop", "--role=narrow", "--user=narrow")
	kubeconfig, err := p.KubeconfigFor("narrow")
	require.NoError(t, err)
	var out string
	p.Eventually("the role is known", func() error {
		var code int
		if out, code = p.ask("", "why", "refused", "-n", "shop", "--kubeconfig="+kubeconfig); code != 2 || !strings.Contains(out, "Undecided") {
			return errors.New(out)
		}
		return nil
	})
	for _, missing := range []string{`cannot get resource "secrets"`, `cannot list resource "imagepullsecrets"`,
		`cannot get resource "serviceaccounts"`, `cannot list resource "events"`} {
		assert.Contains(t, out, missing)
	}
	assert.Contains(t, out, "401 Unauthorized", "what could be seen is still told")
	out, code := p.ask("", "why", "resolved", "-n", "shop", "--kubeconfig="+kubeconfig)
	assert.Equal(t, 1, code, "what the pod itself tells takes no more")
	assert.Contains(t, out, "NameNotResolved")
	assert.NotContains(t, out, `resource "secrets"`, "and no more is asked for")
	for _, args := range [][]string{{"status"}, {"why", "namespace/shop"}, {"plan", "-f", "-"}} {
		out, code := p.ask(document("demo", "shop"), append(args, "--kubeconfig="+kubeconfig)...)
		assert.Equal(t, 2, code, args)
		assert.Contains(t, out, "cannot list resource", args)
	}
}
