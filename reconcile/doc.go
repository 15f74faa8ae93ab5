// Package reconcile brings Secrets and ServiceAccounts in line with the ImagePullSecrets.
//
// It follows the cluster, has package plan decide, makes the writes, and has package status tell what has become of them.
package reconcile
