package main

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// The floor is the cheapest way to make the manager's writes: bodies encoded once, answers not decoded, no watch, no state.
// Its Secrets and its entries bear other names.

// target is a namespace and the ServiceAccounts in it.
type target struct {
	namespace string
	accounts  []corev1.ServiceAccount
}

// targets returns every namespace. The one with the most ServiceAccounts comes first, so that it is not what all wait for.
func (w *world) targets(ctx context.Context) ([]target, error) {
	accounts, err := w.client.CoreV1().ServiceAccounts("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var all []target
	for _, account := range accounts.Items {
		if last := len(all) - 1; last < 0 || all[last].namespace != account.Namespace {
			all = append(all, target{namespace: account.Namespace})
		}
		last := &all[len(all)-1]
		last.accounts = append(last.accounts, account)
	}
	slices.SortStableFunc(all, func(a, b target) int { return len(b.accounts) - len(a.accounts) })
	return all, nil
}

// floorSecret returns the like of what the manager writes, with an owner that exists: the garbage collector would delete it
// otherwise.
func (w *world) floorSecret(name string, generation int) *corev1.Secret {
	rule := pullsecret.Rule{Name: name, UID: w.owner.UID, Secret: name, Config: pullsecret.Render(credential(generation))}
	secret := rule.NewSecret()
	secret.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: w.owner.Name, UID: w.owner.UID}}
	return secret
}

// bareIssue creates a Secret in each namespace and its entry in each ServiceAccount, and returns what that took.
func (w *world) bareIssue(ctx context.Context, name string) (cost, error) {
	targets, err := w.targets(ctx)
	if err != nil {
		return cost{}, err
	}
	name = w.prefix + name
	body, err := protobuf(w.floorSecret(name, 0))
	if err != nil {
		return cost{}, err
	}
	issue := func(t target) error {
		if err := w.barePost(ctx, t.namespace, body); err != nil {
			return err
		}
		for _, account := range t.accounts {
			if err := w.barePatch(ctx, account, name); err != nil {
				return err
			}
		}
		return nil
	}
	return costOf(func() error { return in(targets, issue) })
}

func protobuf(object runtime.Object) ([]byte, error) {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	return runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), object)
}

func (w *world) barePost(ctx context.Context, namespace string, body []byte) error {
	return w.peer.Post().Namespace(namespace).Resource("secrets").
		SetHeader("Content-Type", runtime.ContentTypeProtobuf).Body(body).Do(ctx).Error()
}

func (w *world) barePatch(ctx context.Context, account corev1.ServiceAccount, secret string) error {
	entry := corev1.LocalObjectReference{Name: secret}
	patch := []map[string]any{{"op": "add", "path": "/imagePullSecrets/-", "value": entry}}
	if len(account.ImagePullSecrets) == 0 {
		patch = []map[string]any{{"op": "add", "path": "/imagePullSecrets", "value": []any{entry}}}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return w.peer.Patch(types.JSONPatchType).Namespace(account.Namespace).Resource("serviceaccounts").
		Name(account.Name).Body(body).Do(ctx).Error()
}

// bareApply applies that Secret with another credential in each namespace, and returns what that took.
func (w *world) bareApply(ctx context.Context, name string, generation int) (cost, error) {
	targets, err := w.targets(ctx)
	if err != nil {
		return cost{}, err
	}
	name = w.prefix + name
	body, err := json.Marshal(w.floorSecret(name, generation))
	if err != nil {
		return cost{}, err
	}
	options := &metav1.PatchOptions{FieldManager: "floor", Force: new(true)}
	apply := func(t target) error {
		return w.peer.Patch(types.ApplyPatchType).Namespace(t.namespace).Resource("secrets").Name(name).
			VersionedParams(options, scheme.ParameterCodec).Body(body).Do(ctx).Error()
	}
	return costOf(func() error { return in(targets, apply) })
}

// credential returns one with a password about as long as a registry's.
func credential(generation int) v1.DockerCredential {
	return v1.DockerCredential{Username: "100012345678", Password: token(generation), Server: "example.tencentcloudcr.com"}
}
