package v1

const (
	// FieldManager is the manager's name in managedFields.
	FieldManager = "tcr-assistant"
	// ManagedByLabel is the key of the label that marks what the manager creates.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the value of that label.
	ManagedByValue = "tcr-assistant"
	// ExpiresAtAnnotation is the key of the annotation with which a Secret that an ImagePullSecret refers to says when its credential
	// expires, as an RFC 3339 time.
	ExpiresAtAnnotation = "tcr.tencentcloudcr.com/expires-at"
	// ServesPodsLabel is the key of the label of DerivedAttachments that give Secrets to pods that list pull secrets of their own. The
	// admission policy for pods takes only those as its parameters: if there are none, it costs a pod next to nothing.
	ServesPodsLabel = "tcr.tencentcloudcr.com/serves-pods"
	// ServesPodsValue is the value of that label.
	ServesPodsValue = "true"
	// OptOutLabel is the key of the label with which the owner of a Namespace or a ServiceAccount keeps it out, whatever
	// ImagePullSecrets select.
	OptOutLabel = "tcr.tencentcloudcr.com/opt-out"
	// OptOutValue is the value that keeps it out.
	OptOutValue = "true"
	// OptInValue means the same as no label. So does any other value, but then an event reports it.
	OptInValue = "false"
)

// ManagedLabels returns the labels of what the manager creates.
func ManagedLabels() map[string]string { return map[string]string{ManagedByLabel: ManagedByValue} }

// Managed reports whether an object with these labels is marked as created by the manager. Only Secrets with that mark are ever deleted.
func Managed(labels map[string]string) bool { return labels[ManagedByLabel] == ManagedByValue }
