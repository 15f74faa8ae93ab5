package v1

const (
	// FieldManager is the name under which what the manager writes is recorded in managedFields.
	FieldManager = "tcr-assistant"
	// ManagedByLabel is the key of the mark on what the manager makes.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the mark's value.
	ManagedByValue = "tcr-assistant"
	// ExpiresAtAnnotation is the key of the annotation by which a Secret that an ImagePullSecret refers to says when the credential in
	// it ends, as RFC 3339 writes times.
	ExpiresAtAnnotation = "tcr.tencentcloudcr.com/expires-at"
	// ServesPodsLabel is the key of the label of DerivedAttachments that give Secrets to pods which list pull secrets of their own. The
	// admission policy for pods takes those alone for its parameters: without any, it costs a pod next to nothing.
	ServesPodsLabel = "tcr.tencentcloudcr.com/serves-pods"
	// ServesPodsValue is the value with which they do.
	ServesPodsValue = "true"
	// OptOutLabel is the key of the label by which whoever owns a Namespace or a ServiceAccount keeps it out, whatever
	// ImagePullSecrets select.
	OptOutLabel = "tcr.tencentcloudcr.com/opt-out"
	// OptOutValue is the value with which it does.
	OptOutValue = "true"
	// OptInValue is as if there were no such label, and so is, with an event that tells of it, every other value.
	OptInValue = "false"
)

// ManagedLabels returns the labels of what the manager makes.
func ManagedLabels() map[string]string { return map[string]string{ManagedByLabel: ManagedByValue} }

// Managed reports whether an object with these labels bears the mark of what the manager makes. Only Secrets that bear it are ever
// deleted.
func Managed(labels map[string]string) bool { return labels[ManagedByLabel] == ManagedByValue }
