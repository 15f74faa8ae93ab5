package v1

// LabelSelector selects by labels. It is written like a label selector of Kubernetes and means the same: every requirement must
// be met. It is a type of its own because its lists are bounded, as the CEL rules of a CRD need them to be.
type LabelSelector struct {
	// MatchLabels are required labels, with their values.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && !key.matches('^[^/]{254}'))",message="must be the key of a label: a name of at most 63 letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit, behind an optional DNS domain and \"/\""
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
	// MatchExpressions are further requirements on labels.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"`
}

// LabelRequirement is a requirement on the label with one key.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || size(self.values) == 0 : has(self.values) && size(self.values) > 0",message="must have values for the operators In and NotIn, and none for Exists and DoesNotExist",fieldPath=".values"
type LabelRequirement struct {
	// Key of the label.
	//
	// +required
	Key LabelKey `json:"key"`
	// Operator is In, NotIn, Exists or DoesNotExist. NotIn also holds if there is no such label.
	//
	// +required
	Operator LabelOperator `json:"operator"`
	// Values for In and NotIn.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Values []LabelValue `json:"values,omitempty"`
}

// LabelKey is the key of a label.
//
// +kubebuilder:validation:MaxLength=317
// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",message="must be the key of a label: a name of at most 63 letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit, behind an optional DNS domain and \"/\""
// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]{254}')",message="must be the key of a label: the DNS domain before \"/\" has at most 253 characters"
type LabelKey string

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",message="must be the value of a label: at most 63 letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit, or nothing"
type LabelValue string

// LabelOperator is how a label is compared.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelOperator string

// The label operators.
const (
	OperatorIn           LabelOperator = "In"
	OperatorNotIn        LabelOperator = "NotIn"
	OperatorExists       LabelOperator = "Exists"
	OperatorDoesNotExist LabelOperator = "DoesNotExist"
)

// NamespaceName is the exact name of a namespace.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be an exact namespace name: at most 63 lower case letters, digits and \"-\", beginning and ending with a letter or digit; patterns are not supported"
type NamespaceName string
