// Package uninstall removes what no owner takes along: ImagePullSecrets, whose Secrets the cluster's garbage collector then
// removes, the entries that ServiceAccounts have of them, and what is derived from them, by which the admission policy would
// attach those entries anew. It works whether or not a manager runs.
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
	// passDelay is the pause between two passes. A replica that has not yet heard of the end of an ImagePullSecret attaches
	// its Secret anew.
	passDelay = 500 * time.Millisecond
	// maxPassDelay bounds the pauses after passes that did not get any further. Each is twice as long as the one before.
	maxPassDelay = 30 * time.Second
	// grantTimeout is how long an account waits until its Secrets may be looked up, maxGrants how many of them are asked for at a
	// time.
	grantTimeout = 15 * time.Second
	maxGrants    = 100
)

// Remover removes what an uninstall would leave behind.
type Remover struct {
	Log              *slog.Logger
	Clients          *clientset.Clientset
	ImagePullSecrets *typed.Client
	Attachments      *typed.DerivedAttachments
	// Grants has Secrets permitted, where a role lists those that may be read; nil where a role grants them without.
	Grants interface {
		Borrow(ctx context.Context, names ...string) error
	}
}

// errRefused says that a Secret may not be read although its name is permitted.
var errRefused = errors.New("it was refused although its name is permitted")

// Run deletes every ImagePullSecret and removes its entry from every ServiceAccount, and returns once a pass over all of
// them finds none left, or with an error when ctx ends first. Entries whose Secret is somebody else's stay.
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
			return errors.Join(fmt.Errorf("removing all that is issued: %w", context.Cause(ctx)), err)
		}
		if pause *= 2; err == nil || removed > 0 {
			pause = passDelay
		}
		pause = min(pause, maxPassDelay)
	}
}

// deleteAll deletes every ImagePullSecret that is not being deleted yet, counts them, and adds the names of all their Secrets
// to ours. One that somebody else's finalizer holds counts as gone, as it does for every replica; held are those of which that
// was logged.
func (r *Remover) deleteAll(ctx context.Context, ours, held map[string]bool) (fresh int, err error) {
	list, err := r.ImagePullSecrets.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil // their kind is gone, and they with it
	}
	if err != nil {
		return 0, fmt.Errorf("listing the image pull secrets: %w", err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		ours[pullsecret.SecretName(object.Name)] = true
		if object.DeletionTimestamp != nil {
			if !held[object.Name] {
				r.Log.Warn("image pull secret is held by finalizers, and goes when they do", "imagePullSecret", object.Name, "finalizers",
					object.Finalizers)
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

// forget deletes what is derived from ImagePullSecrets, and counts what held any. Otherwise the policy would attach an entry
// anew in the write that removes it. A manager that runs makes it anew, and empty.
func (r *Remover) forget(ctx context.Context) (deleted int, err error) {
	list, err := r.Attachments.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil // their kind is gone, and they with it
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

// pass is one look at all ServiceAccounts.
type pass struct {
	*Remover
	ours    map[string]bool // names of the Secrets of ImagePullSecrets that there were
	mu      sync.Mutex
	lookups map[types.NamespacedName]bool // what removable has returned
}

// detachAll edits every ServiceAccount that lists what is ours to remove, and counts them. One that cannot be edited does not keep
// the others from being.
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

// permit has the Secrets behind an account's entries permitted, as far as they can be, and looks them up while they are. What cannot
// be is looked up in vain.
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

// borrow returns once Secrets are permitted.
func (p *pass) borrow(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	return p.Grants.Borrow(ctx, names...)
}

// removable reports whether an entry is ours to remove, by the rule that a running manager keeps too: no Secret that somebody
// else made stands behind it. Where that may not be read, what was never an ImagePullSecret's is left alone; where it was permitted
// just now, the API server is about to hear of that.
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

// patch returns the JSON patch that removes the unwanted entries of an account, as many as one may, if it is still as it was
// seen; nil where there are none.
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
