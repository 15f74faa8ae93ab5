package diagnose

import (
	"slices"
	"time"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Evidence is what was seen of a pod and of all that its pulls depend on. What could not be looked at is in Unseen: its absence here
// says nothing.
type Evidence struct {
	Now time.Time `json:"now"`
	// Product is the namespace that the manager is in.
	Product   string    `json:"product,omitempty"`
	Pod       Pod       `json:"pod"`
	Namespace Namespace `json:"namespace"`
	Account   Account   `json:"account"`
	// Secrets are those of the namespace that the pod lists or that an Issuer issues.
	Secrets []Secret `json:"secrets,omitempty"`
	// Issuers are all ImagePullSecrets, as they concern the pod.
	Issuers []Issuer `json:"issuers,omitempty"`
	Node    Node     `json:"node"`
	Manager Manager  `json:"manager"`
	Unseen  []Unseen `json:"unseen,omitempty"`
}

// Part is a part of the evidence that may be hidden from who asks.
type Part string

// What may be hidden.
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

// Unseen is what could not be looked at.
type Unseen struct {
	Part Part `json:"part"`
	// Why names the permission that is missing, or what else went wrong.
	Why string `json:"why"`
}

func (e *Evidence) saw(part Part) bool {
	return !slices.ContainsFunc(e.Unseen, func(u Unseen) bool { return u.Part == part })
}

// Pod is what matters of a pod.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Account   string `json:"account"`
	Node      string `json:"node,omitempty"`
	// Owner is what makes a new one when it is deleted, such as "ReplicaSet app-7d9c"; blank for a pod that nobody makes again.
	Owner string `json:"owner,omitempty"`
	// Entries are the names in its imagePullSecrets. They never change.
	Entries []string `json:"entries,omitempty"`
	Pulls   []Pull   `json:"pulls,omitempty"`
}

// Pull is how far the image of a container has come.
type Pull struct {
	Container string `json:"container"`
	Image     string `json:"image"`
	// Waiting is why the container does not run, where that is its image: the kubelet's word for it.
	Waiting string `json:"waiting,omitempty"`
	// Error is what the container runtime said last.
	Error string `json:"error,omitempty"`
	// Failures counts the pulls that failed, FailedAt is when the last one did; zero where the events are gone.
	Failures int       `json:"failures,omitempty"`
	FailedAt time.Time `json:"failedAt,omitzero"`
	// BeganAt is when the last pull that is known of began; zero where the events are gone.
	BeganAt time.Time `json:"beganAt,omitzero"`
}

// Namespace is what matters of the pod's namespace.
type Namespace struct {
	OptedOut bool `json:"optedOut,omitempty"`
	// Labels are those that ImagePullSecrets may select it by.
	Labels pullsecret.Labels `json:"-"`
}

// Account is what matters of the pod's ServiceAccount.
type Account struct {
	Found    bool     `json:"found"`
	OptedOut bool     `json:"optedOut,omitempty"`
	Entries  []string `json:"entries,omitempty"`
}

// Secret is what matters of a Secret. It holds no credential.
type Secret struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Sum is the SHA-256 of its .dockerconfigjson, in hexadecimal digits.
	Sum string `json:"sum,omitempty"`
	// Problem says why no kubelet can read it; blank where one can.
	Problem string `json:"problem,omitempty"`
	// Servers are the hosts and paths that it has credentials for, as written.
	Servers []string `json:"servers,omitempty"`
	// Updated is when it was last written, as far as its managedFields tell.
	Updated time.Time `json:"updated,omitzero"`
}

// Issuer is an ImagePullSecret, as it concerns the pod.
type Issuer struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
	// Servers are what its credential is for.
	Servers []string `json:"servers,omitempty"`
	// Source names the Secret that its credential stands in; blank where that is in its spec.
	Source string `json:"source,omitempty"`
	// Sum is the checksum of what it issues; blank where that cannot be read, or Source was not looked at.
	Sum string `json:"sum,omitempty"`
	// Registry is the id of the registry instance that the cloud issues its credential for; blank where that stands somewhere.
	Registry string `json:"registry,omitempty"`
	// DomainUnknown is whether the domain of Registry, which is not among Servers then, is not known.
	DomainUnknown bool `json:"domainUnknown,omitempty"`
	// NotIssued is why the cloud does not issue or renew its credential; blank where it does.
	NotIssued string `json:"notIssued,omitempty"`
	// Unread says why its credential cannot be read where it stands; blank where it can, or that is not known.
	Unread string `json:"unread,omitempty"`
	// Namespace is whether it selects the pod's namespace, Account whether it selects the pod's account by name.
	Namespace bool `json:"namespace"`
	Account   bool `json:"account"`
	// LabelsUnseen is whether labels of the namespace decide about Namespace, and could not be seen.
	LabelsUnseen bool `json:"labelsUnseen,omitempty"`
	// Excluded is whether it names the namespace among those that it excludes, Selector what it asks of labels; blank for nothing.
	Excluded bool   `json:"excluded,omitempty"`
	Selector string `json:"selector,omitempty"`
	// Invalid says what is wrong with its spec.
	Invalid string `json:"invalid,omitempty"`
	// Pods says which pods that list pull secrets of their own it is given to; blank for none.
	Pods string `json:"pods,omitempty"`
	// Failures are those of its status that are about the pod's namespace.
	Failures []v1.Failure `json:"failures,omitempty"`
	// Refused is what a registry said when the manager logged in to check the credential; blank where it did not refuse.
	Refused string `json:"refused,omitempty"`
	// ExpiresAt is when its credential ends, where that is known.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
}

// Node is what matters of the pod's node.
type Node struct {
	// Configured are the lines that hosts-updater is to keep.
	Configured []HostsLine `json:"configured,omitempty"`
	// Namespace is where hosts-updater is, Updater how it fares on the node.
	Namespace string       `json:"namespace,omitempty"`
	Updater   UpdaterState `json:"updater,omitempty"`
	// Lines are the first ones of the node's hosts file for each domain that is configured, where Known.
	Lines []HostsLine `json:"lines,omitempty"`
	Known bool        `json:"known,omitempty"`
}

// UpdaterState says how hosts-updater fares on a node.
type UpdaterState string

// How it may fare. Blank is not known.
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

// Manager is what matters of the manager.
type Manager struct {
	// Found is whether its Deployment is there, Available how many of its Replicas are.
	Found     bool  `json:"found,omitempty"`
	Replicas  int32 `json:"replicas,omitempty"`
	Available int32 `json:"available,omitempty"`
	// LeaseUntil is until when a leader is known to lead; zero where none ever did.
	LeaseUntil time.Time `json:"leaseUntil,omitzero"`
	// Attaches is whether accounts are born with their entries: by the webhook that is registered, or by the admission policy.
	Attaches bool `json:"attaches,omitempty"`
}
