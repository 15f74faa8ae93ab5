//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

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
			return w.Client.PolicyV1().Evictions(pod.Namespace).Evict(w.Ctx,
				&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
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
			_, _, err := w.Cluster.Kubectl(w.Ctx, "delete", "pod", "--namespace="+manager.Namespace,
				"--selector=app.kubernetes.io/component=controller-manager", "--wait=false")
			assert.NoError(w.T, err)
		}
	})
	w.newNamespaces("load", 20, 200*time.Millisecond)
	deleting.Wait()
	w.product(all)
}
