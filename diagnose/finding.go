package diagnose

import (
	"slices"
	"time"
)

// Reason is a CamelCase word for what is wrong.
type Reason string

// The reasons. They keep their meaning; more may be added.
const (
	// Healthy means that no image of the pod is waiting to be pulled.
	Healthy Reason = "Healthy"
	// NotSelected means that an ImagePullSecret has the server's credential, but does not select the pod's namespace or account.
	NotSelected Reason = "NotSelected"
	// OptedOut means that the namespace or the account has the opt-out label.
	OptedOut Reason = "OptedOut"
	// NoCredentialForServer means that a host that no ImagePullSecret names refused the pull.
	NoCredentialForServer Reason = "NoCredentialForServer"
	// EntryMissing means that the pod's account should list the Secret, but does not.
	EntryMissing Reason = "EntryMissing"
	// PodOlderThanEntry means that the account lists the Secret, but did not when the pod was created.
	PodOlderThanEntry Reason = "PodOlderThanEntry"
	// PodListsItsOwn means that the pod has imagePullSecrets of its own, so it does not get the account's.
	PodListsItsOwn Reason = "PodListsItsOwn"
	// SecretMissing means that the pod lists a Secret that does not exist.
	SecretMissing Reason = "SecretMissing"
	// SecretForeign means that a Secret with our name has another type.
	SecretForeign Reason = "SecretForeign"
	// SecretStale means that the Secret is not what its ImagePullSecret issues now.
	SecretStale Reason = "SecretStale"
	// CredentialUnread means that the Secret that an ImagePullSecret refers to provides no credential. What was issued before stays, and
	// nothing new is issued.
	CredentialUnread Reason = "CredentialUnread"
	// CredentialNotIssued means that the cloud does not issue or renew the credential of an ImagePullSecret. What was issued before stays.
	CredentialNotIssued Reason = "CredentialNotIssued"
	// SiblingSecretBroken means that a Secret that the pod lists cannot be read, so the kubelet drops all of the pod's credentials.
	SiblingSecretBroken Reason = "SiblingSecretBroken"
	// CredentialRefused means that the registry refused the credential that the pod has.
	CredentialRefused Reason = "CredentialRefused"
	// CredentialExpired means that the registry refused the pod's credential, which has expired.
	CredentialExpired Reason = "CredentialExpired"
	// InsufficientScope means that the registry accepts the credential, but its user may not pull this image.
	InsufficientScope Reason = "InsufficientScope"
	// NameNotResolved means that the node found no address for the registry.
	NameNotResolved Reason = "NameNotResolved"
	// Timeout means that the registry could not be reached from the node.
	Timeout Reason = "Timeout"
	// CertificateUnknown means that the node does not trust the registry's certificate.
	CertificateUnknown Reason = "CertificateUnknown"
	// ImageNotFound means that the registry has no such image, or hides it.
	ImageNotFound Reason = "ImageNotFound"
	// RateLimited means that the registry limits the rate of pulls.
	RateLimited Reason = "RateLimited"
	// HostsLineMissing means that the node's hosts file lacks the line that is configured.
	HostsLineMissing Reason = "HostsLineMissing"
	// HostsLineOverruled means that another line of the node's hosts file wins.
	HostsLineOverruled Reason = "HostsLineOverruled"
	// ManagerDown means that nothing repairs what is missing, because no manager runs.
	ManagerDown Reason = "ManagerDown"
	// BackingOff means that what was wrong is fixed, but the kubelet has not tried again yet.
	BackingOff Reason = "BackingOff"
	// OtherRegistry means that a host that no ImagePullSecret names refused a Secret of the pod's own.
	OtherRegistry Reason = "OtherRegistry"

	// InvalidObject means that the spec of the ImagePullSecret for the server is invalid.
	InvalidObject Reason = "InvalidObject"
	// PlainHTTP means that the registry answers without TLS.
	PlainHTTP Reason = "PlainHTTP"
	// RegistryFails means that the registry answered with an error of its own.
	RegistryFails Reason = "RegistryFails"
	// ImageNameInvalid means that the image's name is invalid.
	ImageNameInvalid Reason = "ImageNameInvalid"
	// ImageNotOnNode means that the pull policy is Never, and the node lacks the image or the pod may not use it.
	ImageNotOnNode Reason = "ImageNotOnNode"
	// PlatformMissing means that the image does not support the node's platform.
	PlatformMissing Reason = "PlatformMissing"
	// PullThrottled means that the kubelet has more pulls to do than it may begin per second.
	PullThrottled Reason = "PullThrottled"
	// NodeDiskFull means that the node has no disk space for the image.
	NodeDiskFull Reason = "NodeDiskFull"
	// PullFailed means that the pull failed for none of the other reasons.
	PullFailed Reason = "PullFailed"
	// Undecided means that what the answer depends on could not be read.
	Undecided Reason = "Undecided"
)

// Finding is one thing that is wrong.
type Finding struct {
	Reason Reason `json:"reason"`
	// Object is the kind and name of the object that the finding is about.
	Object string `json:"object"`
	// Message says what is wrong and how that is known. Action says what to do.
	Message string `json:"message"`
	Action  string `json:"action,omitempty"`
}

// Report is what is wrong with a pod, the most decisive first.
type Report struct {
	Findings []Finding `json:"findings"`
	// NextTry is approximately when the kubelet tries again; zero if that is not known.
	NextTry time.Time `json:"nextTry,omitzero"`
	// Unseen is what could not be read.
	Unseen []Unseen `json:"unseen,omitempty"`
}

// Healthy reports whether nothing is wrong.
func (r *Report) Healthy() bool {
	return len(r.Findings) == 1 && r.Findings[0].Reason == Healthy
}

// Decided reports whether everything that the findings depend on could be read.
func (r *Report) Decided() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Reason == Undecided })
}

func (r *Report) add(finding Finding) {
	same := func(f Finding) bool { return f.Reason == finding.Reason && f.Object == finding.Object }
	if !slices.ContainsFunc(r.Findings, same) {
		r.Findings = append(r.Findings, finding)
	}
}
