// Package secretsrole keeps the one ClusterRole that lists, by name, the Secrets which the manager may read and change.
//
// RBAC has no patterns: a permission for "every Secret whose name begins with tcr.ips" cannot be given. So the manager keeps
// the list of names itself, and an admission policy holds it to names of that kind, and to nothing but Secrets:
//
//	Want, Drop, Borrow ──> names ──┐
//	                               ├──> decide ──> write ──> ask whether it is in force ──> Granted
//	the role, watched ─────────────┘
//
// The role is read and written whole, for however many names at once. What a write grants is in force once the API server's
// authorizer has heard of it, which is moments later: it is asked until it says so, and nothing is tried before.
package secretsrole
