package reconcile

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// fieldManager is the name under which our writes are recorded in managedFields.
const fieldManager = "tcr-assistant"

// feed passes what a reflector sees on, stripped to what is needed. It keeps nothing, so that no object is held twice, and
// each is stripped before the next one is decoded.
type feed[Object runtime.Object, Stripped any] struct {
	strip   func(Object) Stripped
	put     func(Stripped)
	remove  func(Stripped)
	replace func(all []Stripped, version uint64)
}

var _ cache.TransformingStore = (*feed[*corev1.Secret, int])(nil)

func (f *feed[Object, Stripped]) Add(object any) error    { f.put(f.stripped(object)); return nil }
func (f *feed[Object, Stripped]) Update(object any) error { f.put(f.stripped(object)); return nil }
func (f *feed[Object, Stripped]) Delete(object any) error { f.remove(f.stripped(object)); return nil }
func (f *feed[Object, Stripped]) Resync() error           { return nil }

// Replace takes in a relist: stripped already where it was streamed, whole where it was listed.
func (f *feed[Object, Stripped]) Replace(objects []any, version string) error {
	all := make([]Stripped, len(objects))
	for i, object := range objects {
		all[i] = f.stripped(object)
	}
	f.replace(all, parseVersion(version))
	return nil
}

// Transformer strips the objects of a streamed list while it is being collected.
func (f *feed[Object, Stripped]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return f.stripped(object), nil }
}

func (f *feed[Object, Stripped]) stripped(object any) Stripped {
	if stripped, done := object.(Stripped); done {
		return stripped
	}
	return f.strip(object.(Object))
}

// placed is an object with its namespace.
type placed[T any] struct {
	namespace string
	object    T
}

// observedNamespace is what is needed of a namespace.
type observedNamespace struct {
	name string
	live bool
}

func stripNamespace(namespace *corev1.Namespace) observedNamespace {
	return observedNamespace{
		name: namespace.Name,
		live: namespace.DeletionTimestamp == nil && namespace.Status.Phase != corev1.NamespaceTerminating,
	}
}

func stripSecret(secret *corev1.Secret) placed[Secret] {
	stripped := Secret{
		Name:    intern(secret.Name),
		Version: parseVersion(secret.ResourceVersion),
		Docker:  secret.Type == corev1.SecretTypeDockerConfigJson,
		Managed: pullsecret.Managed(secret.Labels),
		Sum:     sha256.Sum256(secret.Data[corev1.DockerConfigJsonKey]),
		Updated: updated(secret),
		Writer:  writerAfterUs(secret, ""),
	}
	for _, owner := range secret.OwnerReferences {
		if owner.Kind == v1.Kind.Kind && owner.APIVersion == v1.GroupVersion.String() {
			stripped.Owners = append(stripped.Owners, types.UID(intern(string(owner.UID))))
		}
	}
	return placed[Secret]{intern(secret.Namespace), stripped}
}

func stripAccount(account *corev1.ServiceAccount) placed[Account] {
	stripped := Account{
		Name:    intern(account.Name),
		Version: parseVersion(account.ResourceVersion),
		Updated: updated(account),
		Writer:  writerAfterUs(account, `"f:imagePullSecrets"`),
	}
	if len(account.ImagePullSecrets) > 0 {
		stripped.Secrets = make([]string, len(account.ImagePullSecrets))
		for i, reference := range account.ImagePullSecrets {
			stripped.Secrets[i] = intern(reference.Name)
		}
	}
	return placed[Account]{intern(account.Namespace), stripped}
}

// updated returns when we last wrote an object, or when it was created where we never did, in Unix seconds.
func updated(object metav1.Object) int64 {
	latest := object.GetCreationTimestamp().Unix()
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == fieldManager && entry.Time != nil {
			latest = max(latest, entry.Time.Unix())
		}
	}
	return latest
}

// writerAfterUs returns the field manager that last wrote an object, not before our own last write. field, where set, is
// what it must own of it, as managedFields spells it.
func writerAfterUs(object metav1.Object, field string) string {
	writer, latest := "", updated(object)
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == fieldManager || entry.Time == nil || entry.Time.Unix() < latest ||
			field != "" && (entry.FieldsV1 == nil || !strings.Contains(entry.FieldsV1.String(), field)) {
			continue
		}
		writer, latest = intern(entry.Manager), entry.Time.Unix()
	}
	return writer
}

// intern keeps one copy of each name: a cluster repeats the same few in every namespace.
func intern(name string) string { return unique.Make(name).Value() }

// parseVersion reads a resourceVersion; 0 for one that is no number, which then counts as older than all others.
func parseVersion(version string) uint64 {
	number, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

// named selects the one object of that name in each namespace. RBAC can grant a watch that is narrowed like this by
// resourceNames, and the API server sends nothing else.
func named(name string) func(*metav1.ListOptions) {
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	return func(options *metav1.ListOptions) { options.FieldSelector = selector }
}

// everyObject narrows nothing.
func everyObject(*metav1.ListOptions) {}

// logRefusal returns what logs a missing permission: the reflector logs its failures, but not what would mend them.
func logRefusal(log *slog.Logger, resource string) func(verb string, err error) {
	return func(verb string, err error) {
		if apierrors.IsForbidden(err) {
			log.Error("permission is missing", "verb", verb, "resource", resource, "error", err)
		}
	}
}

// listWatch joins a typed client's List and Watch. answered is told of each answer, with a nil error where there is none.
func listWatch[List runtime.Object](
	answered func(verb string, err error), narrow func(*metav1.ListOptions),
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			objects, err := list(ctx, options)
			answered("list", err)
			return objects, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			events, err := stream(ctx, options)
			answered("watch", err)
			return events, err
		},
	}
}

// follow passes what the API server has on to the store until ctx ends. An API server that comes back after an outage is
// noticed within seconds.
func follow(ctx context.Context, name string, source *cache.ListWatch, object runtime.Object, store cache.ReflectorStore) {
	cache.NewReflectorWithOptions(source, object, store, cache.ReflectorOptions{
		Name:    name,
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 5 * time.Second},
	}).RunWithContext(ctx)
}

// byNamespace groups the stripped objects of a relist by namespace.
func byNamespace[T any](all []placed[T]) map[string][]T {
	grouped := map[string][]T{}
	for _, one := range all {
		grouped[one.namespace] = append(grouped[one.namespace], one.object)
	}
	return grouped
}
