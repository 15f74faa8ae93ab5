// Package validity finds out whether registries take the credentials that are issued, and reports it. It runs on the leader alone. It logs
// in as a kubelet would, by package check, after each change of a credential or of the certificate authorities that it is checked with, and
// then periodically. Whatever the result, the credential is still issued.
//
// plan.go, which is pure, decides when to log in and what the answers mean. Each server of an ImagePullSecret is asked at most once a
// minute, whatever happens: this process remembers its own logins, and those of another process are in the status, since a login is made
// only once the status announces it.
package validity
