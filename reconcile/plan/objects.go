package plan

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Secret is what reconciliation knows of a Secret. Its data is known by checksum only.
type Secret struct {
	Name    string
	Version uint64 // metadata.resourceVersion
	// Docker tells type kubernetes.io/dockerconfigjson from any other.
	Docker bool
	// Managed tells a Secret that bears our label from a foreign one.
	Managed bool
	// Immutable is whether its data can no longer be changed.
	Immutable bool
	// Owners are the ImagePullSecrets among its owners.
	Owners []types.UID
	// Sum is the SHA-256 of its .dockerconfigjson.
	Sum [32]byte
	// Updated is when we last wrote it, in Unix seconds.
	Updated int64
	// Writer is the field manager that wrote it after us, where one is known.
	Writer string
}

// sameHands reports whether another version of a Secret is as much ours, or somebody else's, as this one.
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
	// Writer is the field manager that wrote its imagePullSecrets after us, where one is known.
	Writer string
	// OptOut is what its owner says of whether it is kept out.
	OptOut pullsecret.OptOut
	// Enforces is whether its pods may mention no Secrets but those that it lists.
	Enforces bool
}

// BarsPods reports whether pods of the account that list pull secrets of their own get no others.
func (a Account) BarsPods() bool { return a.Enforces || a.OptOut == pullsecret.OptedOut }

// Namespace is one namespace with what stands in it.
type Namespace struct {
	Name string
	// UID tells it from another one of its name; blank where it has not been seen itself.
	UID types.UID
	// Live tells a namespace that takes new objects from one that is being deleted or not yet seen.
	Live bool
	// OptOut is what its owner says of whether it is kept out.
	OptOut pullsecret.OptOut
	// Labels are known in a view alone, and only where some rule selects by labels.
	Labels   pullsecret.Labels
	Secrets  []Secret  // by name
	Accounts []Account // by name

	// problems are what the last attempt to bring each object in line has left.
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

// With returns the namespace with these Secrets in it, too.
func (n Namespace) With(secrets ...Secret) Namespace {
	n.Secrets = slices.Clone(n.Secrets)
	for _, secret := range secrets {
		put(&n.Secrets, secret)
	}
	return n
}
