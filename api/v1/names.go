package v1

const (
	// FieldManager is the name under which what the manager writes is recorded in managedFields.
	FieldManager = "tcr-assistant"
	// ManagedByLabel is the key of the mark on the Secrets that the manager makes.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the mark's value.
	ManagedByValue = "tcr-assistant"
)
