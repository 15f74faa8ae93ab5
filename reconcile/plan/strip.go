package plan

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Namespaced is an object with its namespace.
type Namespaced[T any] struct {
	Namespace string
	Object    T
}

// NamespaceMeta is the part of a namespace that reconciliation needs.
type NamespaceMeta struct {
	Name string
	UID  types.UID
	Live bool
	// OptOut is what its opt-out label says.
	OptOut pullsecret.OptOut
}

// StripNamespace returns the part of a namespace that reconciliation needs.
func StripNamespace(namespace *corev1.Namespace) NamespaceMeta {
	return NamespaceMeta{
		Name:   namespace.Name,
		UID:    namespace.UID,
		Live:   namespace.DeletionTimestamp == nil && namespace.Status.Phase != corev1.NamespaceTerminating,
		OptOut: pullsecret.OptOutOf(namespace.Labels),
	}
}

// StripSecret returns the part of a Secret that reconciliation needs. Its data is kept as a checksum only.
func StripSecret(secret *corev1.Secret) Namespaced[Secret] {
	stripped := Secret{
		Name:    intern(secret.Name),
		Version: latest.Version(secret.ResourceVersion),
		Docker:  secret.Type == corev1.SecretTypeDockerConfigJson,
		Managed: v1.Managed(secret.Labels),
		Sum:     sha256.Sum256(secret.Data[corev1.DockerConfigJsonKey]),
		Updated: updated(secret),
		Writer:  writerAfterUs(secret, ""),
	}
	stripped.Immutable = secret.Immutable != nil && *secret.Immutable
	for _, owner := range pullsecret.Owners(secret) {
		stripped.Owners = append(stripped.Owners, types.UID(intern(string(owner))))
	}
	return Namespaced[Secret]{intern(secret.Namespace), stripped}
}

// StripAccount returns the part of a ServiceAccount that reconciliation needs.
func StripAccount(account *corev1.ServiceAccount) Namespaced[Account] {
	stripped := Account{
		Name:    intern(account.Name),
		Version: latest.Version(account.ResourceVersion),
		Updated: updated(account),
		Writer:  writerAfterUs(account, `"f:imagePullSecrets"`),
		OptOut:  pullsecret.OptOutOf(account.Labels),
	}
	// This is how the ServiceAccount admission plugin reads it: a value that it cannot parse is false.
	stripped.Enforces, _ = strconv.ParseBool(account.Annotations[enforcesMountableSecrets])
	if len(account.ImagePullSecrets) > 0 {
		stripped.Secrets = make([]string, len(account.ImagePullSecrets))
		for i, reference := range account.ImagePullSecrets {
			stripped.Secrets[i] = intern(reference.Name)
		}
	}
	return Namespaced[Account]{intern(account.Namespace), stripped}
}

// enforcesMountableSecrets is the annotation that restricts pods of an account to the Secrets that the account lists.
const enforcesMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// updated returns when we last wrote an object, or when it was created where we never did, in Unix seconds.
func updated(object metav1.Object) int64 {
	latest := object.GetCreationTimestamp().Unix()
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == v1.FieldManager && entry.Time != nil {
			latest = max(latest, entry.Time.Unix())
		}
	}
	return latest
}

// writerAfterUs returns the field manager that last wrote an object, not before our own last write. field, where set, is a field that it
// must own, as managedFields spells it.
func writerAfterUs(object metav1.Object, field string) string {
	writer, latest := "", updated(object)
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == v1.FieldManager || entry.Time == nil || entry.Time.Unix() < latest ||
			field != "" && (entry.FieldsV1 == nil || !strings.Contains(entry.FieldsV1.String(), field)) {
			continue
		}
		writer, latest = intern(entry.Manager), entry.Time.Unix()
	}
	return writer
}

// intern keeps one copy of each name: the same few names are repeated in every namespace.
func intern(name string) string { return unique.Make(name).Value() }

// BarringPods returns, by namespace, the names of the accounts for which BarsPods is true.
func BarringPods(all []Namespaced[Account]) map[string][]string {
	barring := map[string][]string{}
	for _, account := range all {
		if account.Object.BarsPods() {
			barring[account.Namespace] = append(barring[account.Namespace], account.Object.Name)
		}
	}
	return barring
}

// ByNamespace groups the stripped objects of a relist by namespace.
func ByNamespace[T any](all []Namespaced[T]) map[string][]T {
	grouped := map[string][]T{}
	for _, one := range all {
		grouped[one.Namespace] = append(grouped[one.Namespace], one.Object)
	}
	return grouped
}
