package plan

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Secret is what reconciliation knows of a Secret. Of its data it keeps only a checksum.
type Secret struct {
	Name    string
	Version uint64 // metadata.resourceVersion
	// Docker is whether it is of type kubernetes.io/dockerconfigjson.
	Docker bool
	// Managed is whether it has our label.
	Managed bool
	// Immutable is whether its data can no longer be changed.
	Immutable bool
	// Owners are the ImagePullSecrets among its owners.
	Owners []types.UID
	// Sum is the SHA-256 of its .dockerconfigjson.
	Sum [32]byte
	// Updated is when we last wrote it, in Unix seconds.
	Updated int64
	// Writer is the field manager that wrote it after us; blank where none is known.
	Writer string
}

// sameHands reports whether another version of a Secret belongs to us, or to somebody else, as this one does.
func (s Secret) sameHands(other Secret) bool {
	return s.Managed == other.Managed && (len(s.Owners) > 0) == (len(other.Owners) > 0)
}

// Account is what reconciliation knows of a ServiceAccount.
type Account struct {
	Name    string
	Version uint64 // metadata.resourceVersion
	// Secrets are the names in its imagePullSecrets, in their order.
	Secrets []string
	// Updated is when we last wrote it, or when it was created where we never did, in Unix seconds.
	Updated int64
	// Writer is the field manager that wrote its imagePullSecrets after us; blank where none is known.
	Writer string
	// OptOut is what its opt-out label says.
	OptOut pullsecret.OptOut
	// Enforces is whether its pods may use only the Secrets that it lists.
	Enforces bool
}

// BarsPods reports whether spec.pods adds no pull secret to pods of the account that list their own.
func (a Account) BarsPods() bool { return a.Enforces || a.OptOut == pullsecret.OptedOut }

// Namespace is a namespace and the objects in it.
type Namespace struct {
	Name string
	// UID distinguishes it from another namespace of its name; blank where only objects in it have been seen.
	UID types.UID
	// Live is whether it accepts new objects: false for one that is being deleted or has not been seen itself.
	Live bool
	// OptOut is what its opt-out label says.
	OptOut pullsecret.OptOut
	// Labels are set in a view only, and only where some rule selects by labels.
	Labels   pullsecret.Labels
	Secrets  []Secret  // by name
	Accounts []Account // by name

	// problems are the problems that the last attempt to reconcile each object has left.
	problems map[localKey][]Problem
}

// Secret returns the Secret of that name.
func (n *Namespace) Secret(name string) (Secret, bool) {
	i, found := slices.BinarySearchFunc(n.Secrets, name, Secret.compare)
	if !found {
		return Secret{}, false
	}
	return n.Secrets[i], true
}

// Account returns the ServiceAccount of that name.
func (n *Namespace) Account(name string) (Account, bool) {
	i, found := slices.BinarySearchFunc(n.Accounts, name, Account.compare)
	if !found {
		return Account{}, false
	}
	return n.Accounts[i], true
}

func (s Secret) named() string            { return s.Name }
func (a Account) named() string           { return a.Name }
func (s Secret) compare(name string) int  { return strings.Compare(s.Name, name) }
func (a Account) compare(name string) int { return strings.Compare(a.Name, name) }
func (s Secret) version() uint64          { return s.Version }
func (a Account) version() uint64         { return a.Version }

// With returns the namespace with these Secrets added.
func (n Namespace) With(secrets ...Secret) Namespace {
	n.Secrets = slices.Clone(n.Secrets)
	for _, secret := range secrets {
		put(&n.Secrets, secret)
	}
	return n
}
