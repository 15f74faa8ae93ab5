// Package derived stores in the API what all ImagePullSecrets together attach to ServiceAccounts: the parameter of the admission policy
// that attaches it inside the API server. With one derived object the policy is evaluated once, however many ImagePullSecrets there are.
//
//	ImagePullSecrets ──> pullsecret.Derive ──> compare ──> create, patch, delete DerivedAttachments
//	                                             ^
//	watch of their metadata ─────────────────────┘
//
// The stored objects can be large, so only their metadata is watched: the generation shows whether an object is as it was last written,
// and only where it is not, the object is read.
package derived
