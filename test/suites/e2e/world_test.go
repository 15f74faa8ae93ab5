//go:build linux

// Package e2e tells what the product promises, on a real node with a real private registry: pods that run.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

const (
	// hang is how long anything may take before it counts as never. A kubelet waits up to 5 minutes between two tries to
	// pull an image, but no pod here needs so many.
	hang = 3 * time.Minute

	chart   = "../../../deploy/chart"
	archive = "../../../dist/image.tar" // by "make image"
	image   = node.RegistryHost + "/docker/app:1"
	user    = "100012345678"
)

var helm = binaries.Command{Package: "helm.sh/helm/v4/cmd/helm", Version: "v4.3.1"}

func TestMain(m *testing.M) {
	machine.Main()
	if !machine.Inside() {
		// A machine of its own has no network to fetch anything from.
		if err := prepare(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// prepare builds what is not in the cache yet.
func prepare(ctx context.Context) error {
	_, errControlPlane := binaries.Build(ctx, "", os.Stderr)
	_, errNode := binaries.BuildNode(ctx, "", os.Stderr)
	_, errHelm := helm.Build(ctx, os.Stderr)
	return errors.Join(errControlPlane, errNode, errHelm)
}

// world is a node with the product's image, and a registry with the image of a workload.
type world struct {
	*suite.World
	node     *node.Node
	registry *node.Registry
	cloud    *cloud
	built    name.Tag // the product's image
	helmPath string
	dir      string
}

func newWorld(t *testing.T, password string) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // cleanups come after the test's own has ended
	n, err := node.Start(ctx, os.Stderr)
	require.NoError(t, err)
	w := &world{World: suite.On(t, n.Cluster), node: n, dir: t.TempDir()}
	w.Hang = hang
	t.Cleanup(func() {
		if t.Failed() {
			w.describe(t)
			dir, err := n.KeepLogs("e2e")
			assert.NoError(t, err)
			t.Logf("logs are kept in %s", dir)
		}
		assert.NoError(t, n.Stop())
	})
	w.helmPath, err = helm.Build(ctx, os.Stderr)
	require.NoError(t, err)
	w.registry, err = n.StartRegistry(ctx, user, password)
	require.NoError(t, err)
	workload, err := node.Workload(ctx)
	require.NoError(t, err)
	require.NoError(t, w.registry.Push(ctx, "docker/app:1", workload, user, password))
	w.built, err = n.Load(ctx, archive)
	require.NoError(t, err, "run \"make image\"")
	return w
}

// describe prints what an operator would look at.
func (w *world) describe(t *testing.T) {
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"get", "ipss", "-o", "wide"},
	} {
		stdout, stderr, _ := w.Cluster.Kubectl(w.Ctx, args...)
		t.Logf("kubectl %s:\n%s%s", strings.Join(args, " "), tail(stdout, 60), stderr)
	}
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// helm runs Helm, which must succeed, and returns what it prints.
func (w *world) helm(args ...string) string {
	w.T.Helper()
	command := exec.CommandContext(w.Ctx, w.helmPath, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(), "HELM_CONFIG_HOME="+w.dir, "HELM_CACHE_HOME="+w.dir,
		"HELM_DATA_HOME="+w.dir)
	out, err := command.CombinedOutput()
	require.NoError(w.T, err, "helm %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// values writes the values of a release into a file and returns its path.
func (w *world) values(values map[string]any) string {
	w.T.Helper()
	text, err := yaml.Marshal(values)
	require.NoError(w.T, err)
	path := filepath.Join(w.dir, "values.yaml")
	require.NoError(w.T, os.WriteFile(path, text, 0o600))
	return path
}

// namespace creates a namespace, and waits for nothing.
func (w *world) namespace(name string) error {
	_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		metav1.CreateOptions{})
	return err
}

// pod creates a pod of the private image, with nothing in its manifest that helps to pull it.
func (w *world) pod(namespace, name string, change ...func(*corev1.PodSpec)) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		Containers:                    []corev1.Container{{Name: "app", Image: image}},
		TerminationGracePeriodSeconds: new(int64),
	}}
	for _, c := range change {
		c(&pod.Spec)
	}
	_, err := w.Client.CoreV1().Pods(namespace).Create(w.Ctx, pod, metav1.CreateOptions{})
	return err
}

// pullAlways has a pod's image pulled even where it is on the node.
func pullAlways(spec *corev1.PodSpec) { spec.Containers[0].ImagePullPolicy = corev1.PullAlways }

// running waits until a pod runs.
func (w *world) running(namespace, name string) {
	w.T.Helper()
	w.Eventually("pod "+namespace+"/"+name+" runs", func() error {
		pod, err := w.Client.CoreV1().Pods(namespace).Get(w.Ctx, name, metav1.GetOptions{})
		if err == nil {
			err = runs(pod)
		}
		return err
	})
}

// runs returns why a pod does not run.
func runs(pod *corev1.Pod) error {
	for _, status := range pod.Status.ContainerStatuses {
		switch {
		case status.State.Waiting != nil:
			return fmt.Errorf("%s: %s", status.State.Waiting.Reason, status.State.Waiting.Message)
		case !status.Ready:
			return errors.New("it is not ready")
		}
	}
	if pod.Status.Phase != corev1.PodRunning {
		return fmt.Errorf("its phase is %s", pod.Status.Phase)
	}
	return nil
}

// refused waits until the events of a pod say why its image cannot be had.
func (w *world) refused(namespace, name, why string) {
	w.T.Helper()
	w.Eventually("pod "+namespace+"/"+name+" says why it does not run", func() error {
		events, err := w.Client.CoreV1().Events(namespace).List(w.Ctx,
			metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=Failed"})
		if err != nil {
			return err
		}
		var messages []string
		for _, event := range events.Items {
			if strings.Contains(event.Message, why) {
				return nil
			}
			messages = append(messages, event.Message)
		}
		return fmt.Errorf("its events are %q", messages)
	})
	pod, err := w.Client.CoreV1().Pods(namespace).Get(w.Ctx, name, metav1.GetOptions{})
	require.NoError(w.T, err)
	require.Error(w.T, runs(pod))
}

// issued waits until a namespace's Secret holds a password.
func (w *world) issued(namespace, password string) {
	w.T.Helper()
	w.Eventually("secret "+namespace+"/"+secret+" holds the password", func() error {
		object, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, secret, metav1.GetOptions{})
		if err == nil && !bytes.Contains(object.Data[corev1.DockerConfigJsonKey], []byte(`"password":"`+password+`"`)) {
			err = errors.New("it holds another one")
		}
		return err
	})
}

// product waits until the pods of the product's components are ready, as many of each as there should be, and returns them.
func (w *world) product(replicas map[string]int) (pods []corev1.Pod) {
	w.T.Helper()
	w.Eventually("the product is ready", func() error {
		pods = nil
		for component, want := range replicas {
			list, err := w.Client.CoreV1().Pods(manager.Namespace).List(w.Ctx,
				metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + component})
			if err != nil {
				return err
			}
			if len(list.Items) != want {
				return fmt.Errorf("%s has %d pods instead of %d", component, len(list.Items), want)
			}
			for i := range list.Items {
				if err := runs(&list.Items[i]); err != nil {
					return fmt.Errorf("%s: %w", component, err)
				}
			}
			pods = append(pods, list.Items...)
		}
		return nil
	})
	return pods
}

// hostsFile returns the node's hosts file.
func (w *world) hostsFile() string {
	w.T.Helper()
	text, err := os.ReadFile("/etc/hosts")
	require.NoError(w.T, err)
	return string(text)
}
