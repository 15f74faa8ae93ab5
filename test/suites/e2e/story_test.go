//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
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
		},
		"image":        map[string]any{"repository": w.built.Repository.Name(), "tag": w.built.TagStr()},
		"manager":      limits("30Mi"),
		"hostsUpdater": limits("100Mi"),
	}
}

// TestStory is one story: each step begins where the one before it ended.
func TestStory(t *testing.T) {
	machine.Run(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(t, "first")
		before := w.hostsFile()
		for _, step := range []struct {
			name string
			tell func(w *world)
		}{
			{"installed with Helm it runs on the node, within its budget", install},
			{"before it is configured a pod finds no registry", unresolved},
			{"configured, twenty new namespaces run their pods at once", twenty},
			{"a new password reaches the next pull", newPassword},
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

	for _, kind := range []string{"mutating", "validating"} {
		service := w.Kubectl("get", kind+"webhookconfiguration", "tcr-assistant-"+kind+"-webhook-configuration", "-o", "jsonpath={.webhooks[*].clientConfig.service.name}{.webhooks[*].clientConfig.url}")
		assert.Equal(w.T, "tcr-assistant-webhook-service", service)
	}
	// Only the webhook knows of two objects at once.
	said := w.Apply(imagePullSecret("one", "left", "registry.example.com", "a") + "---\n" + imagePullSecret("two", "left", "registry.example.com", "b"))
	assert.Contains(w.T, said, "Warning: ")
	w.Kubectl("delete", "ipss", "one", "two")
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
			float64(used.Memory)/(1<<20), float64(used.MemoryPeak)/(1<<20), used.MemoryLimit>>20, 1000*used.CPU.Seconds()/age.Seconds(), age.Seconds())
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
	w.T.Logf("%d new namespaces, by timestamps of whole seconds: pod created %s after its namespace at most, running %s after it in the median, %s at most; %d needed a second pull",
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
	once    = `{metadata: {labels: {app: app}}, spec: {restartPolicy: Never, containers: [{name: app, image: "` + image + `", imagePullPolicy: Always, args: [once]}]}}`
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

// endingUpdaters ends the pod of hosts-updater in each way that leaves its line wanted, and looks at the hosts file all the time.
func endingUpdaters(w *world) {
	watching, stop := context.WithCancel(w.Ctx)
	looks, lacks := 0, 0
	var looking sync.WaitGroup
	looking.Go(func() {
		for watching.Err() == nil {
			text, err := os.ReadFile("/etc/hosts")
			assert.NoError(w.T, err)
			if looks++; !strings.Contains(string(text), line) {
				lacks++
			}
			time.Sleep(time.Millisecond)
		}
	})
	ways := []struct {
		name string
		end  func(pod *corev1.Pod) error
	}{
		{"deleted", func(pod *corev1.Pod) error {
			return w.Client.CoreV1().Pods(pod.Namespace).Delete(w.Ctx, pod.Name, metav1.DeleteOptions{})
		}},
		{"evicted", func(pod *corev1.Pod) error {
			return w.Client.PolicyV1().Evictions(pod.Namespace).Evict(w.Ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
		}},
		{"replaced", func(pod *corev1.Pod) error {
			_, _, err := w.Cluster.Kubectl(w.Ctx, "rollout", "restart", "daemonset/hosts-updater", "--namespace="+pod.Namespace)
			return err
		}},
	}
	for _, way := range ways {
		before := w.product(map[string]int{"hosts-updater": 1})[0]
		require.NoError(w.T, way.end(&before), way.name)
		w.Eventually("another pod runs in place of the one that was "+way.name, func() error {
			if after := w.product(map[string]int{"hosts-updater": 1})[0]; after.UID == before.UID {
				return errors.New("it is still the same")
			}
			return nil
		})
		assert.Equal(w.T, 1, strings.Count(w.hostsFile(), line), way.name)
	}
	stop()
	looking.Wait()
	assert.Greater(w.T, looks, 1000)
	assert.Zero(w.T, lacks, "looks at the hosts file, of %d, in which the line was not there", looks)
}

func refusals(w *world) {
	w.Kubectl("patch", "ipss", rule, "--type=merge", "--patch", `{"spec":{"namespaces":"work"}}`)
	w.Lists("new-1", "default")
	require.NoError(w.T, w.namespace("outside"))
	w.Eventually("the pod is accepted", func() error { return w.pod("outside", "app", pullAlways) })
	// Newer runtimes say "no basic auth credentials" instead.
	w.refused("outside", "app", "401 Unauthorized")
	unknown, err := w.node.Requests("invalid authorization credential")
	require.NoError(w.T, err)
	assert.NotZero(w.T, unknown)
	require.NoError(w.T, w.pod("work", "inside", pullAlways))
	w.running("work", "inside")

	w.Kubectl("patch", "ipss", rule, "--type=merge", "--patch", `{"spec":{"docker":{"password":"wrong"}}}`)
	w.issued("work", "wrong")
	require.NoError(w.T, w.pod("work", "wrong", pullAlways))
	w.refused("work", "wrong", "401 Unauthorized")

	// Put right, nobody has to do anything more.
	w.Kubectl("patch", "ipss", rule, "--type=merge", "--patch", `{"spec":{"namespaces":"*","docker":{"password":"second"}}}`)
	w.issued("work", "second")
	w.running("work", "wrong")
	w.Lists("new-1", "default", secret)
}

func crash(w *world) {
	containers := func() map[string]string {
		pods, err := w.Client.CoreV1().Pods("").List(w.Ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		require.NoError(w.T, err)
		ids := map[string]string{}
		for _, pod := range pods.Items {
			if runs(&pod) == nil {
				ids[pod.Namespace+"/"+pod.Name] = pod.Status.ContainerStatuses[0].ContainerID
			}
		}
		return ids
	}
	before := containers()
	require.NoError(w.T, w.node.Crash())
	require.NoError(w.T, w.node.Boot(w.Ctx))
	w.Eventually("every pod runs again, in a new container", func() error {
		after := containers()
		for pod, was := range before {
			if is := after[pod]; is == "" || is == was {
				return fmt.Errorf("%s: its container is %q, was %q", pod, is, was)
			}
		}
		return nil
	})
	w.product(all)
	assert.Equal(w.T, 1, strings.Count(w.hostsFile(), line))
	w.newNamespaces("after-crash", 1, 0)
}

func deletedManagers(w *world) {
	var deleting sync.WaitGroup
	deleting.Go(func() {
		for range 2 {
			time.Sleep(time.Second)
			_, _, err := w.Cluster.Kubectl(w.Ctx, "delete", "pod", "--namespace="+manager.Namespace, "--selector=app.kubernetes.io/component=controller-manager", "--wait=false")
			assert.NoError(w.T, err)
		}
	})
	w.newNamespaces("load", 20, 200*time.Millisecond)
	deleting.Wait()
	w.product(all)
}

func uninstall(w *world, hosts string) {
	w.helm("uninstall", "tcr-assistant", "--namespace="+manager.Namespace, "--wait", "--timeout="+hang.String())
	w.Eventually("the hosts file is as before the install", func() error {
		if text := w.hostsFile(); text != hosts {
			return fmt.Errorf("it is %q instead of %q", text, hosts)
		}
		return nil
	})
	// Helm deletes neither the namespace nor what is in a chart's folder crds, of which the API server makes an APIService.
	kept := []string{
		"apiservice.apiregistration.k8s.io/v1.tcr.tencentcloudcr.com",
		"customresourcedefinition.apiextensions.k8s.io/derivedattachments.tcr.tencentcloudcr.com",
		"customresourcedefinition.apiextensions.k8s.io/imagepullsecrets.tcr.tencentcloudcr.com",
		"namespace/" + manager.Namespace,
	}
	w.Eventually("nothing is left", func() error {
		if left := w.left(); strings.Join(left, " ") != strings.Join(kept, " ") {
			return fmt.Errorf("there is %q", left)
		}
		return nil
	})
	accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
	for _, account := range accounts.Items {
		assert.Empty(w.T, account.ImagePullSecrets, account.Namespace+"/"+account.Name)
	}
	running, err := w.Client.CoreV1().Pods("new-0").Get(w.Ctx, "app", metav1.GetOptions{})
	require.NoError(w.T, err)
	require.NoError(w.T, runs(running), "what runs goes on running")
}

// left returns every object that the product's names are in, but events, which go by themselves.
func (w *world) left() []string {
	w.T.Helper()
	kinds := strings.Fields(w.Kubectl("api-resources", "--verbs=list", "--output=name"))
	var wanted []string
	for _, kind := range kinds {
		if kind != "events" && kind != "events.events.k8s.io" {
			wanted = append(wanted, kind)
		}
	}
	var list struct {
		Items []struct {
			APIVersion, Kind string
			Metadata         struct{ Namespace, Name string }
		}
	}
	require.NoError(w.T, json.Unmarshal([]byte(w.Kubectl("get", strings.Join(wanted, ","), "--all-namespaces", "--output=json")), &list))
	found := map[string]bool{}
	for _, item := range list.Items {
		for _, name := range []string{"tcr-assistant", "tcr.ips", "tcr.tencentcloudcr.com", "hosts-updater", "updater-config"} {
			if strings.Contains(item.Metadata.Name, name) || item.APIVersion == "tcr.tencentcloudcr.com/v1" {
				group, _, grouped := strings.Cut(item.APIVersion, "/")
				kind := strings.ToLower(item.Kind)
				if grouped {
					kind += "." + group
				}
				found[kind+"/"+item.Metadata.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
