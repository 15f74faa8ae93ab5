package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// writer makes changes, and updates the state at once with the result of each.
type writer struct {
	clients *clientset.Clientset
	state   *plan.State
	grants  Grants
	// applyOnly is set once the permission to POST Secrets was found missing: RBAC can grant the creation of Secrets of certain names, but
	// only by server-side apply, whose request names its object.
	applyOnly atomic.Bool
	// timeout limits each change: a request that is never answered must not block a worker.
	timeout time.Duration
}

// changeTimeout is how long a change may take. The API server waits for a webhook for 30 s at most.
const changeTimeout = 35 * time.Second

// errGone means that the object, or its namespace, was deleted before it could be changed, and needs nothing more.
var errGone = errors.New("it is gone")

// write makes one change. It fails with errGone where the change is no longer needed, and with a plan.UndoneError where it had no effect.
func (w *writer) write(ctx context.Context, change plan.Change) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var err error
	switch change := change.(type) {
	case plan.IssueSecret:
		err = granted(ctx, w.grants, change.Rule.Secret, func() error {
			if change.Replaces != nil {
				return w.replace(ctx, change)
			}
			return w.issue(ctx, change)
		})
	case plan.DeleteSecret:
		err = granted(ctx, w.grants, change.Name, func() error { return w.delete(ctx, change) })
	case plan.EditAccount:
		err = w.edit(ctx, change)
	}
	if clientset.Gone(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return errGone
	}
	return err
}

// issue creates a Secret by POST, which costs the API server a fifth less than an apply. It applies where the Secret exists already, or
// where POST is not allowed.
func (w *writer) issue(ctx context.Context, change plan.IssueSecret) error {
	if !change.Exists && !w.applyOnly.Load() {
		secret, err := w.clients.Secrets(change.Namespace).Create(ctx, change.Rule.NewSecret(),
			metav1.CreateOptions{FieldManager: v1.FieldManager})
		switch {
		case err == nil:
			return w.putSecret(change.Namespace, secret, change.Rule)
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return err
		case apierrors.IsAlreadyExists(err):
			// It exists although none was seen: what to do depends on what it is, and its watch is about to show that.
			return apierrors.NewConflict(corev1.Resource("secrets"), change.Rule.Secret, err)
		case plan.MissingVerb(err) == "create":
			w.applyOnly.Store(true)
		default:
			return err
		}
	}
	return w.apply(ctx, change.Namespace, change.Rule)
}

func (w *writer) apply(ctx context.Context, namespace string, rule *pullsecret.Rule) error {
	body, err := json.Marshal(rule.NewSecret())
	if err != nil {
		return fmt.Errorf("encoding secret %s: %w", rule.Secret, err)
	}
	// Force: a Secret of our name and type is ours, whoever wrote it before.
	options := metav1.PatchOptions{FieldManager: v1.FieldManager, Force: new(true)}
	secret, err := w.clients.Secrets(namespace).Patch(ctx, rule.Secret, types.ApplyPatchType, body, options)
	if err != nil {
		return err
	}
	return w.putSecret(namespace, secret, rule)
}

// putSecret records what we have just written, and returns an UndoneError where it is not what the rule wants.
func (w *writer) putSecret(namespace string, secret *corev1.Secret, rule *pullsecret.Rule) error {
	stripped := plan.StripSecret(secret).Object
	stripped.Updated = time.Now().Unix()
	w.state.PutSecret(namespace, stripped)
	if !plan.Current(stripped, rule) {
		return &plan.UndoneError{}
	}
	return nil
}

// replace deletes an immutable Secret and issues a new one in its place. It is the last resort: kubelets remember a credential by its
// Secret's UID. A Secret without our label is given it first, since only a Secret with our label is ever deleted.
func (w *writer) replace(ctx context.Context, change plan.IssueSecret) error {
	secrets, version := w.clients.Secrets(change.Namespace), strconv.FormatUint(change.Replaces.Version, 10)
	if !change.Replaces.Managed {
		mark := fmt.Sprintf(`{"metadata":{"resourceVersion":%q,"labels":{%q:%q}}}`, version, v1.ManagedByLabel, v1.ManagedByValue)
		marked, err := secrets.Patch(ctx, change.Rule.Secret, types.MergePatchType, []byte(mark),
			metav1.PatchOptions{FieldManager: v1.FieldManager})
		if err != nil {
			return err
		}
		version = marked.ResourceVersion
	}
	err := secrets.Delete(ctx, change.Rule.Secret, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
	if err != nil && !clientset.Gone(err) {
		return err
	}
	issued := w.issue(ctx, plan.IssueSecret{Namespace: change.Namespace, Rule: change.Rule})
	if !apierrors.IsConflict(issued) && !apierrors.IsInvalid(issued) {
		return issued
	}
	if there, err := secrets.Get(ctx, change.Rule.Secret, metav1.GetOptions{}); err == nil && there.DeletionTimestamp != nil {
		return &plan.HeldError{Finalizers: there.Finalizers}
	}
	return issued
}

func (w *writer) delete(ctx context.Context, change plan.DeleteSecret) error {
	version := strconv.FormatUint(change.Version, 10)
	err := w.clients.Secrets(change.Namespace).Delete(ctx, change.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{ResourceVersion: &version},
	})
	if err == nil || apierrors.IsNotFound(err) {
		w.state.RemoveSecret(change.Namespace, change.Name, change.Version)
	}
	return err
}

// edit patches a ServiceAccount, if it is still at the version that the patch was planned from.
func (w *writer) edit(ctx context.Context, change plan.EditAccount) error {
	body, err := pullsecret.Guarded(strconv.FormatUint(change.Version, 10), change.Patch)
	if err != nil {
		return fmt.Errorf("encoding the patch of service account %s/%s: %w", change.Namespace, change.Name, err)
	}
	account, err := w.clients.ServiceAccounts(change.Namespace).Patch(ctx, change.Name, types.JSONPatchType, body,
		metav1.PatchOptions{FieldManager: v1.FieldManager})
	if err != nil {
		if clientset.Gone(err) { // its watch may have reported that before a late answer brought the account back into the state
			w.state.RemoveAccount(change.Namespace, change.Name, change.Version)
		}
		return err
	}
	stripped := plan.StripAccount(account).Object
	stripped.Updated = time.Now().Unix()
	w.state.PutAccount(change.Namespace, stripped)
	if !change.TookEffect(stripped.Secrets) {
		return &plan.UndoneError{}
	}
	return nil
}
