// Package pullsecret says what an ImagePullSecret means: which namespaces and service accounts it selects, what its
// Secret holds, and which edits bring a ServiceAccount in line. It is pure. Admission and reconciliation share one
// matching rule and one Index, so that they can never disagree.
package pullsecret
