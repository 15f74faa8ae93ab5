//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
)

const (
	rule   = "demo"
	secret = "tcr.ips" + rule
	line   = node.RegistryAddress + " " + node.RegistryHost + " # managed by tcr hosts-updater\n"
)

// all is what runs of the product.
var all = map[string]int{"controller-manager": 2, "hosts-updater": 1}

// release returns the values of a release: those that users know, and the documented budget as limits, which the kernel
// enforces.
func (w *world) release(disabled string, credentials ...map[string]any) map[string]any {
	limits := func(memory string) map[string]any {
		budget := map[string]any{"cpu": "100m", "memory": memory}
		return map[string]any{"resources": map[string]any{"requests": budget, "limits": budget}}
	}
	return map[string]any{
		"global": map[string]any{
			"hosts":               []any{map[string]any{"domain": node.RegistryHost, "ip": node.RegistryAddress, "disabled": disabled}},
			"imagePullSecretsCrs": credentials,
			"tcr":                 w.cloud.values(),
		},
		"image":        map[string]any{"repository": w.built.Repository.Name(), "tag": w.built.TagStr()},
		"manager":      limits("30Mi"),
		"hostsUpdater": limits("100Mi"),
	}
}

// TestStory is one story: each step begins where the one before it ended.
func TestStory(t *testing.T) {
	t.Parallel()
	machine.Run(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(t, "first")
		w.cloud = w.startCloud()
		before := w.hostsFile()
		for _, step := range []struct {
			name string
			tell func(w *world)
		}{
			{"installed with Helm it runs on the node, within its budget", install},
			{"before it is configured a pod finds no registry", unresolved},
			{"configured, twenty new namespaces run their pods at once", twenty},
			{"a new password reaches the next pull", newPassword},
			{"the cloud issues a credential, replaces it while pods are created, and takes it back", issuedByTheCloud},
			{"service accounts, Deployments, Jobs and CronJobs pull too", workloads},
			{"a pod of hosts-updater that ends leaves its line", endingUpdaters},
			{"who is not selected, or has a wrong password, is told", refusals},
			{"a node that crashed comes back as it was", crash},
			{"pods of new namespaces start while managers are deleted", deletedManagers},
			{"uninstalled, it leaves nothing", func(w *world) { uninstall(w, before) }},
		} {
			started := time.Now()
			done := t.Run(step.name, func(t *testing.T) {
				w.T = t
				step.tell(w)
			})
			t.Logf("%6.1fs: %s", time.Since(started).Seconds(), step.name)
			if !done {
				t.FailNow()
			}
		}
		memory, err := node.PeakMemory()
		require.NoError(t, err)
		t.Logf("%6.1fs in all, with %d MiB of memory at most, files and all", time.Since(began).Seconds(), memory>>20)
	})
}

func install(w *world) {
	// A disabled entry has no line; with none at all there would be no hosts-updater.
	w.helm("install", "tcr-assistant", chart, "--namespace="+manager.Namespace, "--create-namespace", "--wait", "--timeout="+hang.String(),
		"--values="+w.values(w.release("true")))
	w.product(all)
	assert.NotContains(w.T, w.hostsFile(), node.RegistryHost)

	service := w.Kubectl("get", "validatingwebhookconfiguration", "tcr-assistant-validating-webhook-configuration", "-o",
		"jsonpath={.webhooks[*].clientConfig.service.name}{.webhooks[*].clientConfig.url}")
	assert.Equal(w.T, "tcr-assistant-webhook-service", service)
	assert.Empty(w.T, w.Kubectl("get", "mutatingwebhookconfigurations", "-o", "name"), "the API server attaches by itself")
	// Only the webhook knows of two objects at once; a replica that does not lead, a moment after the leader.
	w.Apply(imagePullSecret("one", "left", "registry.example.com", "a"))
	w.Eventually("a second credential is warned of", func() error {
		if said := w.Apply(imagePullSecret("two", "left", "registry.example.com", "b"), "--dry-run=server"); !strings.Contains(said,
			"Warning: ") {
			return fmt.Errorf("kubectl says %q", said)
		}
		return nil
	})
	w.Kubectl("delete", "ipss", "one")
	w.usage()
	for _, pod := range w.product(map[string]int{"controller-manager": 2}) {
		metrics := w.Kubectl("get", "--raw", "/api/v1/namespaces/"+manager.Namespace+"/pods/"+pod.Name+":8080/proxy/metrics")
		assert.Contains(w.T, metrics, "\ngo_gc_gomemlimit_bytes 2.8311552e+07\n", "the runtime knows nine tenths of its container's limit")
	}
}

func imagePullSecret(name, namespaces, server, password string) string {
	return fmt.Sprintf(`apiVersion: tcr.tencentcloudcr.com/v1
kind: ImagePullSecret
metadata: {name: %s}
spec:
  namespaces: %q
  docker: {username: %q, password: %q, server: %s}
`, name, namespaces, user, password, server)
}

// usage logs what the product's containers have used, and holds them to not having been restarted: what exceeds its limit
// is killed.
func (w *world) usage() {
	w.T.Helper()
	for _, pod := range w.product(all) {
		status := pod.Status.ContainerStatuses[0]
		used, err := node.UsageOf(status.ContainerID)
		require.NoError(w.T, err)
		assert.Zero(w.T, status.RestartCount, pod.Name)
		assert.LessOrEqual(w.T, used.MemoryPeak, used.MemoryLimit)
		assert.Contains(w.T, []int64{30 << 20, 100 << 20}, used.MemoryLimit)
		age := time.Since(status.State.Running.StartedAt.Time)
		w.T.Logf("%s: %.1f MiB now, %.1f MiB at most with file cache, of %d MiB; %.0fm CPU over %.0f s", pod.Name,
			float64(used.Memory)/(1<<20), float64(used.MemoryPeak)/(1<<20), used.MemoryLimit>>20, 1000*used.CPU.Seconds()/age.Seconds(),
			age.Seconds())
	}
}

func unresolved(w *world) {
	require.NoError(w.T, w.namespace("before"))
	w.Eventually("the pod is accepted", func() error { return w.pod("before", "app") })
	w.refused("before", "app", "no such host")
}

func twenty(w *world) {
	w.helm("upgrade", "tcr-assistant", chart, "--namespace="+manager.Namespace, "--wait", "--timeout="+hang.String(),
		"--values="+w.values(w.release("false", map[string]any{
			"name": rule, "namespaces": "*", "serviceAccounts": "*", "type": "docker",
			"dockerUsername": user, "dockerPassword": "first", "dockerServer": node.RegistryHost,
		})))
	w.Eventually("the hosts file has the line", func() error {
		if text := w.hostsFile(); !strings.Contains(text, line) {
			return fmt.Errorf("it is %q", text)
		}
		return nil
	})
	// The pod of before may just have been tried again: what containerd, a Go program, has read of the hosts file it holds for 5 s.
	time.Sleep(5 * time.Second)
	w.issued("before", "first")
	w.Lists("before", "default", secret)

	assert.Zero(w.T, w.newNamespaces("new", 20, 0), "pods that needed a second pull")
	w.usage()

	// A CronJob needs up to a minute: this one gets it now, and is looked at later.
	require.NoError(w.T, w.namespace("cron"))
	w.Apply(`{apiVersion: batch/v1, kind: CronJob, metadata: {name: app, namespace: cron}, spec: {schedule: "* * * * *", jobTemplate: {spec: {template: ` + once + `}}}}`)
}

// newNamespaces creates namespaces, pause apart or all at once, each with a pod right behind it. It waits until all run, and
// logs the times that it took. It returns how many needed a second pull.
func (w *world) newNamespaces(prefix string, n int, pause time.Duration) (failed int) {
	w.T.Helper()
	names := make([]string, n)
	var creating sync.WaitGroup
	for i := range n {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
		creating.Go(func() {
			assert.NoError(w.T, w.namespace(names[i]))
			assert.NoError(w.T, w.pod(names[i], "app"))
		})
		time.Sleep(pause)
	}
	creating.Wait()
	var accepted, started []time.Duration
	for _, name := range names {
		w.running(name, "app")
		namespace, err := w.Client.CoreV1().Namespaces().Get(w.Ctx, name, metav1.GetOptions{})
		require.NoError(w.T, err)
		pod, err := w.Client.CoreV1().Pods(name).Get(w.Ctx, "app", metav1.GetOptions{})
		require.NoError(w.T, err)
		assert.Equal(w.T, []corev1.LocalObjectReference{{Name: secret}}, pod.Spec.ImagePullSecrets, "what its account had when it was created")
		events, err := w.Client.CoreV1().Events(name).List(w.Ctx, metav1.ListOptions{FieldSelector: "reason=Failed"})
		require.NoError(w.T, err)
		if len(events.Items) > 0 {
			failed++
		}
		accepted = append(accepted, pod.CreationTimestamp.Sub(namespace.CreationTimestamp.Time))
		started = append(started, pod.Status.ContainerStatuses[0].State.Running.StartedAt.Sub(namespace.CreationTimestamp.Time))
	}
	slices.Sort(accepted)
	slices.Sort(started)
	w.T.Logf("%d new namespaces, by timestamps of whole seconds: pod created %s after its namespace at most, running %s after it in the "+
		"median, %s at most; %d needed a second pull",
		n, accepted[n-1], started[n/2], started[n-1], failed)
	return failed
}

func newPassword(w *world) {
	require.NoError(w.T, w.registry.SetPassword(user, "second"))
	w.Eventually("the registry refuses the old password", func() error { return w.login("first", http.StatusUnauthorized) })
	require.NoError(w.T, w.login("second", http.StatusOK))
	w.Kubectl("patch", "ipss", rule, "--type=merge", "--patch", `{"spec":{"docker":{"password":"second"}}}`)
	w.issued("new-0", "second")
	require.NoError(w.T, w.pod("new-0", "after", pullAlways))
	w.running("new-0", "after")
}

func (w *world) login(password string, want int) error {
	status, err := w.registry.Login(w.Ctx, user, password)
	if err == nil && status != want {
		err = fmt.Errorf("the registry answers %d instead of %d", status, want)
	}
	return err
}

// Pods of the private image, as in the template of a workload.
const (
	lasting = `{metadata: {labels: {app: app}}, spec: {containers: [{name: app, image: "` + image + `", imagePullPolicy: Always}]}}`
	once    = `{metadata: {labels: {app: app}}, spec: {restartPolicy: Never, containers: [{name: app, image: "` + image +
		`", imagePullPolicy: Always, args: [once]}]}}`
)

func workloads(w *world) {
	w.Apply(`{apiVersion: v1, kind: Namespace, metadata: {name: work}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: work}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: app, namespace: work}, spec: {replicas: 2, selector: {matchLabels: {app: app}}, template: ` + lasting + `}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: app, namespace: work}, spec: {template: ` + once + `}}
`)
	require.NoError(w.T, w.pod("work", "robot", pullAlways, func(spec *corev1.PodSpec) { spec.ServiceAccountName = "robot" }))
	w.running("work", "robot")
	w.Kubectl("rollout", "status", "deployment/app", "--namespace=work", "--timeout="+hang.String())
	w.Kubectl("wait", "job/app", "--for=condition=Complete", "--namespace=work", "--timeout="+hang.String())
	w.Eventually("the CronJob has run", func() error {
		cron, err := w.Client.BatchV1().CronJobs("cron").Get(w.Ctx, "app", metav1.GetOptions{})
		if err == nil && cron.Status.LastSuccessfulTime == nil {
			err = fmt.Errorf("its status is %+v", cron.Status)
		}
		return err
	})
	w.Kubectl("delete", "cronjob", "app", "--namespace=cron")
}
