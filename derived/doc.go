// Package derived keeps in the API what all ImagePullSecrets together attach to ServiceAccounts: the parameter of the admission
// policy that attaches it inside the API server. With one derived object the policy is evaluated once, however many
// ImagePullSecrets there are.
//
//	ImagePullSecrets ──> pullsecret.Derive ──> compare ──> make, change, delete DerivedAttachments
//	                                             ^
//	watch of their metadata ─────────────────────┘
//
// What is stored can be large, so only its metadata is watched: its generation tells whether it is what was written last, and
// only where it is not it is read.
package derived
