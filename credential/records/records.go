// Package records keeps the records of tokens in Secrets of the manager's namespace. A record outlives the object that its tokens were
// issued for, and says what to revoke once that is gone.
//
// The Secrets are few and have fixed names, so that RBAC can name them. Each holds the records of many objects, by UID. Each record has its
// own version, so that changes of different records do not conflict.
package records

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
)

const (
	// secrets is how many Secrets there are: one holds 1 MiB, about 250 records. It must never change, or records would not be found.
	secrets = 8
	// suffix is the suffix of a record's key.
	suffix = ".json"
	// attempts is how often a change is tried while others write the same Secret.
	attempts = 8
)

// Names returns the names of the Secrets.
func Names() []string {
	names := make([]string, secrets)
	for i := range names {
		names[i] = name(uint32(i))
	}
	return names
}

func name(i uint32) string { return fmt.Sprintf("tcr-assistant-tokens-%d", i) }

// nameFor returns the name of the Secret that holds an object's record.
func nameFor(uid string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(uid)) // it never fails
	return name(hash.Sum32() % secrets)
}

// Secrets reads and writes Secrets of one namespace.
type Secrets interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*corev1.Secret, error)
	Patch(
		ctx context.Context, name string, kind types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string,
	) (*corev1.Secret, error)
	Update(ctx context.Context, secret *corev1.Secret, options metav1.UpdateOptions) (*corev1.Secret, error)
	Delete(ctx context.Context, name string, options metav1.DeleteOptions) error
}

// Store keeps records. It caches nothing: what it returns was just read.
type Store struct{ secrets Secrets }

var _ issuer.Records = Store{}

// New returns a store in the namespace of a client.
func New(secrets Secrets) Store { return Store{secrets} }

// Load returns the record of an object and its version; both are zero if there is none.
func (s Store) Load(ctx context.Context, uid string) (rotation.Record, string, error) {
	secret, err := s.get(ctx, nameFor(uid))
	if err != nil || secret == nil {
		return rotation.Record{}, "", err
	}
	data, found := secret.Data[uid+suffix]
	if !found {
		return rotation.Record{}, "", nil
	}
	record, err := read(secret.Name, uid+suffix, data)
	return record, version(data), err
}

// read decodes the record under a key.
func read(secret, key string, data []byte) (rotation.Record, error) {
	record, err := rotation.Decode(data)
	if err == nil && record.UID+suffix != key {
		err = errors.New("it is of another object")
	}
	if err != nil {
		return rotation.Record{}, fmt.Errorf("reading %s of secret %s: %w: restore it, or remove that key, so that a new token is created",
			strings.TrimSuffix(key, suffix), secret, err)
	}
	return record, nil
}

// All returns every record. If some cannot be decoded, it returns the others along with an error.
func (s Store) All(ctx context.Context) ([]rotation.Record, error) {
	var all []rotation.Record
	var wrong error
	for _, name := range Names() {
		secret, err := s.get(ctx, name)
		if err != nil {
			return nil, err
		}
		if secret == nil {
			continue
		}
		for key, data := range secret.Data {
			record, err := read(name, key, data)
			if err != nil {
				wrong = errors.Join(wrong, err)
				continue
			}
			all = append(all, record)
		}
	}
	return all, wrong
}

// Store replaces that version of a record, or returns issuer.ErrConflict.
func (s Store) Store(ctx context.Context, record rotation.Record, version string) error {
	return s.change(ctx, record.UID, version, func(data map[string][]byte) { data[record.UID+suffix] = rotation.Encode(record) })
}

// Forget removes a record if it still has that version, or returns issuer.ErrConflict. A Secret is deleted with its last record.
func (s Store) Forget(ctx context.Context, uid, version string) error {
	return s.change(ctx, uid, version, func(data map[string][]byte) { delete(data, uid+suffix) })
}

// version returns the version of a record: a hash of its content. No content ever recurs, since a record counts its tokens.
func version(data []byte) string {
	if data == nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// change changes the data of the Secret that holds an object's record, as long as the record has the expected version.
func (s Store) change(ctx context.Context, uid, expected string, change func(map[string][]byte)) error {
	name := nameFor(uid)
	for range attempts {
		secret, err := s.get(ctx, name)
		if err != nil {
			return err
		}
		if secret == nil {
			secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}
		}
		if version(secret.Data[uid+suffix]) != expected {
			return issuer.ErrConflict
		}
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		change(secret.Data)
		if secret.ResourceVersion == "" && len(secret.Data) > 0 {
			if err := s.begin(ctx, name); err != nil {
				return fmt.Errorf("storing %s in secret %s: %w", uid, name, err)
			}
			continue // now there is one, perhaps with something in it
		}
		err = s.write(ctx, secret)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) && !clientset.Gone(err) {
			return fmt.Errorf("storing %s in secret %s: %w", uid, name, err)
		}
	}
	return fmt.Errorf("storing %s in secret %s: it was changed by others %d times in a row", uid, name, attempts)
}

// begin creates a Secret without records. It applies it instead of posting it: RBAC can restrict an apply to a name.
func (s Store) begin(ctx context.Context, name string) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": corev1.SecretTypeOpaque,
		"metadata": map[string]any{"name": name, "labels": v1.ManagedLabels()},
	})
	if err != nil {
		return err
	}
	_, err = s.secrets.Patch(ctx, name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: v1.FieldManager, Force: new(true)})
	return err
}

// write updates a Secret, if it is still at the version that was read.
func (s Store) write(ctx context.Context, secret *corev1.Secret) error {
	switch {
	case secret.ResourceVersion == "":
		return nil // there is no Secret, and nothing to write
	case len(secret.Data) == 0:
		return s.secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion},
		})
	default:
		_, err := s.secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: v1.FieldManager})
		return err
	}
}

// get returns a Secret; nil if it does not exist.
func (s Store) get(ctx context.Context, name string) (*corev1.Secret, error) {
	secret, err := s.secrets.Get(ctx, name, metav1.GetOptions{})
	if clientset.Gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading secret %s: %w", name, err)
	}
	return secret, nil
}
