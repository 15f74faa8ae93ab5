//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/hostsd"
	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// whyWorld is a node with a manager beside it, a private registry, and hosts that answer as registries do that something is wrong with.
type whyWorld struct {
	*suite.World
	node     *node.Node
	registry *node.Registry
	manager  *manager.Manager
	plugin   string
}

// situation is a pod of a namespace of its own that cannot pull, or can.
type situation struct {
	name  string
	image string
	// before is done in the namespace before the pod is made, pod changes it, after is done once its pull has failed.
	before func(namespace string)
	pod    func(*corev1.PodSpec)
	after  func(namespace string)
	want   []diagnose.Reason
}

// TestWhy brings about what keeps pods from pulling, each for real, and has kubectl tcr say what it is.
func TestWhy(t *testing.T) {
	t.Parallel()
	machine.Run(t, func(t *testing.T) {
		w := newWhyWorld(t)
		situations := w.situations()
		for _, s := range situations {
			w.make(s)
		}
		for _, s := range situations {
			t.Run(s.name, func(t *testing.T) { w.judge(t, s) })
		}
		t.Run("check", w.check)
		require.NoError(t, w.manager.Stop())
		w.Kubectl("delete", "validatingwebhookconfigurations", "--all")
		for _, s := range w.withoutManager() {
			t.Run(s.name, func(t *testing.T) {
				w.make(s)
				w.judge(t, s)
			})
		}
	})
}

func newWhyWorld(t *testing.T) *whyWorld {
	t.Helper()
	n, err := node.Start(t.Context(), os.Stderr)
	require.NoError(t, err)
	w := &whyWorld{World: suite.On(t, n.Cluster), node: n}
	w.Hang = hang
	t.Cleanup(func() {
		if t.Failed() {
			dir, err := n.KeepLogs("why")
			assert.NoError(t, err)
			t.Logf("logs are kept in %s", dir)
		}
		assert.NoError(t, n.Stop())
	})
	w.registry, err = n.StartRegistry(w.Ctx, user, "right")
	require.NoError(t, err)
	workload, err := node.Workload(w.Ctx)
	require.NoError(t, err)
	require.NoError(t, w.registry.Push(w.Ctx, "docker/app:1", workload, user, "right"))
	w.serveTrouble(t)

	folder := t.TempDir()
	w.plugin, err = manager.Build(w.Ctx, folder, "kubectl-tcr")
	require.NoError(t, err)
	binary, err := manager.Build(w.Ctx, folder, "controller-manager")
	require.NoError(t, err)
	require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	w.manager = w.RunManager(manager.Options{Binary: binary})
	w.Namespace("old") // its pod is there before the entry
	require.NoError(t, w.create("old", image, nil))
	w.give("demo", node.RegistryHost, "right", "ok,old,own,base64,list,tag,broken-ours,stale,gone,young")
	w.give("wrong", node.RegistryHost, "wrong", "wrong,mended")
	for _, host := range []string{"scope", "forbidden"} {
		w.give(host, host+".example.com", "right", host)
	}
	return w
}

// give creates an ImagePullSecret.
func (w *whyWorld) give(name, server, password, namespaces string) {
	w.T.Helper()
	w.Apply(imagePullSecret(name, namespaces, server, password))
}

// serveTrouble serves registries that something is wrong with, each under a host of its own, and has the node find them.
func (w *whyWorld) serveTrouble(t *testing.T) {
	t.Helper()
	secure, err := net.Listen("tcp", net.JoinHostPort(node.Address, "443"))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(trouble))
	server.Listener, server.TLS = secure, &tls.Config{}
	server.StartTLS()
	t.Cleanup(server.Close)
	clear, err := net.Listen("tcp", net.JoinHostPort(node.Address, "5001"))
	require.NoError(t, err)
	open := httptest.NewUnstartedServer(http.HandlerFunc(trouble))
	open.Listener = clear
	open.Start()
	t.Cleanup(open.Close)

	hosts := node.RegistryAddress + " " + node.RegistryHost + "\n" + node.RegistryAddress + " unknown.example.com\n" + node.Address +
		" clear.example.com\n" +
		node.Address + " untrusted.example.com\n10.200.0.99 nobody.example.com\n" +
		"10.200.0.99 " + overruled + "\n" + node.RegistryAddress + " " + overruled + " " + hostsd.Marker + "\n"
	for _, name := range []string{"none", "theirs", "scope", "forbidden", "limit", "fails"} {
		host := name + ".example.com"
		hosts += node.Address + " " + host + "\n"
		folder := filepath.Join("/etc/containerd/certs.d", host)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "hosts.toml"), fmt.Appendf(nil,
			"server = \"https://%[1]s\"\n[host.\"https://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n", host), 0o600))
	}
	file, err := os.OpenFile("/etc/hosts", os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(hosts)
	require.NoError(t, errors.Join(err, file.Close()))
}

// trouble answers as a registry does that something is wrong with.
func trouble(response http.ResponseWriter, request *http.Request) {
	host, _, _ := strings.Cut(request.Host, ".")
	fail := func(status int, code, message string) {
		response.Header().Set("Content-Type", "application/json")
		response.WriteHeader(status)
		fmt.Fprintf(response, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
	switch host {
	case "scope":
		if request.URL.Path == "/token" {
			fmt.Fprint(response, `{"token":"hush","access_token":"hush"}`)
			return
		}
		challenge := `Bearer realm="https://scope.example.com/token",service="scope",scope="repository:app:pull"`
		if request.Header.Get("Authorization") == "Bearer hush" {
			challenge += `,error="insufficient_scope"`
		}
		response.Header().Set("WWW-Authenticate", challenge)
		fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case "forbidden":
		if _, _, has := request.BasicAuth(); has {
			fail(http.StatusForbidden, "DENIED", "requested access to the resource is denied")
			return
		}
		response.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case "limit":
		fail(http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many")
	case "fails":
		fail(http.StatusServiceUnavailable, "UNAVAILABLE", "down")
	default:
		response.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	}
}

func listing(names ...string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) {
		for _, name := range names {
			spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		}
	}
}

func (w *whyWorld) situations() []situation {
	is := func(reasons ...diagnose.Reason) []diagnose.Reason { return reasons }
	keeps := func(name, config string) func(string) {
		return func(namespace string) { w.secret(namespace, name, corev1.SecretTypeDockerConfigJson, config) }
	}
	return []situation{
		{name: "ok", image: image, want: is(diagnose.Healthy)},
		{name: "resolve", image: "nowhere.example.com/app", want: is(diagnose.NameNotResolved)},
		{name: "refused-connection", image: "clear.example.com:444/app", want: is(diagnose.Timeout)},
		{name: "silence", image: "nobody.example.com/app", want: is(diagnose.Timeout)},
		{name: "untrusted", image: "untrusted.example.com/app", want: is(diagnose.CertificateUnknown)},
		{name: "other-name", image: "unknown.example.com/app", want: is(diagnose.CertificateUnknown)},
		{name: "plain", image: "clear.example.com:5001/app", want: is(diagnose.PlainHTTP)},
		{name: "wrong", image: image, want: is(diagnose.CredentialRefused)},
		{name: "outside", image: image, want: is(diagnose.NotSelected)},
		{name: "own", image: image, pod: listing("mine"), want: is(diagnose.PodListsItsOwn)},
		{name: "base64", image: image, before: keeps("sibling", `{"auths":{"x.example.com":{"auth":"%%hush"}}}`),
			pod: listing("tcr.ipsdemo", "sibling"), want: is(diagnose.SiblingSecretBroken)},
		{name: "list", image: image, before: keeps("sibling", `{"auths":["hush"]}`), pod: listing("tcr.ipsdemo", "sibling"),
			want: is(diagnose.SiblingSecretBroken)},
		{name: "foreign", image: image, before: func(namespace string) {
			w.secret(namespace, "tcr.ipsforeign", corev1.SecretTypeOpaque, "")
			w.give("foreign", node.RegistryHost, "right", namespace)
			w.Lists(namespace, "default", "tcr.ipsforeign")
		}, want: is(diagnose.SecretForeign)},
		{name: "old", image: image, want: is(diagnose.PodOlderThanEntry)},
		{name: "none", image: "none.example.com/app", want: is(diagnose.NoCredentialForServer)},
		{name: "theirs", image: "theirs.example.com/app", before: keeps("theirs",
			`{"auths":{"theirs.example.com":{"username":"u","password":"hush"}}}`), pod: listing("theirs"), want: is(diagnose.OtherRegistry)},
		{name: "scope", image: "scope.example.com/app", want: is(diagnose.InsufficientScope)},
		{name: "forbidden", image: "forbidden.example.com/app", want: is(diagnose.InsufficientScope)},
		{name: "limit", image: "limit.example.com/app", want: is(diagnose.RateLimited)},
		{name: "fails", image: "fails.example.com/app", want: is(diagnose.RegistryFails)},
		{name: "tag", image: node.RegistryHost + "/docker/app:none", want: is(diagnose.ImageNotFound)},
		{name: "upper-case", image: node.RegistryHost + "/docker/App:1", want: is(diagnose.ImageNameInvalid)},
		{name: "never", image: "never.example.com/app", pod: func(spec *corev1.PodSpec) { spec.Containers[0].ImagePullPolicy = corev1.PullNever },
			want: is(diagnose.ImageNotOnNode)},
		{name: "mended", image: image, after: func(namespace string) {
			w.justRefused(namespace)
			w.give("wrong", node.RegistryHost, "right", "mended")
			w.Holds(namespace, "wrong")
		}, want: is(diagnose.BackingOff)},
		{name: "hosts", image: "line.example.com/app", after: func(string) {
			w.Kubectl("create", "configmap", "updater-config", "-n", "kube-system",
				`--from-literal=hosts.yaml={"hosts":[{"domain":"line.example.com","ip":"10.200.0.20"}]}`)
		}, want: is(diagnose.HostsLineMissing)},
		// Behind the one before, which finds no pod of hosts-updater.
		{name: "overruled", image: overruled + "/app", after: func(string) { w.runUpdater() }, want: is(diagnose.HostsLineOverruled)},
	}
}

// withoutManager are situations that a manager would mend.
func (w *whyWorld) withoutManager() []situation {
	is := func(reasons ...diagnose.Reason) []diagnose.Reason {
		return append([]diagnose.Reason{diagnose.ManagerDown}, reasons...)
	}
	return []situation{
		{name: "gone", image: image, before: func(namespace string) {
			w.Kubectl("patch", "serviceaccount", "default", "-n", namespace, "--type=merge", `--patch={"imagePullSecrets":[{"name":"tcr.ipsdemo"}]}`)
		}, want: is(diagnose.SecretMissing)},
		{name: "young", image: image, want: is(diagnose.EntryMissing)},
		{name: "stale", image: image, before: func(namespace string) {
			w.secret(namespace, "tcr.ipsdemo", corev1.SecretTypeDockerConfigJson,
				`{"auths":{"`+node.RegistryHost+`":{"username":"u","password":"hush"}}}`)
		}, pod: listing("tcr.ipsdemo"), want: is(diagnose.SecretStale)},
		{name: "broken-ours", image: image, before: func(namespace string) {
			w.secret(namespace, "tcr.ipsdemo", corev1.SecretTypeDockerConfigJson, `{"auths":{"x":{"auth":"hush"}}}`)
		}, pod: listing("tcr.ipsdemo"), want: is(diagnose.SecretStale)},
	}
}

func (w *whyWorld) secret(namespace, name string, kind corev1.SecretType, config string) {
	w.T.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind}
	if config != "" {
		secret.Data = map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)}
	}
	_, err := w.Client.CoreV1().Secrets(namespace).Create(w.Ctx, secret, metav1.CreateOptions{})
	require.NoError(w.T, err)
}

// make brings a situation about.
func (w *whyWorld) make(s situation) {
	w.T.Helper()
	if s.name == "old" {
		return
	}
	w.Namespace(s.name)
	if s.before != nil {
		s.before(s.name)
	}
	require.NoError(w.T, w.create(s.name, s.image, s.pod))
}

func (w *whyWorld) create(namespace, image string, change func(*corev1.PodSpec)) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "app"}, Spec: corev1.PodSpec{
		Containers:                    []corev1.Container{{Name: "app", Image: image, ImagePullPolicy: corev1.PullAlways}},
		TerminationGracePeriodSeconds: new(int64),
	}}
	if change != nil {
		change(&pod.Spec)
	}
	_, err := w.Client.CoreV1().Pods(namespace).Create(w.Ctx, pod, metav1.CreateOptions{})
	return err
}

// check logs in to the registry.
func (w *whyWorld) check(t *testing.T) {
	w.T = t
	authority := "--registry-ca-file=/etc/containerd/certs.d/" + node.RegistryHost + "/ca.crt"
	w.give("refused", node.RegistryHost, "hush", "check")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"demo", authority}, 0, "Valid: imagepullsecret demo at " + node.RegistryHost + ", asked from "},
		{[]string{"demo", authority, "--image=docker/app:1"}, 0, "LoggedIn: "},
		{[]string{"demo", authority, "--image=" + image}, 0, "LoggedIn: "},
		{[]string{"refused", authority}, 1, "Unauthorized: " + node.RegistryHost + " answered 401"},
		{[]string{"demo", authority, "--image=docker/app:none"}, 2, "ImageNotFound: "},
		{[]string{"demo"}, 2, "CertificateUnknown: "},
		{[]string{"none"}, 2, "not found"},
	} {
		out, err := exec.CommandContext(w.Ctx, w.plugin, append([]string{"check", "--kubeconfig=" + w.Kubeconfig()},
			c.args...)...).CombinedOutput()
		code := 0
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		assert.Equal(t, c.code, code, c.args)
		assert.Contains(t, string(out), c.says, c.args)
		assert.NotContains(t, string(out), "hush", c.args)
	}
}

// justRefused waits until the pod's last pull failed so recently that the next one is some time away, and so long ago that what happens now
// happens in another second: events count in seconds.
func (w *whyWorld) justRefused(namespace string) {
	w.T.Helper()
	w.Eventually("a pull has just failed", func() error {
		events, err := w.Client.CoreV1().Events(namespace).List(w.Ctx, metav1.ListOptions{FieldSelector: "reason=Failed"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			age := time.Since(event.LastTimestamp.Time)
			if strings.HasPrefix(event.Message, "Failed to pull image") && age > 2*time.Second && age < 6*time.Second {
				return nil
			}
		}
		return errors.New("none did")
	})
}

// judge waits until the pod runs or has failed to, and asks why.
func (w *whyWorld) judge(t *testing.T, s situation) {
	w.T = t
	var waiting string
	w.Eventually("the kubelet has tried", func() error {
		pod, err := w.Client.CoreV1().Pods(s.name).Get(w.Ctx, "app", metav1.GetOptions{})
		if err != nil {
			return err
		}
		err = runs(pod)
		if s.want[0] == diagnose.Healthy {
			return err
		}
		if waiting = fmt.Sprint(err); err == nil || strings.Contains(waiting, "ContainerCreating") || strings.Contains(waiting,
			"pull QPS exceeded") || !strings.Contains(waiting, ": ") {
			return fmt.Errorf("it does not say why it does not run: %s", waiting)
		}
		return nil
	})
	if s.after != nil {
		s.after(s.name)
	}
	var out, problems bytes.Buffer
	command := exec.CommandContext(w.Ctx, w.plugin, "why", "app", "-n", s.name, "-o", "json", "--kubeconfig="+w.Kubeconfig())
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	var report diagnose.Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &report), problems.String())
	var reasons []diagnose.Reason
	for _, finding := range report.Findings {
		reasons = append(reasons, finding.Reason)
	}
	t.Logf("%s\n%s", waiting, out.String())
	assert.Equal(t, s.want, reasons)
	assert.NotContains(t, out.String(), "hush")
	code := 1
	if s.want[0] == diagnose.Healthy {
		code = 0
	}
	assert.Equal(t, code, command.ProcessState.ExitCode())
}
