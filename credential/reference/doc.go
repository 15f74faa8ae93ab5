// Package reference follows the Secrets that ImagePullSecrets refer to, and supplies the Index with the credentials in them.
//
// There is one watch, of the Secrets of the manager's namespace, however many are referred to, and none while none is. What it
// tells of others is dropped before it is looked at, and credentials are kept nowhere but in the rules that issue them. So the
// credential of a rule that begins to refer to a Secret is not known from the watch: that Secret is listed, by its name.
//
//	Secrets of the namespace ──watch──┐
//	                                  ├──> order by version ──> credential.Of ──> Index.Supply
//	new references ──list by name─────┘
package reference
