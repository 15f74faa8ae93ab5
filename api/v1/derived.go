package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DerivedAttachments is written by TCR Assistant's manager and is not meant to be edited: every edit and deletion is undone, and every
// object of this kind that the manager did not create is deleted. It holds what all ImagePullSecrets together say about
// ServiceAccounts, by namespace, as the parameter of the admission policy that attaches Secrets inside the API server. It holds no
// credential.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=derivedattachments,singular=derivedattachments,scope=Cluster
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type DerivedAttachments struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is derived from the ImagePullSecrets. Create or edit those instead.
	//
	// +required
	// +structType=atomic
	Spec DerivedAttachmentsSpec `json:"spec"`
}

// DerivedAttachmentsSpec says which Secrets the ServiceAccounts of each namespace list. The lists name Secrets by the keys of Rules.
type DerivedAttachmentsSpec struct {
	// Rules are what the ImagePullSecrets say, each by a key: the name of the ImagePullSecret, shortened if it is long.
	//
	// +optional
	// +mapType=atomic
	Rules map[string]DerivedRule `json:"rules,omitempty"`
	// Everywhere are the keys of the rules that select every namespace.
	//
	// +optional
	// +listType=atomic
	Everywhere []string `json:"everywhere,omitempty"`
	// Namespaces are, by the name of a namespace, the keys of the rules that name it.
	//
	// +optional
	// +mapType=atomic
	Namespaces map[string][]string `json:"namespaces,omitempty"`
	// Labelled are, by a label as "key=value", the keys of rules that require it. Such a rule selects the namespaces that meet all of
	// its requirements and that it does not exclude.
	//
	// +optional
	// +mapType=atomic
	Labelled map[string][]string `json:"labelled,omitempty"`
	// Selecting are the keys of the other rules that select by requirements, or that select all namespaces except those they exclude.
	//
	// +optional
	// +listType=atomic
	Selecting []string `json:"selecting,omitempty"`
	// Barred are, by namespace, the ServiceAccounts whose pods get no Secret: they opt out, or enforce which Secrets their pods may
	// reference. It is set only if some rule has pods.
	//
	// +optional
	// +mapType=atomic
	Barred map[string][]string `json:"barred,omitempty"`
	// Parts is how many of these objects there are; absent if this is the only one. Another one may have given a pod its first Secret of
	// ours in the same request.
	//
	// +optional
	Parts int `json:"parts,omitempty"`
}

// DerivedRule says what one ImagePullSecret attaches, and to which accounts and pods.
type DerivedRule struct {
	// Secret is the name of the Secret to list.
	Secret string `json:"secret"`
	// ServiceAccounts are the names of the accounts that list it; absent for all.
	//
	// +optional
	// +listType=atomic
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Pods says which of those accounts' pods that list pull secrets of their own also get it: MatchingImages or All; absent for none.
	//
	// +optional
	Pods string `json:"pods,omitempty"`
	// Server is the registry that the Secret's credential is for. Whoever writes another ImagePullSecret for it is warned.
	//
	// +optional
	Server string `json:"server,omitempty"`
	// AdditionalServers are more hosts that the credential is for.
	//
	// +optional
	// +listType=atomic
	AdditionalServers []string `json:"additionalServers,omitempty"`
	// Requirements must all be met by the labels of a namespace that is not named.
	//
	// +optional
	// +listType=atomic
	Requirements []DerivedRequirement `json:"requirements,omitempty"`
	// Excluded are the names of namespaces that are not selected even if they meet the requirements.
	//
	// +optional
	// +listType=atomic
	Excluded []string `json:"excluded,omitempty"`
}

// DerivedRequirement is a requirement on one label.
type DerivedRequirement struct {
	// Key of the label.
	Key string `json:"key"`
	// Operator is In, NotIn, Exists or DoesNotExist. A requirement with any other operator is never met.
	Operator string `json:"operator"`
	// Values for In and NotIn.
	//
	// +optional
	// +listType=atomic
	Values []string `json:"values,omitempty"`
}

// DerivedAttachmentsList is a list of DerivedAttachments objects.
//
// +kubebuilder:object:root=true
type DerivedAttachmentsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []DerivedAttachments `json:"items"`
}
