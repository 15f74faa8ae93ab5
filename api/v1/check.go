package v1

// CredentialCheck is how the leader of the manager logs in to the registry as a kubelet would, at each of its servers: over HTTPS alone,
// across no redirect, and to no host but the registry, those of its registrable domain, and Realms. It withholds nothing, whatever comes
// of it.
type CredentialCheck struct {
	// Image is one that the credential should be able to pull, such as team/app:v1: its manifest is asked for, at each server, or at
	// the one that it begins with. One that begins with another host is asked for nowhere. Without it a login alone is tried.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([a-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[0-9a-f]{64})?)?$')",message="must be the name of an image, such as team/app:v1, without a scheme or blanks and with a path in lower case",reason=FieldValueForbidden
	Image string `json:"image,omitempty"`

	// Interval is about how long after one login the next one is, in hours, minutes and seconds: 1h by default, 1m at
	// least, and 99999h at most.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([1-9][0-9]{0,4}h([0-9]{1,5}m)?([0-9]{1,5}s)?|[1-9][0-9]{0,4}m([0-9]{1,5}s)?)?$')",message="must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 1h or 1m30s",reason=FieldValueForbidden
	Interval string `json:"interval,omitempty"`

	// Realms are hosts of other domains that may be sent the credential where the registry says so: those of its token service.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(one, self.exists_one(other, other == one))",message="must not hold a host twice",reason=FieldValueForbidden
	Realms []Host `json:"realms,omitempty"`

	// CASecretRef names a Secret in the namespace of TCR Assistant's manager that holds, under ca.crt, the PEM certificates of the
	// authorities that the registry's certificate is of, instead of those of the system.
	//
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`

	// Disabled leaves the credential unchecked.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}
