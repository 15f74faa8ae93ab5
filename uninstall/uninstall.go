// Package uninstall removes what goes with no owner: ImagePullSecrets, whose Secrets the cluster's garbage collector then
// removes, and the entries that ServiceAccounts have of them. It works whether or not a manager runs.
package uninstall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/pager"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// fieldManager is the name under which our writes are recorded in managedFields.
	fieldManager = "tcr-assistant-uninstall"
	// concurrency is the number of ServiceAccounts that are written at a time.
	concurrency = 8
	// settle is the pause between two passes. A replica that has not yet heard of the end of an ImagePullSecret attaches
	// its Secret anew.
	settle = 500 * time.Millisecond
)

// Remover removes what an uninstall would leave behind.
type Remover struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
}

// Run deletes every ImagePullSecret and removes its entry from every ServiceAccount, and returns once a pass over all of
// them finds none left, or with an error when ctx ends first. Entries whose Secret is somebody else's stay.
func (r *Remover) Run(ctx context.Context) error {
	ours := map[string]bool{}
	for {
		deleted, err := r.deleteAll(ctx, ours)
		if err != nil {
			return err
		}
		removed, err := r.detachAll(ctx, ours)
		if err == nil && deleted+removed == 0 {
			r.Log.Info("nothing is left to remove", "imagePullSecrets", len(ours))
			return nil
		}
		if err != nil {
			r.Log.Warn("entries were not removed, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("removing all entries from service accounts: %w", context.Cause(ctx)), err)
		case <-time.After(settle):
		}
	}
}

// deleteAll deletes every ImagePullSecret, counts them, and adds the names of their Secrets to ours.
func (r *Remover) deleteAll(ctx context.Context, ours map[string]bool) (deleted int, err error) {
	list, err := r.ImagePullSecrets.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil // their kind is gone, and they with it
	}
	if err != nil {
		return 0, fmt.Errorf("listing the image pull secrets: %w", err)
	}
	for i := range list.Items {
		name := list.Items[i].Name
		ours[pullsecret.SecretName(name)] = true
		if err := r.ImagePullSecrets.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return deleted, fmt.Errorf("deleting image pull secret %s: %w", name, err)
		}
		deleted++
		r.Log.Info("image pull secret was deleted", "imagePullSecret", name)
	}
	return deleted, nil
}

// detachAll edits every ServiceAccount that lists what is ours, and counts them. One that cannot be edited does not keep
// the others from being.
func (r *Remover) detachAll(ctx context.Context, ours map[string]bool) (removed int, err error) {
	var (
		count   atomic.Int64
		mu      sync.Mutex
		errs    []error
		writing sync.WaitGroup
		slots   = make(chan struct{}, concurrency)
	)
	accounts := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return r.Clients.ServiceAccounts(metav1.NamespaceAll).List(ctx, options)
	}))
	err = accounts.EachListItem(ctx, metav1.ListOptions{}, func(object runtime.Object) error {
		account := object.(*corev1.ServiceAccount).DeepCopy()
		slots <- struct{}{}
		writing.Go(func() {
			defer func() { <-slots }()
			edited, err := r.detach(ctx, account, ours)
			if edited {
				count.Add(1)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
		return nil
	})
	writing.Wait()
	if err != nil {
		errs = append(errs, fmt.Errorf("listing the service accounts: %w", err))
	}
	return int(count.Load()), errors.Join(errs...)
}

// detach removes our entries from one ServiceAccount and reports whether there were any.
func (r *Remover) detach(ctx context.Context, account *corev1.ServiceAccount, ours map[string]bool) (edited bool, err error) {
	gone := map[string]bool{}
	for _, entry := range account.ImagePullSecrets {
		if !strings.HasPrefix(entry.Name, pullsecret.SecretPrefix) {
			continue
		}
		if gone[entry.Name], err = r.unowned(ctx, account.Namespace, entry.Name, ours); err != nil {
			return false, err
		}
	}
	body, err := patch(account, func(name string) bool { return gone[name] })
	if body == nil || err != nil {
		return false, err
	}
	_, err = r.Clients.ServiceAccounts(account.Namespace).Patch(ctx, account.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case err == nil:
		r.Log.Info("entries were removed", "namespace", account.Namespace, "serviceAccount", account.Name)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		err = nil // it is gone, or will be seen as it is now
	default:
		err = fmt.Errorf("removing entries from service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return true, err
}

// unowned reports whether an entry of that name is ours to remove: it was an ImagePullSecret's, or no Secret that somebody
// else made stands behind it. One whose Secret may not be read is left alone.
func (r *Remover) unowned(ctx context.Context, namespace, name string, ours map[string]bool) (bool, error) {
	if ours[name] {
		return true, nil
	}
	secret, err := r.Clients.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsForbidden(err):
		r.Log.Warn("entry was left alone: its secret may not be read", "namespace", namespace, "secret", name)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking up secret %s/%s: %w", namespace, name, err)
	}
	return pullsecret.Managed(secret.Labels), nil
}

// patch returns the JSON patch that removes the unwanted entries of an account; nil where there are none. It carries the
// account's resourceVersion: an account that has changed meanwhile is refused with 409 Conflict.
func patch(account *corev1.ServiceAccount, unwanted func(string) bool) ([]byte, error) {
	list := make([]string, len(account.ImagePullSecrets))
	for i, entry := range account.ImagePullSecrets {
		list[i] = entry.Name
	}
	operations, _ := pullsecret.Detach(list, unwanted)
	if len(operations) == 0 {
		return nil, nil
	}
	guard := jsonpatch.Operation{Operation: "replace", Path: "/metadata/resourceVersion", Value: account.ResourceVersion}
	body, err := json.Marshal(append([]jsonpatch.Operation{guard}, operations...))
	if err != nil {
		return nil, fmt.Errorf("encoding the patch of service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return body, nil
}
