// Package secretsrole keeps the ClusterRole that lists, by name, the Secrets that the manager may read and change.
//
// RBAC has no patterns: a permission for "every Secret whose name begins with tcr.ips" cannot be granted. So the manager keeps the list
// of names itself, and an admission policy restricts it to such names, and to Secrets:
//
//	Want, Drop, Borrow ──> names ──┐
//	                               ├──> decide ──> write ──> ask whether it is in force ──> Granted
//	the role, watched ─────────────┘
//
// The role is read and written as a whole, for any number of names at once. What a write grants is in force once the API server's
// authorizer has seen it, which is moments later: the authorizer is asked until it says so, and nothing is tried before.
package secretsrole
