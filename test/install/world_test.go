// Package install holds what installing, changing and removing the product promises, with Helm and kubectl on a real control
// plane. There is no node: the manager runs as a process of its own, with the token of the ServiceAccount that was installed.
package install

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

const (
	// hang is how long anything may take before it counts as never.
	hang = 60 * time.Second

	chart    = "../../deploy/chart"
	allInOne = "../../deploy/allinone/tcr-assistant.yaml"

	managerAccount = "tcr-assistant-controller-manager"
)

// helms are the releases of Helm that the chart is for, by major version.
var helms = []binaries.Command{
	// Built by hand, Helm 3 takes itself for one of Kubernetes 1.20 wherever it renders without a cluster.
	{Package: "helm.sh/helm/v3/cmd/helm", Version: "v3.22.0", LinkerFlags: "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36"},
	{Package: "helm.sh/helm/v4/cmd/helm", Version: "v4.3.1"},
}

var (
	// binary is the controller-manager under test.
	binary string
	// helmPaths are the programs of helms.
	helmPaths []string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tcr-assistant-install-")
		if err == nil {
			defer os.RemoveAll(dir)
			binary, err = manager.Build(context.Background(), dir, "controller-manager")
		}
		for _, helm := range helms {
			if err == nil {
				var path string
				path, err = helm.Build(context.Background(), os.Stderr)
				helmPaths = append(helmPaths, path)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// world is a control plane with an empty namespace for the product.
type world struct {
	*cluster.Cluster
	t      *testing.T
	ctx    context.Context
	client kubernetes.Interface
	ips    *typed.Client
	helm   string
}

// newWorld starts a control plane. The product's namespace enforces pod security "restricted".
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		Cluster: cluster.StartT(t, cluster.Options{Log: io.Discard}),
		t:       t, ctx: context.WithoutCancel(t.Context()), helm: helmPaths[len(helmPaths)-1],
	}
	var err error
	w.client, err = kubernetes.NewForConfig(w.RESTConfig())
	require.NoError(t, err)
	httpClient, err := rest.HTTPClientFor(w.RESTConfig())
	require.NoError(t, err)
	w.ips, err = typed.NewClient(w.RESTConfig(), httpClient)
	require.NoError(t, err)
	return w
}

// home creates the product's namespace.
func (w *world) home() {
	w.t.Helper()
	w.kubectl("create", "namespace", manager.Namespace)
	w.kubectl("label", "namespace", manager.Namespace, "pod-security.kubernetes.io/enforce=restricted")
}

// kubectl runs kubectl, which must succeed, and returns what it prints.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	stdout, _, err := w.Kubectl(w.ctx, args...)
	require.NoError(w.t, err)
	return stdout
}

// apply feeds kubectl a manifest.
func (w *world) apply(manifest string, args ...string) string {
	w.t.Helper()
	// Older kubectls take what begins with a brace for JSON.
	out, err := w.feed("---\n"+manifest, append([]string{"apply", "-f", "-"}, args...)...)
	require.NoError(w.t, err, out)
	return out
}

func (w *world) feed(input string, args ...string) (output string, err error) {
	command := w.KubectlCommand(w.ctx, args...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	return string(out), err
}

// tryHelm runs Helm, apart from the user's own configuration.
func (w *world) tryHelm(args ...string) (output string, err error) {
	home := filepath.Join(w.Dir(), "helm")
	command := exec.CommandContext(w.ctx, w.helm, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_PLUGINS="+home)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// runHelm runs Helm on the release, which must succeed.
func (w *world) runHelm(command string, args ...string) string {
	w.t.Helper()
	out, err := w.tryHelm(append([]string{command, "tcr-assistant", "--namespace", manager.Namespace}, args...)...)
	require.NoError(w.t, err, "helm %s: %s", command, out)
	return out
}

// tokenFor returns a kubeconfig file and a client configuration with a token of a ServiceAccount in the product's namespace,
// as a pod of it has one.
func (w *world) tokenFor(account string) (kubeconfig string, config *rest.Config) {
	w.t.Helper()
	hour := int64(3600)
	request, err := w.client.CoreV1().ServiceAccounts(manager.Namespace).CreateToken(w.ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	admin := w.RESTConfig()
	config = &rest.Config{Host: admin.Host, BearerToken: request.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData, CAFile: admin.CAFile}, QPS: -1}

	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData, CertificateAuthority: admin.CAFile}
	file.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	file.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	file.CurrentContext = "x"
	kubeconfig = filepath.Join(w.t.TempDir(), account+".kubeconfig")
	require.NoError(w.t, clientcmd.WriteToFile(*file, kubeconfig))
	return kubeconfig, config
}

// run starts a manager with the ServiceAccount's token and waits until it is ready.
func (w *world) run(args ...string) *manager.Manager {
	w.t.Helper()
	kubeconfig, _ := w.tokenFor(managerAccount)
	m, err := manager.Start(w.ctx, w.Cluster, manager.Options{Binary: binary, Kubeconfig: kubeconfig, Args: args})
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			if err := m.Stop(); err != nil {
				w.t.Logf("the manager ended: %v", err)
			}
		}
		if w.t.Failed() {
			lines := strings.Split(m.Log(), "\n")
			w.t.Logf("the manager's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	ctx, cancel := context.WithTimeout(w.ctx, hang)
	defer cancel()
	require.NoError(w.t, m.Ready(ctx))
	return m
}

// eventually waits until check returns nil.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(hang)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(w.t, err, "%s, not within %s", what, hang)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// account creates a namespace with a ServiceAccount that has an entry of its own.
func (w *world) account(namespace, name string) {
	w.t.Helper()
	w.kubectl("create", "namespace", namespace)
	w.apply(fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: %s, namespace: %s}, imagePullSecrets: [{name: theirs}]}", name, namespace))
}

// create creates an ImagePullSecret by hand.
func (w *world) create(name string) {
	w.t.Helper()
	w.apply(fmt.Sprintf(`{apiVersion: tcr.tencentcloudcr.com/v1, kind: ImagePullSecret, metadata: {name: %s}, spec: {docker: {username: u, password: p, server: %s.example.com}}}`, name, name))
}

// lists waits until a ServiceAccount lists exactly these entries, in any order.
func (w *world) lists(namespace, name string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.eventually("the service account lists what it should", func() error {
		have, err := w.entries(namespace, name)
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("%s/%s lists %q instead of %q", namespace, name, have, want)
		}
		return err
	})
}

func (w *world) entries(namespace, name string) ([]string, error) {
	account, err := w.client.CoreV1().ServiceAccounts(namespace).Get(w.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var have []string
	for _, entry := range account.ImagePullSecrets {
		have = append(have, entry.Name)
	}
	slices.Sort(have)
	return have, nil
}

// holds waits until a namespace holds the Secret of an ImagePullSecret as its credential is now.
func (w *world) holds(namespace, imagePullSecret string) *corev1.Secret {
	w.t.Helper()
	var secret *corev1.Secret
	w.eventually("the namespace holds the current secret", func() error {
		object, err := w.ips.Get(w.ctx, imagePullSecret, metav1.GetOptions{})
		if err != nil {
			return err
		}
		secret, err = w.client.CoreV1().Secrets(namespace).Get(w.ctx, pullsecret.SecretName(imagePullSecret), metav1.GetOptions{})
		if err == nil && !bytes.Equal(secret.Data[corev1.DockerConfigJsonKey], pullsecret.Render(object.Spec.Docker)) {
			err = fmt.Errorf("%s/%s holds another credential", namespace, secret.Name)
		}
		return err
	})
	return secret
}

// lacks waits until a namespace has no Secret of an ImagePullSecret.
func (w *world) lacks(namespace, imagePullSecret string) {
	w.t.Helper()
	w.eventually("the secret is gone", func() error {
		list, err := w.client.CoreV1().Secrets(namespace).List(w.ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pullsecret.SecretName(imagePullSecret)})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s still holds it", namespace)
		}
		return err
	})
}

// objects returns every object of the cluster, as kind namespace/name, but for events, which expire, and for what the cluster
// keeps about itself.
func (w *world) objects() []string {
	w.t.Helper()
	kinds := strings.Fields(w.kubectl("api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool {
		return strings.HasPrefix(kind, "events") || strings.HasPrefix(kind, "componentstatuses") ||
			strings.HasPrefix(kind, "servicecidrs") || strings.HasPrefix(kind, "ipaddresses") ||
			strings.Contains(kind, "flowcontrol") || strings.HasPrefix(kind, "apiservices")
	})
	out := w.kubectl("get", strings.Join(kinds, ","), "-A", "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	objects := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(objects)
	return slices.Compact(objects)
}

// leaves waits until the cluster holds the objects of before and, besides, exactly these; and until no ServiceAccount
// lists anything of ours.
func (w *world) leaves(before []string, besides ...string) {
	w.t.Helper()
	want := append(slices.Clone(before), besides...)
	slices.Sort(want)
	w.eventually("nothing else is left", func() error {
		have := w.objects()
		var diff []string
		for _, object := range have {
			if !slices.Contains(want, object) {
				diff = append(diff, "+ "+object)
			}
		}
		for _, object := range want {
			if !slices.Contains(have, object) {
				diff = append(diff, "- "+object)
			}
		}
		if diff != nil {
			return fmt.Errorf("the cluster differs:\n%s", strings.Join(diff, "\n"))
		}
		return nil
	})
}

// attached returns the ServiceAccounts that list anything of ours.
func (w *world) attached() []string {
	w.t.Helper()
	list, err := w.client.CoreV1().ServiceAccounts("").List(w.ctx, metav1.ListOptions{})
	require.NoError(w.t, err)
	var attached []string
	for _, account := range list.Items {
		for _, entry := range account.ImagePullSecrets {
			if strings.HasPrefix(entry.Name, pullsecret.SecretPrefix) {
				attached = append(attached, account.Namespace+"/"+account.Name+" "+entry.Name)
			}
		}
	}
	return attached
}
