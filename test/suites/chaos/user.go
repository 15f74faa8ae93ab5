package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
)

// patience is how long the user tries one step again. Nothing stands between the user and the API server.
const patience = 30 * time.Second

// user does what a script says. Each step has been done when it returns.
type user struct {
	client   kubernetes.Interface
	objects  *typed.Client
	replicas *replicas
}

// persist tries until do succeeds or says that it never will.
func persist(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for last := error(nil); ; {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unlessGone returns an error unless it says that there is nothing of that name.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (u *user) createNamespace(ctx context.Context, name string) error {
	return persist(ctx, func(ctx context.Context) error { // the one before it may still be ending
		_, err := u.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	})
}

func (u *user) deleteNamespace(ctx context.Context, name string) error {
	return persist(ctx, func(ctx context.Context) error {
		return unlessGone(u.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

func references(names []string) []corev1.LocalObjectReference {
	var references []corev1.LocalObjectReference
	for _, name := range names {
		references = append(references, corev1.LocalObjectReference{Name: name})
	}
	return references
}

func (u *user) createAccount(ctx context.Context, namespace, name string, entries []string) error {
	return persist(ctx, func(ctx context.Context) error {
		_, err := u.client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Name: name}, ImagePullSecrets: references(entries),
		}, metav1.CreateOptions{})
		return err
	})
}

func (u *user) deleteAccount(ctx context.Context, namespace, name string) error {
	return persist(ctx, func(ctx context.Context) error {
		return unlessGone(u.client.CoreV1().ServiceAccounts(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

// editAccount replaces the entries of an account that are not ours, or all of them. The default account of a new namespace may
// not be there yet.
func (u *user) editAccount(ctx context.Context, namespace, name string, entries []string, keepOurs bool) error {
	accounts := u.client.CoreV1().ServiceAccounts(namespace)
	return persist(ctx, func(ctx context.Context) error {
		account, err := accounts.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		next := references(entries)
		for _, entry := range account.ImagePullSecrets {
			if keepOurs && ours(entry.Name) {
				next = append(next, entry)
			}
		}
		account.ImagePullSecrets = next
		_, err = accounts.Update(ctx, account, metav1.UpdateOptions{})
		return err
	})
}

// ours reports whether an entry bears a name that an ImagePullSecret of the user's gives.
func ours(entry string) bool {
	name, found := strings.CutPrefix(entry, prefix)
	return found && slices.Contains(objectNames, name)
}

func (u *user) writeForeign(ctx context.Context, namespace, name, content string) error {
	secrets := u.client.CoreV1().Secrets(namespace)
	return persist(ctx, func(ctx context.Context) error {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"content": []byte(content)}}
		_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
		}
		return err
	})
}

func (u *user) deleteSecret(ctx context.Context, namespace, name string) error {
	return persist(ctx, func(ctx context.Context) error {
		return unlessGone(u.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

func (u *user) deleteIssued(ctx context.Context, namespace, name string, whatever bool) error {
	if whatever {
		return u.deleteSecret(ctx, namespace, name)
	}
	return persist(ctx, func(ctx context.Context) error {
		secret, err := u.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil || !marked(secret) {
			return unlessGone(err)
		}
		return unlessGone(u.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion},
		}))
	})
}

// alertness is how long the user lies in wait for what the manager does.
const alertness = 400 * time.Millisecond

// lurk returns once there is what the user waits for, or not for too long.
func lurk(ctx context.Context, there func(context.Context) bool) {
	for end := time.Now().Add(alertness); !there(ctx) && time.Now().Before(end); {
		pause(ctx, 2*time.Millisecond)
	}
}

func (u *user) ambushSecret(ctx context.Context, namespace, name string) error {
	if err := u.deleteIssued(ctx, namespace, name, false); err != nil {
		return err
	}
	lurk(ctx, func(ctx context.Context) bool {
		_, err := u.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil
	})
	return u.deleteIssued(ctx, namespace, name, false)
}

func (u *user) ambushAccount(ctx context.Context, namespace, name string) error {
	if err := u.editAccount(ctx, namespace, name, nil, false); err != nil {
		return err
	}
	lurk(ctx, func(ctx context.Context) bool {
		account, err := u.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
		return err != nil || slices.ContainsFunc(entriesOf(*account), ours)
	})
	return u.deleteAccount(ctx, namespace, name)
}

// patchSecret changes a Secret that was issued. One that is not there, or not ours, or immutable, is left alone.
func (u *user) patchSecret(ctx context.Context, namespace, name, patch string) error {
	return persist(ctx, func(ctx context.Context) error {
		secret, err := u.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil || !marked(secret) || secret.Immutable != nil {
			return unlessGone(err)
		}
		change := map[string]any{}
		if err := json.Unmarshal([]byte(patch), &change); err != nil {
			return err
		}
		metadata, _ := change["metadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{}
		}
		metadata["resourceVersion"], change["metadata"] = secret.ResourceVersion, metadata // it is the one that was looked at
		merged, err := json.Marshal(change)
		if err != nil {
			return err
		}
		_, err = u.client.CoreV1().Secrets(namespace).Patch(ctx, name, types.MergePatchType, merged, metav1.PatchOptions{})
		return unlessGone(err)
	})
}

// squat puts a Secret that is not ours in the place of one that may be.
func (u *user) squat(ctx context.Context, namespace, name string, docker bool) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"content": []byte("squatted")}}
	if docker {
		secret.Type, secret.Data = corev1.SecretTypeDockerConfigJson, map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)}
	}
	return persist(ctx, func(ctx context.Context) error {
		if err := u.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{}); unlessGone(err) != nil {
			return err
		}
		_, err := u.client.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // it was issued anew at once: the manager was faster
		}
		return err
	})
}

func (u *user) createObject(ctx context.Context, name string, spec v1.ImagePullSecretSpec) error {
	return persist(ctx, func(ctx context.Context) error {
		_, err := u.objects.Create(ctx, &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		return err
	})
}

func (u *user) deleteObject(ctx context.Context, name string) error {
	return persist(ctx, func(ctx context.Context) error {
		return unlessGone(u.objects.Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

func (u *user) editObject(ctx context.Context, name string, edit func(*v1.ImagePullSecretSpec)) error {
	return persist(ctx, func(ctx context.Context) error {
		object, err := u.objects.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(&object.Spec)
		_, err = u.objects.Update(ctx, object, metav1.UpdateOptions{})
		return err
	})
}
