// Package reconcile brings Secrets and ServiceAccounts in line with the ImagePullSecrets, and says so in their status.
//
// State is what the API server has, as far as watched. Plan compares one namespace of it with the rules and returns the
// writes that are missing, as values. Controller feeds the one, runs the other and makes the writes.
package reconcile
