package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ImagePullSecret gives the namespaces and service accounts that it selects the credential of one image registry.
//
// Every selected namespace holds a Secret of type kubernetes.io/dockerconfigjson, named "tcr.ips" + the name of this
// object, and every selected ServiceAccount lists that Secret in its imagePullSecrets.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=imagepullsecrets,scope=Cluster,shortName=ips;ipss
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Namespaces",type=string,JSONPath=`.spec.namespaces`
// +kubebuilder:printcolumn:name="Service-Accounts",type=string,JSONPath=`.spec.serviceAccounts`
// +kubebuilder:printcolumn:name="Secrets-Desired",type=integer,JSONPath=`.status.secretsDesired`
// +kubebuilder:printcolumn:name="Secrets-Success",type=integer,JSONPath=`.status.secretsSuccess`
// +kubebuilder:printcolumn:name="SAs-Desired",type=integer,JSONPath=`.status.sAsDesired`,priority=1
// +kubebuilder:printcolumn:name="SAs-Success",type=integer,JSONPath=`.status.sAsSuccess`,priority=1
// +kubebuilder:printcolumn:name="Namespace-Selector",type=string,JSONPath=`.spec.namespaceSelector`,priority=1
// +kubebuilder:printcolumn:name="Server",type=string,JSONPath=`.spec.docker.server`,priority=1
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="CredentialValid")].status`,priority=1
// +kubebuilder:printcolumn:name="Valid-Until",type=string,JSONPath=`.status.credential.expiresAt`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`,priority=1
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 246",message="metadata.name must be at most 246 characters: the Secret is named \"tcr.ips\" + this name, and the name of a Secret has at most 253"
type ImagePullSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ImagePullSecretSpec `json:"spec"`
	// +optional
	Status ImagePullSecretStatus `json:"status,omitempty"`
}

// ImagePullSecretSpec says who gets which credential.
//
// +kubebuilder:validation:XValidation:rule="has(self.tcr) || has(self.docker) && (has(self.docker.username) || has(self.docker.password) || has(self.docker.secretRef))",message="must hold a credential: write spec.docker.username and spec.docker.password, or in spec.docker.secretRef the name of a Secret that holds them, or spec.tcr",reason=FieldValueRequired,fieldPath=".docker"
// +kubebuilder:validation:XValidation:rule="has(self.tcr) || !has(self.docker) || has(self.docker.server)",message="must be set beside a credential: write the registry's host, such as \"registry.example.com\"",reason=FieldValueRequired,fieldPath=".docker.server"
// +kubebuilder:validation:XValidation:rule="!has(self.tcr) || !has(self.docker) || !has(self.docker.username) && !has(self.docker.password) && !has(self.docker.secretRef) && !has(self.docker.server)",message="must hold nothing but additionalServers beside spec.tcr, which is the source of the credential: leave out the rest, or spec.tcr",reason=FieldValueForbidden,fieldPath=".docker"
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceSelector) || !has(self.namespaces) || !self.namespaces.contains('*')",message="must not be \"*\" beside spec.namespaceSelector, which would select nothing more: leave it blank for what the selector selects, or write the exact names of further namespaces",fieldPath=".namespaces"
type ImagePullSecretSpec struct {
	// Namespaces that receive the Secret: "*" or blank for every namespace, else exact names separated by ",". With a
	// namespaceSelector, blank means only what that selects, and "*" is refused.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=262144
	// +kubebuilder:validation:XValidation:rule="!self.contains('*') || self.matches('^\\\\s*[*]\\\\s*$')",message="must be \"*\" alone, or exact namespace names separated by \",\": \"*\" cannot stand among names, and patterns are not supported"
	// +kubebuilder:validation:XValidation:rule="self.matches('^\\\\s*$') || !self.matches('(^|,)\\\\s*(,|$)')",message="must not hold an empty entry: write exact namespace names separated by single \",\""
	// +kubebuilder:validation:XValidation:rule="(self + ',').matches('^(\\\\s*([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|[^,]*[*][^,]*)?\\\\s*,)*$')",message="must hold exact namespace names separated by \",\": each at most 63 lower case letters, digits and \"-\", beginning and ending with a letter or digit; patterns are not supported"
	Namespaces string `json:"namespaces,omitempty"`

	// NamespaceSelector also selects namespaces, by their labels: a namespace is selected if it is named or matches. An empty
	// selector matches every namespace, as everywhere in Kubernetes.
	//
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// ExcludedNamespaces are the exact names of namespaces that are not selected, whatever the other fields say.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	ExcludedNamespaces []NamespaceName `json:"excludedNamespaces,omitempty"`

	// ServiceAccounts that list the Secret in the selected namespaces: "*" or blank for every one, else exact names
	// separated by ",".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=262144
	// +kubebuilder:validation:XValidation:rule="!self.contains('*') || self.matches('^\\\\s*[*]\\\\s*$')",message="must be \"*\" alone, or exact service account names separated by \",\": \"*\" cannot stand among names, and patterns are not supported"
	// +kubebuilder:validation:XValidation:rule="self.matches('^\\\\s*$') || !self.matches('(^|,)\\\\s*(,|$)')",message="must not hold an empty entry: write exact service account names separated by single \",\""
	// +kubebuilder:validation:XValidation:rule="(self + ',').matches('^(\\\\s*([-.a-z0-9]*|[^,]*[*][^,]*)\\\\s*,)*$')",message="must hold exact service account names separated by \",\": lower case letters, digits, \"-\" and \".\"; patterns are not supported"
	// +kubebuilder:validation:XValidation:rule="!self.matches('(^|[\\\\s,.])[-.]|[-.]([\\\\s,.]|$)')",message="must hold exact service account names: each of their parts between \".\" begins and ends with a letter or digit"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[-.a-z0-9]{254}')",message="must hold exact service account names, each of at most 253 characters"
	ServiceAccounts string `json:"serviceAccounts,omitempty"`

	// Pods says which of the pods that list pull secrets of their own also get the Secret when they are created: the API server copies
	// the pull secrets of a service account only to pods that list none. Never is the default; MatchingImages means those with an image
	// of one of the servers; All means every one.
	//
	// +optional
	// +kubebuilder:validation:Enum=Never;MatchingImages;All
	Pods string `json:"pods,omitempty"`

	// Healing says what happens to a pod that is refused an image of one of the servers because it was created before its service
	// account listed the Secret, or last tried before the Secret held the current credential: Never, the default, lets it wait; Evict
	// evicts it, so that its controller creates another one.
	//
	// +optional
	// +kubebuilder:validation:Enum=Never;Evict
	Healing string `json:"healing,omitempty"`

	// Docker is the credential of one registry. With TCR it may be absent, or hold only AdditionalServers.
	//
	// +optional
	Docker DockerCredential `json:"docker,omitzero"`

	// TCR is the registry instance that the credential is issued for: the manager has the cloud create tokens, renews them and
	// revokes them at the end.
	//
	// +optional
	TCR *RegistryInstance `json:"tcr,omitempty"`

	// Check says how the manager finds out whether the registry takes the credential. Without it, the manager logs in after each
	// change and then every hour. The condition CredentialValid holds the result.
	//
	// +optional
	Check *CredentialCheck `json:"check,omitempty"`
}

// DockerCredential is what "docker login" asks for: a user name and a password, from exactly one source, and the registry's host.
//
// Rules whose value may hold a password by mistake have the reason FieldValueForbidden: with that one, the API server does not
// repeat the value.
//
// +kubebuilder:validation:XValidation:rule="has(self.username) || !has(self.password) || has(self.secretRef)",message="must be set beside spec.docker.password: write the registry's user name",reason=FieldValueRequired,fieldPath=".username"
// +kubebuilder:validation:XValidation:rule="has(self.password) || !has(self.username) || has(self.secretRef)",message="must be set beside spec.docker.username: write the registry's password or token",reason=FieldValueRequired,fieldPath=".password"
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || !has(self.username) && !has(self.password)",message="must be the only source of the credential: leave out spec.docker.username and spec.docker.password, or spec.docker.secretRef",reason=FieldValueForbidden,fieldPath=".secretRef"
// +kubebuilder:validation:XValidation:rule="!has(self.additionalServers) || !has(self.server) || !(self.server in self.additionalServers)",message="must not hold spec.docker.server: leave it out here",reason=FieldValueForbidden,fieldPath=".additionalServers"
type DockerCredential struct {
	// Username of the registry. It holds no ":", which ends the user name in HTTP basic authentication (RFC 7617).
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="!self.matches('^\\\\s*$')",message="must not be blank: write the registry's user name",reason=FieldValueRequired
	// +kubebuilder:validation:XValidation:rule="!self.contains(':')",message="must not hold \":\", which separates user name and password in HTTP basic authentication",reason=FieldValueForbidden
	Username string `json:"username,omitempty"`

	// Password or token of the registry.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=262144
	// +kubebuilder:validation:XValidation:rule="size(self) > 0",message="must not be empty: write the registry's password or token",reason=FieldValueRequired
	Password string `json:"password,omitempty"`

	// SecretRef names a Secret in the namespace of TCR Assistant's manager that holds user name and password, instead of Username
	// and Password: of type kubernetes.io/basic-auth, or of type kubernetes.io/dockerconfigjson with an entry for Server. It is
	// watched: each change of it is issued everywhere. While it cannot be read, what it held last stays issued.
	//
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// Server is the registry's host with an optional port, as image names begin with it:
	// "registry.example.com" or "registry.example.com:5000".
	//
	// It is required, unless spec.tcr is set: then it must be absent.
	//
	// +optional
	Server Host `json:"server,omitempty"`

	// AdditionalServers are more hosts of the registry, such as its domain inside a private network, that take the same
	// credential. The same Secret has an entry for each of them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(one, self.exists_one(other, other == one))",message="must not hold a host twice",reason=FieldValueForbidden
	AdditionalServers []Host `json:"additionalServers,omitempty"`
}

// SecretReference names a Secret.
type SecretReference struct {
	// Name of the Secret. It must not be a Secret that an ImagePullSecret issues.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a Secret in the manager's namespace: lower case letters, digits, \"-\" and \".\", such as \"registry-credential\"",reason=FieldValueForbidden
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('tcr.ips')",message="must not be a Secret that an ImagePullSecret issues, named tcr.ips…: name one that holds a credential of its own",reason=FieldValueForbidden
	Name string `json:"name"`
}

// Host is a registry's host with an optional port, as image names begin with it.
//
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="size(self) > 0",message="must not be empty: write the registry's host, such as \"registry.example.com\"",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!self.contains('://')",message="must be a host without a scheme: such as \"registry.example.com\" instead of \"https://registry.example.com\"",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="self.contains('://') || !self.contains('/')",message="must be a host without a path: such as \"registry.example.com\" instead of \"registry.example.com/team\"",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.contains('@')",message="must be a host without user info: the user's name belongs in spec.docker.username",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="size(self) <= 0 || self.contains('/') || self.contains('@') || self.matches('^([-.a-zA-Z0-9]+|\\\\[[0-9a-fA-F:]+\\\\])(:[0-9]*)?$')",message="must be a host with an optional port from 1 to 65535, such as \"registry.example.com\" or \"registry.example.com:5000\", without blanks or patterns; an IPv6 address is written in brackets",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="self.matches(':.*:') || !self.matches('(^|[.])[-.:]|[-.]([.:]|$)|[-a-zA-Z0-9]{64}')",message="must be a host: each of its labels has at most 63 characters, and begins and ends with a letter or digit",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.matches('^[-.a-zA-Z0-9]{254}')",message="must be a host of at most 253 characters",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.matches('(^[^:]*|\\\\]):[0-9]*$') || (self.matches(':[1-9][0-9]{0,4}$') && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)",message="must end in a port from 1 to 65535, or in none",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.startsWith('[') || !self.matches('::.*::|:::|^\\\\[:[^:]|[^:]:\\\\]|[0-9a-fA-F]{5}.*\\\\]')",message="must be a host: an IPv6 address in brackets has groups of up to four hexadecimal digits, and \"::\" at most once",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.startsWith('[') || (self.contains('::') ? !self.matches('^\\\\[:*([^:\\\\]]+:+){7}[^:\\\\]]') : self.matches('^\\\\[([^:\\\\]]+:){7}[^:\\\\]]+\\\\]'))",message="must be a host: an IPv6 address in brackets has eight groups, or fewer and \"::\"",reason=FieldValueForbidden
type Host = string

// ImagePullSecretStatus says how far the credential has got. Counts are exact; the two lists hold the newest entries only.
type ImagePullSecretStatus struct {
	// ObservedGeneration is the metadata.generation that this status is based on.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// SecretsDesired counts the selected namespaces that are not being deleted.
	SecretsDesired int32 `json:"secretsDesired"`
	// SecretsSuccess counts those of them that hold the Secret with the current credential or, while the current one cannot be
	// read from its source, with one that was issued before.
	SecretsSuccess int32 `json:"secretsSuccess"`
	// SAsDesired counts the selected service accounts in the selected namespaces.
	SAsDesired int32 `json:"sAsDesired"`
	// SAsSuccess counts those of them that list the Secret.
	SAsSuccess int32 `json:"sAsSuccess"`

	// OptedOut counts what is selected but kept out by its label. It is absent if nothing is.
	//
	// +optional
	OptedOut *OptedOut `json:"optedOut,omitempty"`

	// SecretUpdateSuccessful lists the Secrets that are as they should be, newest change first, at most 200.
	//
	// +optional
	// +listType=atomic
	SecretUpdateSuccessful []Update `json:"secretUpdateSuccessful,omitempty"`
	// ServiceAccountsModifySuccessful lists the service accounts that have the entry, newest change first, at most 200.
	//
	// +optional
	// +listType=atomic
	ServiceAccountsModifySuccessful []Update `json:"serviceAccountsModifySuccessful,omitempty"`

	// Failures lists what is not as it should be, with the reason, at most 50.
	//
	// +optional
	// +listType=atomic
	Failures []Failure `json:"failures,omitempty"`

	// Unhealed lists the pods that wait for the credential, need another pod in their place, and are not evicted: with the reason and
	// what to do, at most 20. The condition "Healing" counts all of them.
	//
	// +optional
	// +listType=atomic
	Unhealed []Failure `json:"unhealed,omitempty"`

	// Credential says which credential is issued.
	//
	// +optional
	Credential *CredentialStatus `json:"credential,omitempty"`

	// PrivateNetwork is the link with the private network that spec.tcr.privateNetwork asks for. It is absent if there is none.
	//
	// +optional
	PrivateNetwork *PrivateNetworkStatus `json:"privateNetwork,omitempty"`

	// Conditions holds "Ready": every selected namespace and service account has the current credential. "CredentialValid" says
	// whether the registry takes the credential. With spec.tcr there is "CredentialIssued", with spec.tcr.privateNetwork
	// "PrivateNetworkReady", and with spec.healing "Healing". "AttachmentsOutdated" is there only while the admission policy does
	// not yet attach what this object says.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CredentialStatus says which credential is issued, and reveals nothing of it.
type CredentialStatus struct {
	// Source is where the credential comes from: "Inline" for this object's spec, "Secret/" and the name of a Secret in the
	// manager's namespace, or "TCR/" and the id of the registry instance that the cloud issues it for.
	Source string `json:"source"`
	// IssuedAt is when the current credential was first written to a Secret: the time of the oldest one that holds it.
	//
	// +optional
	IssuedAt *metav1.Time `json:"issuedAt,omitempty"`
	// ExpiresAt is when the credential expires, if that is known: from the cloud (the manager renews it long before), from the
	// annotation tcr.tencentcloudcr.com/expires-at of the Secret that holds it, or from the password, if that is a token that says so.
	//
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
	// ExpiryUnread is why the annotation does not tell when the credential expires.
	//
	// +optional
	ExpiryUnread string `json:"expiryUnread,omitempty"`
	// CheckedAt is when the manager last logged in with the credential, or is about to; the condition CredentialValid holds the result.
	//
	// +optional
	CheckedAt *metav1.Time `json:"checkedAt,omitempty"`
}

// PrivateNetworkStatus is the link of a registry instance with a private network, as the cloud last reported it.
type PrivateNetworkStatus struct {
	// VPCID is the id of the network.
	VPCID string `json:"vpcId"`
	// State is the cloud's word for the state of the link, such as Running.
	//
	// +optional
	State string `json:"state,omitempty"`
	// Address is the registry's address in that network.
	//
	// +optional
	Address string `json:"address,omitempty"`
	// Domains are those that each node's hosts file should map to the address.
	//
	// +optional
	// +listType=atomic
	Domains []string `json:"domains,omitempty"`
	// ResolvedDomains are those that the cloud's own DNS resolves to the address: they need no line in a hosts file.
	//
	// +optional
	// +listType=atomic
	ResolvedDomains []string `json:"resolvedDomains,omitempty"`
}

// OptedOut counts what the label tcr.tencentcloudcr.com/opt-out: "true" keeps out.
type OptedOut struct {
	// Namespaces counts the selected namespaces that have the label.
	Namespaces int32 `json:"namespaces"`
	// ServiceAccounts counts the selected service accounts that have it, in selected namespaces that do not.
	ServiceAccounts int32 `json:"serviceAccounts"`
}

// Update is one object that is as it should be.
type Update struct {
	// NamespacedName is "namespace/name".
	NamespacedName string `json:"namespacedName"`
	// UpdatedAt is when it was last brought in line.
	UpdatedAt metav1.Time `json:"updatedAt"`
}

// Failure is one object that is not as it should be.
type Failure struct {
	// NamespacedName is "namespace/name" of the Secret, ServiceAccount or Pod.
	NamespacedName string `json:"namespacedName"`
	// Reason is a CamelCase word for programs, such as ForeignSecret or Forbidden.
	Reason string `json:"reason"`
	// Message says what is wrong and how to fix it.
	Message string `json:"message"`
	// Since is when it was first seen.
	Since metav1.Time `json:"since"`
}

// The values of spec.pods.
const (
	PodsNever          = "Never"
	PodsMatchingImages = "MatchingImages"
	PodsAll            = "All"
)

// The values of spec.healing.
const (
	HealingNever = "Never"
	HealingEvict = "Evict"
)

const (
	// SourceInline is the source of a credential that the spec holds.
	SourceInline = "Inline"
	// SourceSecret begins the source of a credential that a Secret holds; its name follows.
	SourceSecret = "Secret/"
	// SourceTCR begins the source of a credential that the cloud issues; the registry instance's id follows.
	SourceTCR = "TCR/"

	// ConditionReady is the type of the condition that says whether the credential is everywhere it belongs.
	ConditionReady = "Ready"
	// ConditionCredentialIssued is the type of a condition that only objects with spec.tcr have: whether the cloud issues and renews
	// the credential. Whatever it says, what was issued last stays.
	ConditionCredentialIssued = "CredentialIssued"
	// ConditionCredentialValid is the type of a condition of every object whose credential is checked: whether the registry took it when
	// the manager last logged in. Nothing depends on it.
	ConditionCredentialValid = "CredentialValid"
	// ConditionPrivateNetworkReady is the type of a condition that only objects with spec.tcr.privateNetwork have: whether every domain
	// that it names leads to the link, by a line in the hosts files or by the cloud's own DNS.
	ConditionPrivateNetworkReady = "PrivateNetworkReady"
	// ConditionHealing is the type of a condition that only objects with spec.healing have: whether pods are watched for it, and how
	// many of those that wait are not evicted.
	ConditionHealing = "Healing"
	// ConditionAttachmentsOutdated is the type of a condition that is there only while it is True: what the admission policy
	// attaches for this object inside the API server is not what the object says now. Meanwhile the leader attaches that.
	ConditionAttachmentsOutdated = "AttachmentsOutdated"
)

// ImagePullSecretList is a list of ImagePullSecret objects.
//
// +kubebuilder:object:root=true
type ImagePullSecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ImagePullSecret `json:"items"`
}
