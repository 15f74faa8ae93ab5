package gather

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

// Overview is the state of the product.
type Overview struct {
	Objects []v1.ImagePullSecret
	// Referred are the Secrets that they refer to.
	Referred credential.Seen
	Manager  diagnose.Manager
	Hosts    Hosts
	Unseen   []diagnose.Unseen
}

// Hosts is the state of hosts-updater.
type Hosts struct {
	Installed bool                 `json:"installed"`
	Lines     []diagnose.HostsLine `json:"lines,omitempty"`
	// Nodes is on how many nodes it should run, Ready on how many it is ready.
	Nodes int32 `json:"nodes"`
	Ready int32 `json:"ready"`
}

// Overview reads the state of the product. It returns an error if the ImagePullSecrets, or the one with that name, cannot be read.
func (c *Cluster) Overview(ctx context.Context, name string) (Overview, error) {
	var found Overview
	var hidden unseen
	var err error
	if name == "" {
		found.Objects, err = c.Objects(ctx)
	} else {
		var object *v1.ImagePullSecret
		if object, err = c.Object(ctx, name); err == nil {
			found.Objects = []v1.ImagePullSecret{*object}
		}
	}
	if err != nil {
		return found, err
	}
	found.Referred, hidden = c.Referred(ctx, found.Objects...)
	manager, more := c.manager(ctx)
	found.Manager, hidden = manager, append(hidden, more...)
	config, err := c.hosts(ctx)
	if err != nil {
		hidden.note(diagnose.PartNode, err)
	}
	found.Hosts = Hosts{Installed: config.namespace != "", Lines: config.configured}
	if config.namespace != "" {
		set, err := get[appsv1.DaemonSet](ctx, c, daemonSets, config.namespace, updaterName)
		switch {
		case err == nil:
			found.Hosts.Nodes, found.Hosts.Ready = set.Status.DesiredNumberScheduled, set.Status.NumberReady
		case !apierrors.IsNotFound(err):
			hidden.note(diagnose.PartNode, err)
		}
	}
	found.Unseen = hidden
	return found, stopped(ctx)
}

// Names returns the names of the objects of a kind, for completion; none if they cannot be read.
func (c *Cluster) Names(ctx context.Context, kind, namespace string) (names []string) {
	known := map[string]schema.GroupVersionResource{"imagepullsecrets": imagePullSecrets, "pods": pods, "namespaces": namespaces}
	found, err := list[metav1.PartialObjectMetadata](ctx, c, known[kind], namespace, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	for _, object := range found {
		names = append(names, object.Name)
	}
	slices.Sort(names)
	return names
}
