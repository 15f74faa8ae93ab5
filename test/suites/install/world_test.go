// Package install holds what installing, changing and removing the product promises, with Helm and kubectl on a real control
// plane. There is no node: the manager runs as a process of its own, with the token of the ServiceAccount that was installed.
package install

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

const (
	chart    = "../../../deploy/chart"
	allInOne = "../../../deploy/allinone/tcr-assistant.yaml"

	managerAccount = "tcr-assistant-controller-manager"

	// image is one that the chart has no default for.
	image = "registry.example.com/tcr-assistant"
	// placeholder is what the all-in-one manifests name instead.
	placeholder = "tcr-assistant.invalid/tcr-assistant"
)

// helms are the releases of Helm that the chart is for, by major version.
var helms = []binaries.Command{
	// Built by hand, Helm 3 takes itself for one of Kubernetes 1.20 wherever it renders without a cluster.
	{Package: "helm.sh/helm/v3/cmd/helm", Version: "v3.22.0",
		LinkerFlags: "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36"},
	manager.Helm,
}

var (
	// binary is the controller-manager under test, hostsUpdater the other command.
	binary, hostsUpdater string
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
		if err == nil {
			hostsUpdater, err = manager.Build(context.Background(), dir, "hosts-updater")
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
	*suite.World
	helm   string
	jobLog string // what the jobs have logged that runJobs ran, once that has ended
}

// newWorld starts a control plane on which the product was never installed. No promise of these tests is of time, so all run
// side by side.
func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{World: suite.StartEmpty(t), helm: helmPaths[len(helmPaths)-1]}
}

// home creates the product's namespace, which enforces pod security "restricted".
func (w *world) home() {
	w.T.Helper()
	w.Kubectl("create", "namespace", manager.Namespace)
	w.Kubectl("label", "namespace", manager.Namespace, "pod-security.kubernetes.io/enforce=restricted")
}

// tryHelm runs Helm, apart from the user's own configuration. Whatever renders the chart is given an image, which args may
// override.
func (w *world) tryHelm(args ...string) (output string, err error) {
	home := filepath.Join(w.Dir(), "helm")
	if slices.Contains([]string{"install", "upgrade", "template"}, args[0]) {
		base := filepath.Join(w.Dir(), "image.yaml") // Helm splits lists of files at commas, which names of tests may hold
		require.NoError(w.T, os.WriteFile(base, []byte("image: {repository: "+image+"}\n"), 0o600))
		args = append([]string{args[0], "--values", base}, args[1:]...)
	}
	return w.bareHelm(home, args...)
}

func (w *world) bareHelm(home string, args ...string) (output string, err error) {
	command := exec.CommandContext(w.Ctx, w.helm, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_PLUGINS="+home)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// runHelm runs Helm on the release, which must succeed.
func (w *world) runHelm(command string, args ...string) string {
	w.T.Helper()
	out, err := w.tryHelm(append([]string{command, "tcr-assistant", "--namespace", manager.Namespace}, args...)...)
	require.NoError(w.T, err, "helm %s: %s", command, out)
	return out
}

// tokenFor returns a kubeconfig file and a client configuration with a token of a ServiceAccount in the product's namespace,
// as a pod of it has one.
func (w *world) tokenFor(account string) (kubeconfig string, config *rest.Config) {
	w.T.Helper()
	hour := int64(3600)
	request, err := w.Client.CoreV1().ServiceAccounts(manager.Namespace).CreateToken(w.Ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	admin := w.RESTConfig()
	config = &rest.Config{Host: admin.Host, BearerToken: request.Status.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData, CAFile: admin.CAFile}, QPS: -1}

	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData, CertificateAuthority: admin.CAFile}
	file.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	file.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	file.CurrentContext = "x"
	kubeconfig = filepath.Join(w.T.TempDir(), account+".kubeconfig")
	require.NoError(w.T, clientcmd.WriteToFile(*file, kubeconfig))
	return kubeconfig, config
}

// collectorLooks has the cluster's garbage collector look for the kinds that are served now, as it does by itself twice a minute.
func (w *world) collectorLooks() {
	w.T.Helper()
	require.NoError(w.T, w.RestartControllerManager(w.Ctx))
}

// run starts a manager with the ServiceAccount's token and waits until it is ready.
func (w *world) run(args ...string) *manager.Manager {
	w.T.Helper()
	kubeconfig, _ := w.tokenFor(managerAccount)
	return w.RunManager(manager.Options{Binary: binary, Kubeconfig: kubeconfig,
		Args: slices.Concat(w.permissionArgs(), w.webhookArgs(), args)})
}

// permissionArgs returns what the Deployment that is installed tells the manager of its permissions.
func (w *world) permissionArgs() []string {
	w.T.Helper()
	args := w.Kubectl("get", "deployment", "tcr-assistant-controller-manager", "-n", manager.Namespace, "-o",
		"jsonpath={.spec.template.spec.containers[0].args}")
	return []string{fmt.Sprintf("--keep-secrets-role=%t", strings.Contains(args, `"--keep-secrets-role"`))}
}

// team creates a namespace with a ServiceAccount "builder" that has an entry of its own.
func (w *world) team(namespace string) {
	w.T.Helper()
	w.Kubectl("create", "namespace", namespace)
	w.Apply(fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: %s}, imagePullSecrets: [{name: theirs}]}",
		namespace))
}

// teamLists waits until a ServiceAccount of the namespace "team" lists exactly these entries, in any order: which credential
// came first is not always up to the test.
func (w *world) teamLists(name string, want ...string) {
	w.T.Helper()
	slices.Sort(want)
	w.Eventually("the service account lists what it should", func() error {
		if have := slices.Sorted(slices.Values(w.Entries("team", name))); !slices.Equal(have, want) {
			return fmt.Errorf("%s lists %q instead of %q", name, have, want)
		}
		return nil
	})
}

// objects returns every object of the cluster, as kind namespace/name, but for events, which expire, and for what the cluster
// keeps about itself.
func (w *world) objects() []string {
	w.T.Helper()
	kinds := strings.Fields(w.Kubectl("api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool {
		return strings.HasPrefix(kind, "events") || strings.HasPrefix(kind, "componentstatuses") ||
			strings.HasPrefix(kind, "servicecidrs") || strings.HasPrefix(kind, "ipaddresses") ||
			strings.Contains(kind, "flowcontrol") || strings.HasPrefix(kind, "apiservices")
	})
	out := w.Kubectl("get", strings.Join(kinds, ","), "-A", "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	objects := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(objects)
	return slices.Compact(objects)
}

// leaves waits until the cluster holds the objects of before and, besides, exactly these; and until no ServiceAccount
// lists anything of ours.
func (w *world) leaves(before []string, besides ...string) {
	w.T.Helper()
	want := append(slices.Clone(before), besides...)
	slices.Sort(want)
	w.Eventually("nothing else is left", func() error {
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
	w.T.Helper()
	list, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
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
