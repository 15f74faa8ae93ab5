package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DerivedAttachments is written by TCR Assistant's manager and is not meant to be edited: what anybody changes in it, or
// deletes, is restored, and every object of this kind that the manager did not make is deleted. It holds what all ImagePullSecrets together say about ServiceAccounts, by namespace, as the parameter
// of the admission policy that attaches Secrets inside the API server. It holds no credential.
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

// DerivedAttachmentsSpec says which Secrets the ServiceAccounts of each namespace list. A Secret is named by a key of Rules.
type DerivedAttachmentsSpec struct {
	// Rules are the ImagePullSecrets, by a key that is their name, or stands for it where it is long.
	//
	// +optional
	// +mapType=atomic
	Rules map[string]DerivedRule `json:"rules,omitempty"`
	// Everywhere are the keys of those that select every namespace.
	//
	// +optional
	// +listType=atomic
	Everywhere []string `json:"everywhere,omitempty"`
	// Namespaces are, by the name of each namespace that is named by some, the keys of those.
	//
	// +optional
	// +mapType=atomic
	Namespaces map[string][]string `json:"namespaces,omitempty"`
	// Labelled are, by "key=value" of a label that some require, the keys of those. They select the namespaces that meet all of
	// their requirements and that they do not exclude.
	//
	// +optional
	// +mapType=atomic
	Labelled map[string][]string `json:"labelled,omitempty"`
	// Selecting are the keys of others that select by requirements, or all namespaces but those that they exclude.
	//
	// +optional
	// +listType=atomic
	Selecting []string `json:"selecting,omitempty"`
	// Barred are, by namespace, the ServiceAccounts whose pods get no Secret: they opt out, or enforce which Secrets their pods may
	// mention. It is there only where some rule has pods.
	//
	// +optional
	// +mapType=atomic
	Barred map[string][]string `json:"barred,omitempty"`
}

// DerivedRule is what one ImagePullSecret attaches to whom.
type DerivedRule struct {
	// Secret is the name of the Secret to list.
	Secret string `json:"secret"`
	// ServiceAccounts are the names of those that list it; absent for every one.
	//
	// +optional
	// +listType=atomic
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Pods says which pods of those accounts that list pull secrets of their own get it, too: MatchingImages or All; absent for none.
	//
	// +optional
	Pods string `json:"pods,omitempty"`
	// Server is the registry that the Secret's credential is for: who writes another one for it is warned.
	//
	// +optional
	Server string `json:"server,omitempty"`
	// AdditionalServers are others that it is for.
	//
	// +optional
	// +listType=atomic
	AdditionalServers []string `json:"additionalServers,omitempty"`
	// Requirements are what the labels of a namespace must meet, all of them, where it is not named.
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

// DerivedRequirement is what is required of one label.
type DerivedRequirement struct {
	// Key of the label.
	Key string `json:"key"`
	// Operator is In, NotIn, Exists or DoesNotExist. What another one asks for never holds.
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
