package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// writer makes changes, and tells the state at once what each has led to.
type writer struct {
	clients *clientset.Clientset
	state   *State
	// applyOnly is set once a POST of a Secret was refused: RBAC can grant the creation of Secrets of certain names, but
	// only to server-side apply, whose request names its object.
	applyOnly atomic.Bool
}

// errGone says that the object, or its namespace, went away before it could be changed, and needs nothing more.
var errGone = errors.New("it is gone")

// write makes one change. It fails with errGone where that is no longer needed.
func (w *writer) write(ctx context.Context, change Change) error {
	var err error
	switch change := change.(type) {
	case IssueSecret:
		err = w.issue(ctx, change)
	case DeleteSecret:
		err = w.delete(ctx, change)
	case EditAccount:
		err = w.edit(ctx, change)
	}
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return errGone
	}
	return err
}

// issue creates a Secret by POST, which costs the API server a fifth less than an apply, and applies where one is there
// already or where POST is not allowed.
func (w *writer) issue(ctx context.Context, change IssueSecret) error {
	if !change.Exists && !w.applyOnly.Load() {
		secret, err := w.clients.Secrets(change.Namespace).Create(ctx, change.Rule.NewSecret(), metav1.CreateOptions{FieldManager: fieldManager})
		switch {
		case err == nil:
			w.putSecret(change.Namespace, secret)
			return nil
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return err
		case apierrors.IsAlreadyExists(err):
			// It stands where none was seen: what it is decides, and its watch is about to tell.
			return apierrors.NewConflict(corev1.Resource("secrets"), change.Rule.Secret, err)
		case apierrors.IsForbidden(err):
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
	force := true // a Secret of our name and type is ours, whoever wrote it before
	secret, err := w.clients.Secrets(namespace).Patch(ctx, rule.Secret, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	if err != nil {
		return err
	}
	w.putSecret(namespace, secret)
	return nil
}

// putSecret takes in what we have just written.
func (w *writer) putSecret(namespace string, secret *corev1.Secret) {
	stripped := stripSecret(secret).object
	stripped.Updated = time.Now().Unix()
	w.state.PutSecret(namespace, stripped)
}

func (w *writer) delete(ctx context.Context, change DeleteSecret) error {
	version := strconv.FormatUint(change.Version, 10)
	err := w.clients.Secrets(change.Namespace).Delete(ctx, change.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{ResourceVersion: &version},
	})
	if err == nil || apierrors.IsNotFound(err) {
		w.state.RemoveSecret(change.Namespace, change.Name, change.Version)
	}
	return err
}

// edit patches a ServiceAccount behind a replacement of its resourceVersion by the one it was planned from: one that has
// changed since then is refused with 409 Conflict. (A "test" of it would be refused with 422, as any bad patch is.)
func (w *writer) edit(ctx context.Context, change EditAccount) error {
	guard := jsonpatch.Operation{Operation: "replace", Path: "/metadata/resourceVersion", Value: strconv.FormatUint(change.Version, 10)}
	body, err := json.Marshal(append([]jsonpatch.Operation{guard}, change.Patch...))
	if err != nil {
		return fmt.Errorf("encoding the patch of service account %s/%s: %w", change.Namespace, change.Name, err)
	}
	account, err := w.clients.ServiceAccounts(change.Namespace).Patch(ctx, change.Name, types.JSONPatchType, body,
		metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return err
	}
	stripped := stripAccount(account).object
	stripped.Updated = time.Now().Unix()
	w.state.PutAccount(change.Namespace, stripped)
	return nil
}

// problemsOf returns what a failed write means to those whose rules asked for it. A conflict is none: it is retried at once.
func problemsOf(change Change, err error) []Problem {
	if err == nil || apierrors.IsConflict(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	reason := string(apierrors.ReasonForError(err))
	if reason == "" {
		reason = "WriteFailed"
	}
	problems := concerned(change)
	for i := range problems {
		problems[i].Reason, problems[i].Message = reason, remedy(err)
	}
	return problems
}

// concerned returns a problem, yet to be described, for each ImagePullSecret that a change is made for.
func concerned(change Change) []Problem {
	problem := func(secret, object string) Problem {
		return Problem{
			ImagePullSecret: strings.TrimPrefix(secret, pullsecret.SecretPrefix),
			Failure:         v1.Failure{NamespacedName: object},
		}
	}
	var problems []Problem
	switch change := change.(type) {
	case IssueSecret:
		problems = append(problems, problem(change.Rule.Secret, change.Namespace+"/"+change.Rule.Secret))
	case DeleteSecret:
		problems = append(problems, problem(change.Name, change.Namespace+"/"+change.Name))
	case EditAccount:
		for _, secret := range change.Secrets {
			problems = append(problems, problem(secret, change.Namespace+"/"+change.Name))
		}
	}
	return problems
}
