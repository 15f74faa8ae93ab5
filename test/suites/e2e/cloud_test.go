//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/node"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const (
	clouded        = "clouded" // an ImagePullSecret of which the cloud knows the credential and the address
	cloudImage     = node.GuardedHost + "/docker/app:1"
	registryID     = "tcr-cloud001"
	registryRegion = "ap-guangzhou"
	vpc            = "vpc-0000node"
)

// cloud is one that the node is a machine of, with a registry on the node's network that takes its tokens. Its API is reached through a
// proxy alone.
type cloud struct {
	*tencentcloud.Cloud
	proxy    *tencentcloud.Proxy
	registry *node.GuardedRegistry
}

func (w *world) startCloud() *cloud {
	w.T.Helper()
	started, err := tencentcloud.Start(tencentcloud.Options{Host: node.Address})
	require.NoError(w.T, err)
	w.T.Cleanup(func() { assert.NoError(w.T, started.Close()) })
	started.AddRegistry(tencentcloud.Registry{ID: registryID, Region: registryRegion, Domain: node.GuardedHost})
	started.SetLinks(registryID, tencentcloud.Link{VPC: vpc, Status: "Running", Address: node.GuardedAddress})
	started.BindNodeRole("worker", tencentcloud.Everything)
	proxy, err := started.StartProxy()
	require.NoError(w.T, err)
	registry, err := w.node.StartGuardedRegistry(w.Ctx, w.registry, func(inside http.Handler) http.Handler {
		return started.Guard(registryID, inside)
	})
	require.NoError(w.T, err)
	return &cloud{started, proxy, registry}
}

// values are what is installed for it.
func (c *cloud) values() map[string]any {
	return map[string]any{
		"httpsProxy": c.proxy.URL(), "ca": string(c.Authority()), "metadataEndpoint": c.MetadataURL(), "clusterId": "cls-abcdefgh",
	}
}

// ofCloud is an ImagePullSecret with nothing but what the cloud has to know.
func ofCloud(name string) string {
	return fmt.Sprintf(`apiVersion: tcr.tencentcloudcr.com/v1
kind: ImagePullSecret
metadata: {name: %s}
spec: {tcr: {registryId: %s, region: %s, privateNetwork: {vpcId: %s}}}
`, name, registryID, registryRegion, vpc)
}

// ofTheCloud has a pod's image pulled from the cloud's registry, even where it is on the node.
func ofTheCloud(spec *corev1.PodSpec) {
	spec.Containers[0].Image = cloudImage
	pullAlways(spec)
}

// fromTheCloud creates an ImagePullSecret of the cloud, and waits until it is Ready and the registry's domains lead to its address.
func (w *world) fromTheCloud() {
	w.T.Helper()
	began := time.Now()
	w.Apply(ofCloud(clouded))
	w.Kubectl("wait", "ipss/"+clouded, "--for=condition=Ready", "--timeout="+hang.String())
	w.T.Logf("Ready %.1fs after kubectl apply", time.Since(began).Seconds())
	w.Kubectl("wait", "ipss/"+clouded, "--for=condition=PrivateNetworkReady", "--timeout="+hang.String())
	w.Eventually("the hosts file has lines for the cloud's registry", func() error {
		for _, domain := range []string{node.GuardedHost, strings.Replace(node.GuardedHost, ".", "-vpc.", 1)} {
			if text := w.hostsFile(); strings.Count(text, node.GuardedAddress+" "+domain+" #") != 1 {
				return fmt.Errorf("it is %q", text)
			}
		}
		return nil
	})
	w.T.Logf("in the hosts file %.1fs after kubectl apply", time.Since(began).Seconds())
}

// issuedByTheCloud has the cloud issue a credential, replace it while pods are created, and take it back.
func issuedByTheCloud(w *world) {
	assert.NotContains(w.T, w.hostsFile(), node.GuardedHost)
	w.fromTheCloud()
	first := w.cloud.Tokens(registryID)
	require.Len(w.T, first, 1)
	assert.Contains(w.T, first[0].Description, "TKE cluster (cls-abcdefgh) dedicated access credential, ImagePullSecret "+clouded)
	assert.NotZero(w.T, w.cloud.Count(nodeRolePath+"worker"), "the manager calls as the node")
	for _, asked := range w.cloud.proxy.Asked() {
		assert.Equal(w.T, "tcr.tencentcloudapi.com:443", asked, "nothing but the cloud is asked through the proxy")
	}

	w.runsInNewNamespace("clouded-0")
	w.rotate(first[0])

	held := w.held("clouded-0", "tcr.ips"+clouded, node.GuardedHost)
	require.NoError(w.T, w.cloud.registry.Pull(w.Ctx, "docker/app:1", held.Username, held.Password))
	w.Kubectl("delete", "ipss", clouded)
	w.Eventually("the registry refuses the token of what was deleted", func() error {
		if err := w.cloud.registry.Pull(w.Ctx, "docker/app:1", held.Username, held.Password); err == nil {
			return errors.New("it takes it")
		} else if !strings.Contains(err.Error(), "UNAUTHORIZED") {
			return err
		}
		return nil
	})
	w.Eventually("the cloud has none of its tokens any more", func() error {
		if left := w.cloud.Tokens(registryID); len(left) > 0 {
			return fmt.Errorf("there are %d", len(left))
		}
		return nil
	})
	w.Lists("clouded-0", "default", secret)
	w.Eventually("the hosts file has no line for its registry any more", func() error {
		if text := w.hostsFile(); strings.Contains(text, node.GuardedAddress) {
			return fmt.Errorf("it is %q", text)
		}
		return nil
	})
	w.Kubectl("delete", "namespace", "clouded-0", "--timeout="+hang.String()) // its pod could not be pulled anew
}

// nodeRolePath is where the metadata service has the key of the node's role.
const nodeRolePath = "/latest/meta-data/cam/security-credentials/"

// runsInNewNamespace creates a namespace, and right behind it a pod that pulls from the cloud's registry. It waits until that runs.
func (w *world) runsInNewNamespace(name string) {
	w.T.Helper()
	require.NoError(w.T, w.namespace(name))
	w.Eventually("the pod is accepted", func() error { return w.pod(name, "app", ofTheCloud) })
	w.running(name, "app")
}

// rotate has the first token replaced every minute, and creates a namespace with a pod again and again until that token is deleted: none
// of the pods fails to pull.
func (w *world) rotate(first tencentcloud.Token) {
	w.T.Helper()
	w.Kubectl("patch", "ipss", clouded, "--type=merge", "--patch", `{"spec":{"tcr":{"rotateAfter":"1m"}}}`)
	var deleted atomic.Bool
	var created, failed atomic.Int32
	var creating sync.WaitGroup
	for worker := range 3 {
		creating.Go(func() {
			for i := 0; !deleted.Load() && !w.T.Failed(); i++ {
				name := fmt.Sprintf("rotated-%d-%d", worker, i)
				created.Add(1)
				if err := w.pulls(name); err != nil {
					failed.Add(1)
					assert.NoError(w.T, err, name)
				}
			}
		})
	}
	defer creating.Wait()
	defer deleted.Store(true)
	w.Eventually("the first token is deleted", func() error {
		tokens := w.cloud.Tokens(registryID)
		if slices.ContainsFunc(tokens, func(token tencentcloud.Token) bool { return token.ID == first.ID }) {
			return fmt.Errorf("it is one of %d", len(tokens))
		}
		return nil
	})
	deleted.Store(true)
	creating.Wait()
	assert.Zero(w.T, failed.Load())
	w.T.Logf("%d pods of new namespaces were created while tokens were replaced, disabled and deleted", created.Load())
}

// pulls creates a namespace with a pod, waits until that runs, and deletes both. It returns an error where the registry refused a
// credential. A pull without one is the kubelet's: the API server may refuse it the Secret of a pod of which its node authorizer has not
// heard yet, the kubelet pulls without it after a second, and says so in an event.
func (w *world) pulls(name string) error {
	if err := w.namespace(name); err != nil {
		return err
	}
	deadline := time.Now().Add(hang)
	for accepted := false; ; time.Sleep(100 * time.Millisecond) {
		var err error
		if !accepted {
			err = w.pod(name, "app", ofTheCloud)
			accepted = err == nil
		}
		var pod *corev1.Pod
		if accepted {
			if pod, err = w.Client.CoreV1().Pods(name).Get(w.Ctx, "app", metav1.GetOptions{}); err == nil {
				err = runs(pod)
			}
		}
		if err == nil && accepted {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not run: %w", err)
		}
	}
	events, err := w.Client.CoreV1().Events(name).List(w.Ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	withoutSecret := slices.ContainsFunc(events.Items, func(event corev1.Event) bool {
		return event.Reason == "FailedToRetrieveImagePullSecret"
	})
	for _, event := range events.Items {
		refused := event.Reason == "Failed" && strings.HasPrefix(event.Message, "Failed to pull image")
		if anonymous := withoutSecret && strings.Contains(event.Message, "failed to fetch anonymous token"); refused && !anonymous {
			return fmt.Errorf("it needed a second pull: %s", event.Message)
		}
	}
	return w.Client.CoreV1().Namespaces().Delete(w.Ctx, name, metav1.DeleteOptions{})
}

// credential is what a Secret holds for a server.
type credential struct{ Username, Password string }

func (w *world) held(namespace, name, server string) credential {
	w.T.Helper()
	object, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, name, metav1.GetOptions{})
	require.NoError(w.T, err)
	var config struct{ Auths map[string]credential }
	require.NoError(w.T, json.Unmarshal(object.Data[corev1.DockerConfigJsonKey], &config))
	require.Contains(w.T, config.Auths, server)
	return config.Auths[server]
}
