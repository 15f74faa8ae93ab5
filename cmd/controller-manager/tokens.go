package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/credential/tokens"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile"
)

// cloud asks the registry's cloud for tokens.
type cloud struct {
	clients   *clientset.Clientset
	namespace string
	clusterID string
	api       *tencentcloud.Client
	ambient   *tencentcloud.Caller // the identity of this process itself
	store     records.Store
	issuer    *issuer.Issuer // of this term

	mu sync.Mutex // guards issuer
}

// newCloud returns a cloud as the flags configure it. It makes no request.
func newCloud(client *clientset.Clientset, o *options) (*cloud, error) {
	api, err := tencentcloud.New(o.cloud)
	if err != nil {
		return nil, err
	}
	return &cloud{
		clients: client, namespace: o.namespace, clusterID: o.clusterID, api: api, ambient: api.AmbientCaller(os.Getenv),
		store: records.New(client.Secrets(o.namespace)),
	}, nil
}

// keeper returns a Keeper of tokens for a term of leadership.
func (c *cloud) keeper(
	log *slog.Logger, imagePullSecrets *typed.Client, index *pullsecret.Index, controller *reconcile.Controller,
) *tokens.Keeper {
	c.mu.Lock()
	c.issuer = nil // its listings are of an earlier term, and another replica may have created tokens since
	c.mu.Unlock()
	return tokens.NewKeeper(tokens.Config{
		Log: log, Index: index, Sync: c.sync, Records: c.store.All, Issued: controller.Issued, Now: time.Now,
		Live: func(ctx context.Context, name string) (types.UID, error) { return live(ctx, imagePullSecrets, name) },
	})
}

// live asks the API server for the UID of an ImagePullSecret; blank if there is none, or it is being deleted.
func live(ctx context.Context, imagePullSecrets *typed.Client, name string) (types.UID, error) {
	list, err := imagePullSecrets.List(ctx, named(name))
	if err != nil {
		return "", fmt.Errorf("looking up image pull secret %s: %w", name, err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			return list.Items[i].UID, nil
		}
	}
	return "", nil
}

// sync brings the tokens of one ImagePullSecret in line.
func (c *cloud) sync(
	ctx context.Context, uid string, policy *rotation.Policy, held func(rotation.Record) int,
) (issuer.Outcome, error) {
	made, err := c.identified(ctx)
	if err != nil {
		return issuer.Outcome{}, err
	}
	return made.Sync(ctx, uid, policy, held)
}

// identified returns the issuer. It is created once it is known which cluster this is.
func (c *cloud) identified(ctx context.Context) (*issuer.Issuer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issuer != nil {
		return c.issuer, nil
	}
	namespaces, err := c.clients.Namespaces().List(ctx, named(metav1.NamespaceSystem))
	if err != nil {
		return nil, fmt.Errorf("looking up namespace %s, whose UID tells clusters apart: %w", metav1.NamespaceSystem, err)
	}
	if len(namespaces.Items) == 0 {
		return nil, fmt.Errorf("looking up namespace %s, whose UID tells clusters apart: it was not found", metav1.NamespaceSystem)
	}
	c.issuer = &issuer.Issuer{
		Cluster: rotation.Cluster{ID: c.clusterID, UID: string(namespaces.Items[0].UID)},
		Records: c.store, Now: time.Now,
		Registry: func(place rotation.Place) (issuer.Registry, error) { return c.registry(place) },
	}
	return c.issuer, nil
}

// keysTimeout is how long it may take to read a Secret with keys.
const keysTimeout = 10 * time.Second

// registry returns the registry of a place, with the keys that the place names.
func (c *cloud) registry(place rotation.Place) (*tencentcloud.Registry, error) {
	if place.Key == "" {
		return c.api.Registry(c.ambient, place.Region, place.ID), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	list, err := c.clients.Secrets(c.namespace).List(ctx, named(place.Key))
	if err != nil {
		return nil, fmt.Errorf("looking up secret %s/%s: %w", c.namespace, place.Key, err)
	}
	var keys corev1.Secret // empty if there is none: the Caller reports that
	if len(list.Items) > 0 {
		keys = list.Items[0]
	}
	caller := c.api.GivenCaller(string(keys.Data["secretId"]), string(keys.Data["secretKey"]), "Secret "+c.namespace+"/"+place.Key)
	return c.api.Registry(caller, place.Region, place.ID), nil
}

// named returns list options that select the object of that name.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
}
