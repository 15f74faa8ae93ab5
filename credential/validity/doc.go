// Package validity finds out whether registries take the credentials that are issued, and says so. It runs on the leader alone: it logs
// in as a kubelet would, by package check, after each change of a credential or of the authorities that it is checked with, and then
// again and again, and withholds nothing, whatever comes of it.
//
// When to log in, and what the answers come to, is decided in plan.go, which is pure. A server of an ImagePullSecret is asked once a
// minute at most, whatever happens: what this process has asked it remembers, and what another one has asked stands in the status, since
// a login is made only once the status says so.
package validity
