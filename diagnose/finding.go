package diagnose

import (
	"slices"
	"time"
)

// Reason is a word for what is wrong.
type Reason string

// The reasons that there are. They keep their meaning; more may be added.
const (
	// Healthy is that no pull of the pod has failed.
	Healthy Reason = "Healthy"
	// NotSelected is that an ImagePullSecret has the server's credential, and selects the pod's namespace or account not.
	NotSelected Reason = "NotSelected"
	// OptedOut is that the namespace or the account bears the label that keeps everything away.
	OptedOut Reason = "OptedOut"
	// NoCredentialForServer is a refused pull from a host that no ImagePullSecret names.
	NoCredentialForServer Reason = "NoCredentialForServer"
	// EntryMissing is that the pod's account should list the Secret and does not.
	EntryMissing Reason = "EntryMissing"
	// PodOlderThanEntry is that the account lists the Secret, and did not when the pod was made.
	PodOlderThanEntry Reason = "PodOlderThanEntry"
	// PodListsItsOwn is that the pod's own imagePullSecrets keep the account's away.
	PodListsItsOwn Reason = "PodListsItsOwn"
	// SecretMissing is that the pod lists a Secret that is not there.
	SecretMissing Reason = "SecretMissing"
	// SecretForeign is that a Secret of our name is of another type.
	SecretForeign Reason = "SecretForeign"
	// SecretStale is that the Secret is not what its ImagePullSecret issues now.
	SecretStale Reason = "SecretStale"
	// CredentialUnread is that what an ImagePullSecret refers to gives no credential: what was issued before stays, and nothing new is.
	CredentialUnread Reason = "CredentialUnread"
	// CredentialNotIssued is that the cloud does not issue or renew the credential of an ImagePullSecret: what was issued before stays.
	CredentialNotIssued Reason = "CredentialNotIssued"
	// SiblingSecretBroken is that a Secret which the pod lists cannot be read, for which a kubelet drops all of the pod's credentials.
	SiblingSecretBroken Reason = "SiblingSecretBroken"
	// CredentialRefused is that the registry refused the credential that the pod has.
	CredentialRefused Reason = "CredentialRefused"
	// CredentialExpired is that it refused it after its end.
	CredentialExpired Reason = "CredentialExpired"
	// InsufficientScope is that it knows the credential, which may not pull this image.
	InsufficientScope Reason = "InsufficientScope"
	// NameNotResolved is that the node found no address for the registry.
	NameNotResolved Reason = "NameNotResolved"
	// Timeout is that the registry could not be reached from the node.
	Timeout Reason = "Timeout"
	// CertificateUnknown is that the node does not trust the registry's certificate.
	CertificateUnknown Reason = "CertificateUnknown"
	// ImageNotFound is that the registry has no such image, or hides it.
	ImageNotFound Reason = "ImageNotFound"
	// RateLimited is that the registry wants fewer pulls.
	RateLimited Reason = "RateLimited"
	// HostsLineMissing is that the node's hosts file lacks the line that is configured.
	HostsLineMissing Reason = "HostsLineMissing"
	// HostsLineOverruled is that another line of the node's hosts file wins.
	HostsLineOverruled Reason = "HostsLineOverruled"
	// ManagerDown is that nothing mends what is missing, because no manager runs.
	ManagerDown Reason = "ManagerDown"
	// BackingOff is that what was wrong is mended, and the kubelet has not tried again yet.
	BackingOff Reason = "BackingOff"
	// OtherRegistry is a refused pull from a host that no ImagePullSecret names, with a Secret of the pod's own.
	OtherRegistry Reason = "OtherRegistry"

	// InvalidObject is that the ImagePullSecret for the server cannot be read.
	InvalidObject Reason = "InvalidObject"
	// PlainHTTP is that the registry answers without TLS.
	PlainHTTP Reason = "PlainHTTP"
	// RegistryFails is that the registry answered with an error of its own.
	RegistryFails Reason = "RegistryFails"
	// ImageNameInvalid is that the image's name cannot be read.
	ImageNameInvalid Reason = "ImageNameInvalid"
	// ImageNotOnNode is that the pull policy is Never, and the node lacks the image or the pod may not use it.
	ImageNotOnNode Reason = "ImageNotOnNode"
	// PlatformMissing is that the image is not made for the node's platform.
	PlatformMissing Reason = "PlatformMissing"
	// PullThrottled is that the kubelet has more pulls to do than it may begin in a second.
	PullThrottled Reason = "PullThrottled"
	// NodeDiskFull is that the node has no room for the image.
	NodeDiskFull Reason = "NodeDiskFull"
	// PullFailed is a failure that is none of the others.
	PullFailed Reason = "PullFailed"
	// Undecided is that what decides could not be looked at.
	Undecided Reason = "Undecided"
)

// Finding is one thing that is wrong.
type Finding struct {
	Reason Reason `json:"reason"`
	// Object is what it is about: a kind and a name.
	Object string `json:"object"`
	// Message says what is wrong and how that is known, Action what to do.
	Message string `json:"message"`
	Action  string `json:"action,omitempty"`
}

// Report is what is wrong with a pod, the most decisive first.
type Report struct {
	Findings []Finding `json:"findings"`
	// NextTry is about when the kubelet pulls again by itself; zero where that is not known.
	NextTry time.Time `json:"nextTry,omitzero"`
	// Unseen is what could not be looked at.
	Unseen []Unseen `json:"unseen,omitempty"`
}

// Healthy reports whether nothing is wrong.
func (r *Report) Healthy() bool {
	return len(r.Findings) == 1 && r.Findings[0].Reason == Healthy
}

// Decided reports whether all that decides could be looked at.
func (r *Report) Decided() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Reason == Undecided })
}

func (r *Report) add(finding Finding) {
	same := func(f Finding) bool { return f.Reason == finding.Reason && f.Object == finding.Object }
	if !slices.ContainsFunc(r.Findings, same) {
		r.Findings = append(r.Findings, finding)
	}
}
