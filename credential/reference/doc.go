// Package reference follows the Secrets that ImagePullSecrets refer to, and supplies the Index with the credentials in them.
//
// There is one watch of the Secrets of the manager's namespace, however many are referred to, and none while none is. Events of other
// Secrets are dropped unread, and credentials are kept only in the rules that issue them. So when a rule begins to refer to a Secret, the
// watch does not know its credential: that Secret is listed, by name.
//
//	Secrets of the namespace ──watch──┐
//	                                  ├──> order by version ──> credential.Of ──> Index.Supply
//	new references ──list by name─────┘
package reference
