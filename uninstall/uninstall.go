// Package uninstall removes what is not garbage-collected with an owner: ImagePullSecrets, whose Secrets the cluster then
// garbage-collects, their entries in ServiceAccounts, and the DerivedAttachments, because of which the admission policy would attach
// those entries again. It works whether or not a manager runs.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/pager"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// fieldManager is the name under which our writes are recorded in managedFields.
	fieldManager = v1.FieldManager + "-uninstall"
	// concurrency is the number of ServiceAccounts that are written at a time.
	concurrency = 8
	// passDelay is the pause between two passes: a replica that does not know yet that an ImagePullSecret was deleted attaches its Secret
	// again.
	passDelay = 500 * time.Millisecond
	// maxPassDelay limits the pauses after passes without progress. Each pause is twice as long as the one before.
	maxPassDelay = 30 * time.Second
	// grantTimeout is how long an account waits until its Secrets may be looked up, maxGrants how many permissions are requested at a time.
	grantTimeout = 15 * time.Second
	maxGrants    = 100
)

// Remover removes what an uninstall would leave behind.
type Remover struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
	Attachments      *typed.DerivedAttachments
	// Grants obtains permission for Secrets by name, where a role lists those that may be read; nil where a role already grants it for all
	// Secrets.
	Grants interface {
		Borrow(ctx context.Context, names ...string) error
	}
}

// errRefused means that a Secret may not be read although its name is permitted.
var errRefused = errors.New("it was refused although its name is permitted")

// Run deletes every ImagePullSecret and removes its entries from all ServiceAccounts. It returns once a pass over all of them finds
// nothing left, or with an error when ctx ends first. Entries whose Secret is somebody else's stay.
func (r *Remover) Run(ctx context.Context) error {
	ours, held := map[string]bool{}, map[string]bool{}
	for pause := passDelay; ; {
		fresh, err := r.deleteAll(ctx, ours, held)
		if apierrors.IsForbidden(err) {
			return err
		}
		outdated, forgetting := r.forget(ctx)
		if apierrors.IsForbidden(forgetting) {
			return forgetting
		}
		removed, detaching := r.detachAll(ctx, ours)
		err = errors.Join(err, forgetting, detaching)
		if err == nil && fresh+outdated+removed == 0 {
			r.Log.Info("nothing is left to remove", "imagePullSecrets", len(ours))
			return nil
		}
		if err != nil {
			r.Log.Warn("not everything was removed, trying again", "after", pause, "error", err)
		}
		if backoff.Sleep(ctx, pause); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("removing everything that was issued: %w", context.Cause(ctx)), err)
		}
		if pause *= 2; err == nil || removed > 0 {
			pause = passDelay
		}
		pause = min(pause, maxPassDelay)
	}
}

// deleteAll deletes every ImagePullSecret that is not being deleted yet, returns their number, and adds the names of the Secrets of all
// ImagePullSecrets to ours. One that is held by somebody else's finalizer counts as gone, as it does for every replica; held are those
// for which that was logged.
func (r *Remover) deleteAll(ctx context.Context, ours, held map[string]bool) (fresh int, err error) {
	list, err := r.ImagePullSecrets.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil // the CRD is gone, and all objects with it
	}
	if err != nil {
		return 0, fmt.Errorf("listing the image pull secrets: %w", err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		ours[pullsecret.SecretName(object.Name)] = true
		if object.DeletionTimestamp != nil {
			if !held[object.Name] {
				r.Log.Warn("image pull secret is held by finalizers, and goes once they are removed", "imagePullSecret", object.Name,
					"finalizers", object.Finalizers)
			}
			held[object.Name] = true
			continue
		}
		if err := r.ImagePullSecrets.Delete(ctx, object.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fresh, fmt.Errorf("deleting image pull secret %s: %w", object.Name, err)
		}
		fresh++
		r.Log.Info("image pull secret was deleted", "imagePullSecret", object.Name)
	}
	return fresh, nil
}

// forget deletes the DerivedAttachments that have rules, and returns their number. Otherwise the policy would attach an entry again in
// the very write that removes it. A running manager creates them again, without rules.
func (r *Remover) forget(ctx context.Context) (deleted int, err error) {
	list, err := r.Attachments.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil // the CRD is gone, and all objects with it
	}
	if err != nil {
		return 0, fmt.Errorf("listing the derived attachments: %w", err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		if len(object.Spec.Rules) == 0 {
			continue
		}
		if err := r.Attachments.Delete(ctx, object.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return deleted, fmt.Errorf("deleting derived attachments %s: %w", object.Name, err)
		}
		deleted++
	}
	return deleted, nil
}

// pass is one pass over all ServiceAccounts.
type pass struct {
	*Remover
	ours    map[string]bool // names of the Secrets of all ImagePullSecrets that were seen
	mu      sync.Mutex
	lookups map[types.NamespacedName]bool // what removable has returned
}

// detachAll edits every ServiceAccount that lists entries of ours, and returns their number. One that cannot be edited does not keep the
// others from being edited.
func (r *Remover) detachAll(ctx context.Context, ours map[string]bool) (removed int, err error) {
	var (
		pass    = &pass{Remover: r, ours: ours, lookups: map[types.NamespacedName]bool{}}
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
			edited, err := pass.detach(ctx, account)
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
	if count.Load() > 0 {
		r.Log.Info("entries were removed", "serviceAccounts", count.Load())
	}
	return int(count.Load()), errors.Join(errs...)
}

// detach removes our entries from one ServiceAccount and reports whether there were any.
func (p *pass) detach(ctx context.Context, account *corev1.ServiceAccount) (edited bool, err error) {
	gone := map[string]bool{}
	if err := p.permit(ctx, account); err != nil {
		return false, err
	}
	for _, entry := range account.ImagePullSecrets {
		if gone[entry.Name], err = p.removable(ctx, account.Namespace, entry.Name, false); err != nil {
			return false, err
		}
	}
	body, err := patch(account, func(name string) bool { return gone[name] })
	if body == nil || err != nil {
		return false, err
	}
	_, err = p.Clients.ServiceAccounts(account.Namespace).Patch(ctx, account.Name, types.JSONPatchType, body,
		metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case err == nil:
		p.Log.Debug("entries were removed", "namespace", account.Namespace, "serviceAccount", account.Name)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		err = nil // it is gone, or the next pass sees it as it is now
	default:
		err = fmt.Errorf("removing entries from service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return true, err
}

// permit obtains permission for the Secrets behind an account's entries, where it can, and looks them up while they are permitted. The
// look-up of any other Secret is refused later.
func (p *pass) permit(ctx context.Context, account *corev1.ServiceAccount) error {
	if p.Grants == nil {
		return nil
	}
	var names []string
	p.mu.Lock()
	for _, entry := range account.ImagePullSecrets {
		_, looked := p.lookups[types.NamespacedName{Namespace: account.Namespace, Name: entry.Name}]
		if !looked && pullsecret.Removable(entry.Name, false, false) && !clientset.Unnameable(entry.Name) {
			names = append(names, entry.Name)
		}
	}
	p.mu.Unlock()
	for some := range slices.Chunk(names, maxGrants) {
		if err := p.borrow(ctx, some); err != nil {
			p.Log.Warn("secrets were not permitted to be read", "namespace", account.Namespace, "serviceAccount", account.Name, "error", err)
			return nil
		}
		for _, name := range some {
			if _, err := p.removable(ctx, account.Namespace, name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// borrow returns once the Secrets of these names are permitted.
func (p *pass) borrow(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	return p.Grants.Borrow(ctx, names...)
}

// removable reports whether an entry is ours to remove, by the same rule as a running manager: the Secret behind it must not be somebody
// else's. Where the Secret may not be read, a name that belonged to no ImagePullSecret is left alone. Where it has just been permitted, a
// refusal is an error, since the API server is about to learn of the permission.
func (p *pass) removable(ctx context.Context, namespace, name string, permitted bool) (bool, error) {
	if !pullsecret.Removable(name, false, false) {
		return false, nil
	}
	at := types.NamespacedName{Namespace: namespace, Name: name}
	p.mu.Lock()
	known, found := p.lookups[at]
	p.mu.Unlock()
	if found {
		return known, nil
	}
	secret, allowed, err := p.Clients.FindSecret(ctx, namespace, name)
	switch {
	case err != nil:
		return false, fmt.Errorf("looking up secret %s/%s: %w", namespace, name, err)
	case !allowed && permitted:
		return false, fmt.Errorf("looking up secret %s/%s: %w", namespace, name, errRefused)
	case !allowed && !p.ours[name]:
		p.Log.Warn("entry was left alone: its secret may not be read", "namespace", namespace, "secret", name)
	case !allowed || secret == nil:
		known = true
	default:
		known = pullsecret.Removable(name, true, pullsecret.Ours(v1.Managed(secret.Labels), len(pullsecret.Owners(secret)) > 0, p.ours[name]))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookups[at] = known
	return known, nil
}

// patch returns the JSON patch that removes the unwanted entries of an account, as many as one patch may, provided the account is still
// as it was seen; nil where there are none.
func patch(account *corev1.ServiceAccount, unwanted func(string) bool) ([]byte, error) {
	list := make([]string, len(account.ImagePullSecrets))
	for i, entry := range account.ImagePullSecrets {
		list[i] = entry.Name
	}
	operations, _, _ := pullsecret.Detach(list, unwanted)
	if len(operations) == 0 {
		return nil, nil
	}
	body, err := pullsecret.Guarded(account.ResourceVersion, operations)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch of service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return body, nil
}
