package gather

import (
	"cmp"
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

// The names of the product's objects.
const (
	managerName       = "tcr-assistant-controller-manager"
	leaseName         = "tcr-assistant-leader-election"
	webhookName       = "tcr-assistant-mutating-webhook-configuration"
	policyName        = "tcr-assistant-attach-image-pull-secrets"
	updaterName       = "hosts-updater"
	updaterConfig     = "updater-config"
	updaterDiscovered = "updater-config-discovered"
	updaterPodsAre    = "app.kubernetes.io/name=tcr-assistant,app.kubernetes.io/component=hosts-updater"
)

// manager reads the state of the manager. It also returns what of it could not be read.
func (c *Cluster) manager(ctx context.Context) (diagnose.Manager, []diagnose.Unseen) {
	var manager diagnose.Manager
	var hidden unseen
	deployment, err := get[appsv1.Deployment](ctx, c, deployments, c.product, managerName)
	switch {
	case err == nil:
		manager.Found, manager.Available, manager.Replicas = true, deployment.Status.AvailableReplicas, 1
		if deployment.Spec.Replicas != nil {
			manager.Replicas = *deployment.Spec.Replicas
		}
	case !apierrors.IsNotFound(err):
		hidden.note(diagnose.PartDeployment, err)
	}
	lease, err := get[coordinationv1.Lease](ctx, c, leases, c.product, leaseName)
	if err != nil && !apierrors.IsNotFound(err) {
		hidden.note(diagnose.PartManager, err)
	}
	manager.LeaseUntil = until(lease)
	manager.Attaches = c.attaches(ctx, &hidden)
	return manager, hidden
}

// attaches reports whether accounts are born with their entries. The policy does not matter where the webhook is registered.
func (c *Cluster) attaches(ctx context.Context, hidden *unseen) bool {
	for _, way := range []struct {
		kind schema.GroupVersionResource
		name string
	}{{webhooks, webhookName}, {policies, policyName}} {
		switch _, err := get[metav1.PartialObjectMetadata](ctx, c, way.kind, "", way.name); {
		case err == nil:
			return true
		case !apierrors.IsNotFound(err): // so is a kind that an older API server does not know
			hidden.note(diagnose.PartAttachment, err)
		}
	}
	return false
}

// until returns when the Lease of its holder expires.
func until(lease *coordinationv1.Lease) time.Time {
	if lease == nil || lease.Spec.RenewTime == nil {
		return time.Time{}
	}
	seconds := int32(0)
	if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" && lease.Spec.LeaseDurationSeconds != nil {
		seconds = *lease.Spec.LeaseDurationSeconds
	}
	return lease.Spec.RenewTime.Add(time.Duration(seconds) * time.Second).UTC()
}

// hosts is what hosts-updater should maintain, and on which nodes it runs.
type hosts struct {
	configured []diagnose.HostsLine
	namespace  string // of hosts-updater; blank if it is not installed
	nodes      map[string]updater
}

// updater is a pod of hosts-updater.
type updater struct {
	state diagnose.UpdaterState
	name  string
	port  int32 // of its metrics and lines
}

// on returns what is known about a node.
func (h hosts) on(node string) diagnose.Node {
	if node == "" || h.namespace == "" {
		return diagnose.Node{}
	}
	return diagnose.Node{Namespace: h.namespace, Configured: h.configured, Updater: cmp.Or(h.nodes[node].state, diagnose.UpdaterMissing)}
}

func (c *Cluster) hosts(ctx context.Context) (hosts, error) {
	config, err := c.updaterConfig(ctx)
	if config == nil || err != nil {
		return hosts{}, err
	}
	parsed, err := hostsd.ParseConfig([]byte(config.Data[hostsd.ConfigFile]))
	if err != nil {
		return hosts{}, fmt.Errorf("reading the config map %s/%s: %w", config.Namespace, updaterConfig, err)
	}
	discovered, err := c.discovered(ctx, config.Namespace)
	if err != nil {
		return hosts{}, err
	}
	parsed, _ = parsed.With(discovered)
	found := hosts{namespace: config.Namespace, nodes: map[string]updater{}}
	for _, entry := range parsed.Entries {
		found.configured = append(found.configured, diagnose.HostsLine{Domain: entry.Domain(), IP: entry.Addr().String()})
	}
	updaters, err := list[corev1.Pod](ctx, c, pods, config.Namespace, metav1.ListOptions{LabelSelector: updaterPodsAre})
	if err != nil {
		return hosts{}, err
	}
	for _, pod := range updaters {
		if pod.Spec.NodeName == "" {
			continue
		}
		if found.nodes[pod.Spec.NodeName].state != diagnose.UpdaterReady {
			found.nodes[pod.Spec.NodeName] = updater{state: stateOf(&pod), name: pod.Name, port: portOf(&pod)}
		}
	}
	return found, nil
}

// discovered returns what the manager has found for hosts-updater, in a namespace whose ConfigMaps the caller may read. What
// hosts-updater could not parse is ignored.
func (c *Cluster) discovered(ctx context.Context, namespace string) (hostsd.Config, error) {
	read := func() (*corev1.ConfigMap, error) { return c.listedConfig(ctx, namespace, updaterDiscovered) }
	if namespace == c.product {
		read = func() (*corev1.ConfigMap, error) {
			return get[corev1.ConfigMap](ctx, c, configMaps, namespace, updaterDiscovered)
		}
	}
	found, err := read()
	switch {
	case apierrors.IsNotFound(err), err == nil && found == nil:
		return hostsd.Config{}, nil
	case err != nil:
		return hostsd.Config{}, err
	}
	config, err := hostsd.ParseDiscovered([]byte(found.Data[hostsd.ConfigFile]))
	if err != nil {
		return hostsd.Config{}, nil
	}
	return config, nil
}

// updaterConfig returns the ConfigMap of hosts-updater; nil if it is not installed. It may be in another namespace than the manager.
func (c *Cluster) updaterConfig(ctx context.Context) (*corev1.ConfigMap, error) {
	config, err := get[corev1.ConfigMap](ctx, c, configMaps, c.product, updaterConfig)
	if !apierrors.IsNotFound(err) {
		return config, err
	}
	return c.listedConfig(ctx, "", updaterConfig)
}

// listedConfig returns the ConfigMap with a name in a namespace, blank for any; nil if there is none.
func (c *Cluster) listedConfig(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	found, err := list[corev1.ConfigMap](ctx, c, configMaps, namespace, metav1.ListOptions{FieldSelector: selector})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func stateOf(pod *corev1.Pod) diagnose.UpdaterState {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return diagnose.UpdaterReady
		}
	}
	return diagnose.UpdaterNotReady
}

// portOf returns the port on which a pod of hosts-updater serves metrics and lines.
func portOf(pod *corev1.Pod) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == "metrics" {
				return port.ContainerPort
			}
		}
	}
	return 8080
}
