package v1

// RegistryInstance is an instance of Tencent Container Registry, and how its tokens are created and revoked. They are issued for its
// default domain, for its domain in private networks, and for spec.docker.additionalServers.
type RegistryInstance struct {
	// RegistryID is the id of the instance, such as tcr-xxxxxxxx.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^tcr-[a-z0-9]+$')",message="must be the id of a registry instance, such as tcr-xxxxxxxx",reason=FieldValueForbidden
	RegistryID string `json:"registryId"`

	// Region is where the instance is, such as ap-guangzhou.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]+(-[a-z0-9]+)+$')",message="must be the name of a region, such as ap-guangzhou",reason=FieldValueForbidden
	Region string `json:"region"`

	// TokenType is longterm, the default, or temp: tokens that live for an hour and that nobody can revoke. Each new one is written
	// into every Secret.
	//
	// +optional
	// +kubebuilder:validation:Enum=longterm;temp
	TokenType string `json:"tokenType,omitempty"`

	// RotateAfter is how long a long-term token is issued before another one replaces it, in hours, minutes and seconds: 2160h (90
	// days) by default, at least 1m, and at most 99999h.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([1-9][0-9]{0,4}h([0-9]{1,5}m)?([0-9]{1,5}s)?|[1-9][0-9]{0,4}m([0-9]{1,5}s)?)?$')",message="must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 2160h or 1m30s",reason=FieldValueForbidden
	RotateAfter string `json:"rotateAfter,omitempty"`

	// OnDelete says what happens to the tokens once this object is gone: Revoke, the default, or Keep.
	//
	// +optional
	// +kubebuilder:validation:Enum=Revoke;Keep
	OnDelete string `json:"onDelete,omitempty"`

	// CredentialsSecretRef names a Secret in the namespace of TCR Assistant's manager that holds the secretId and secretKey with which
	// the manager calls the cloud's API. Without it, the manager uses its own identity.
	//
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`

	// PrivateNetwork makes each node's hosts file map the registry's domains to its address in a private network, as the cloud reports
	// it. What the install value global.hosts says about a domain takes precedence.
	//
	// +optional
	PrivateNetwork *PrivateNetwork `json:"privateNetwork,omitempty"`
}

// PrivateNetwork is a network that the registry instance is linked with.
type PrivateNetwork struct {
	// VPCID is the id of the network, such as vpc-xxxxxxxx. It may be left out if the instance is linked with only one network.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^(vpc-[a-z0-9]+)?$')",message="must be the id of a private network, such as vpc-xxxxxxxx",reason=FieldValueForbidden
	VPCID string `json:"vpcId,omitempty"`

	// Domains are mapped to the link's address: "default" is the registry's own domain, "vpc" its domain in private networks; custom
	// domains are written out. By default they are "default" and "vpc".
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Domains []NetworkDomain `json:"domains,omitempty"`
}

// NetworkDomain is "default", "vpc", or a domain.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^(default|vpc|([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?)$')",message="must be default, vpc, or a whole domain of lower case letters, digits, \"-\" and \".\", such as registry.example.com",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.matches('[.](localhost|localdomain)$')",message="must not end in .localhost or .localdomain, which stand for the machine itself",reason=FieldValueForbidden
type NetworkDomain = string

// The names for the domains that every registry instance has.
const (
	DomainDefault = "default"
	DomainVPC     = "vpc"
)

// The values of spec.tcr.tokenType and spec.tcr.onDelete.
const (
	TokenTypeLongTerm  = "longterm"
	TokenTypeTemporary = "temp"

	OnDeleteRevoke = "Revoke"
	OnDeleteKeep   = "Keep"
)
