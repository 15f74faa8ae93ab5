package diagnose

import (
	"slices"
	"time"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Evidence is what was seen of a pod and of everything that its pulls depend on. What could not be read is named in Unseen: that it
// is absent here means nothing.
type Evidence struct {
	Now time.Time `json:"now"`
	// Product is the namespace that the manager is in.
	Product   string    `json:"product,omitempty"`
	Pod       Pod       `json:"pod"`
	Namespace Namespace `json:"namespace"`
	Account   Account   `json:"account"`
	// Secrets are those of the namespace that the pod lists or that an Issuer issues.
	Secrets []Secret `json:"secrets,omitempty"`
	// Issuers are all ImagePullSecrets, from the pod's point of view.
	Issuers []Issuer `json:"issuers,omitempty"`
	Node    Node     `json:"node"`
	Manager Manager  `json:"manager"`
	Unseen  []Unseen `json:"unseen,omitempty"`
}

// Part is a part of the evidence that the caller may not be allowed to read.
type Part string

// The parts.
const (
	PartEvents           Part = "events"
	PartNamespace        Part = "namespace"
	PartAccount          Part = "account"
	PartSecrets          Part = "secrets"
	PartImagePullSecrets Part = "imagePullSecrets"
	PartCredentials      Part = "credentials"
	PartManager          Part = "manager"
	PartDeployment       Part = "deployment"
	PartAttachment       Part = "attachment"
	PartNode             Part = "node"
	PartDomains          Part = "domains"
)

// Unseen is a part that could not be read.
type Unseen struct {
	Part Part `json:"part"`
	// Why names the permission that is missing, or what else went wrong.
	Why string `json:"why"`
}

func (e *Evidence) saw(part Part) bool {
	return !slices.ContainsFunc(e.Unseen, func(u Unseen) bool { return u.Part == part })
}

// Pod is the relevant part of a pod.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Account   string `json:"account"`
	Node      string `json:"node,omitempty"`
	// Owner is the controller that replaces it when it is deleted, such as "ReplicaSet app-7d9c"; blank if there is none.
	Owner string `json:"owner,omitempty"`
	// Entries are the names in its imagePullSecrets. They never change.
	Entries []string `json:"entries,omitempty"`
	Pulls   []Pull   `json:"pulls,omitempty"`
}

// Pull is the state of the pull of a container's image.
type Pull struct {
	Container string `json:"container"`
	Image     string `json:"image"`
	// Waiting is the kubelet's reason why the container does not run, if that is its image.
	Waiting string `json:"waiting,omitempty"`
	// Error is the last error of the container runtime.
	Error string `json:"error,omitempty"`
	// Failures counts the pulls that failed, FailedAt is when the last one failed; zero if the events are gone.
	Failures int       `json:"failures,omitempty"`
	FailedAt time.Time `json:"failedAt,omitzero"`
	// BeganAt is when the last known pull began; zero if the events are gone.
	BeganAt time.Time `json:"beganAt,omitzero"`
}

// Namespace is the relevant part of the pod's namespace.
type Namespace struct {
	OptedOut bool `json:"optedOut,omitempty"`
	// Labels are those that ImagePullSecrets may select it by.
	Labels pullsecret.Labels `json:"-"`
}

// Account is the relevant part of the pod's ServiceAccount.
type Account struct {
	Found    bool     `json:"found"`
	OptedOut bool     `json:"optedOut,omitempty"`
	Entries  []string `json:"entries,omitempty"`
}

// Secret is the relevant part of a Secret. It holds no credential.
type Secret struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Sum is the SHA-256 of its .dockerconfigjson, in hexadecimal digits.
	Sum string `json:"sum,omitempty"`
	// Problem says why no kubelet can read it; blank if one can.
	Problem string `json:"problem,omitempty"`
	// Servers are the hosts and paths that it has credentials for, as written.
	Servers []string `json:"servers,omitempty"`
	// Updated is when it was last written, as far as its managedFields tell.
	Updated time.Time `json:"updated,omitzero"`
}

// Issuer is an ImagePullSecret, from the pod's point of view.
type Issuer struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
	// Servers are the hosts that its credential is for.
	Servers []string `json:"servers,omitempty"`
	// Source names the Secret that holds its credential; blank if the spec holds it.
	Source string `json:"source,omitempty"`
	// Sum is the checksum of what it issues; blank if that cannot be read, or Source was not read.
	Sum string `json:"sum,omitempty"`
	// Registry is the id of the registry instance for which the cloud issues its credential; blank if the cloud does not issue it.
	Registry string `json:"registry,omitempty"`
	// DomainUnknown is whether the domain of Registry is unknown; it is then not among Servers.
	DomainUnknown bool `json:"domainUnknown,omitempty"`
	// NotIssued is why the cloud does not issue or renew its credential; blank if it does.
	NotIssued string `json:"notIssued,omitempty"`
	// Unread says why its credential cannot be read from Source; blank if it can, or if that is not known.
	Unread string `json:"unread,omitempty"`
	// Namespace is whether it selects the pod's namespace, Account whether it selects the pod's account by name.
	Namespace bool `json:"namespace"`
	Account   bool `json:"account"`
	// LabelsUnseen is whether Namespace depends on labels of the namespace that could not be seen.
	LabelsUnseen bool `json:"labelsUnseen,omitempty"`
	// Excluded is whether its spec.excludedNamespaces lists the namespace. Selector is its label selector; blank if it has none.
	Excluded bool   `json:"excluded,omitempty"`
	Selector string `json:"selector,omitempty"`
	// Invalid says what is wrong with its spec.
	Invalid string `json:"invalid,omitempty"`
	// Pods says which pods that list pull secrets of their own also get its Secret; blank for none.
	Pods string `json:"pods,omitempty"`
	// Failures are the failures in its status that are about the pod's namespace.
	Failures []v1.Failure `json:"failures,omitempty"`
	// Refused is the registry's answer when it refused the manager's login with the credential; blank if it did not refuse.
	Refused string `json:"refused,omitempty"`
	// ExpiresAt is when its credential expires; zero if that is not known.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
}

// Node is the relevant part of the pod's node.
type Node struct {
	// Configured are the lines that hosts-updater should maintain.
	Configured []HostsLine `json:"configured,omitempty"`
	// Namespace is the namespace of hosts-updater. Updater is its state on the node.
	Namespace string       `json:"namespace,omitempty"`
	Updater   UpdaterState `json:"updater,omitempty"`
	// Lines holds the first line of the node's hosts file for each configured domain, if Known.
	Lines []HostsLine `json:"lines,omitempty"`
	Known bool        `json:"known,omitempty"`
}

// UpdaterState is the state of hosts-updater on a node.
type UpdaterState string

// The states. Blank is unknown.
const (
	UpdaterReady    UpdaterState = "Ready"
	UpdaterNotReady UpdaterState = "NotReady"
	UpdaterMissing  UpdaterState = "Missing"
)

// HostsLine gives a name an address.
type HostsLine struct {
	Domain string `json:"domain"`
	IP     string `json:"ip"`
}

// Manager is the state of the manager.
type Manager struct {
	// Found is whether its Deployment exists. Available is how many of its Replicas are available.
	Found     bool  `json:"found,omitempty"`
	Replicas  int32 `json:"replicas,omitempty"`
	Available int32 `json:"available,omitempty"`
	// LeaseUntil is when the Lease of the last known leader expires; zero if there never was one.
	LeaseUntil time.Time `json:"leaseUntil,omitzero"`
	// Attaches is whether accounts are born with their entries: through the webhook or the admission policy.
	Attaches bool `json:"attaches,omitempty"`
}
