package v1

// CredentialCheck says how the leading manager logs in to the registry, at each of its servers, as a kubelet would: only over HTTPS,
// following no redirect, and only to the registry, to hosts of its registrable domain, and to Realms. The credential is issued whatever
// the result is.
type CredentialCheck struct {
	// Image is one that the credential should be able to pull, such as team/app:v1: its manifest is requested from each server, or from
	// the one that its name begins with. If it begins with another host, it is not requested. Without Image, only a login is tried.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([a-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[0-9a-f]{64})?)?$')",message="must be the name of an image, such as team/app:v1, without a scheme or blanks and with a path in lower case",reason=FieldValueForbidden
	Image string `json:"image,omitempty"`

	// Interval is about how long after one login the next one follows, in hours, minutes and seconds: 1h by default, at least 1m,
	// and at most 99999h.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([1-9][0-9]{0,4}h([0-9]{1,5}m)?([0-9]{1,5}s)?|[1-9][0-9]{0,4}m([0-9]{1,5}s)?)?$')",message="must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 1h or 1m30s",reason=FieldValueForbidden
	Interval string `json:"interval,omitempty"`

	// Realms are hosts of other domains to which the credential may be sent if the registry says so: those of its token service.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(one, self.exists_one(other, other == one))",message="must not hold a host twice",reason=FieldValueForbidden
	Realms []Host `json:"realms,omitempty"`

	// CASecretRef names a Secret in the namespace of TCR Assistant's manager that holds, under ca.crt, the PEM certificates of the
	// CAs to trust for the registry, instead of those of the system.
	//
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`

	// Disabled leaves the credential unchecked.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}
