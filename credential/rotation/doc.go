// Package rotation decides which tokens an ImagePullSecret needs, when to replace them, and when to revoke the old ones. It is pure: what
// is stored, what the cloud lists and what the Secrets hold go in, and the next steps come out as values. The caller carries them out and
// asks again after each, so that it may die between any two, and another process can go on.
//
//	create ──> store ──> issue ──> every Secret has it ──> wait ──> disable the old one ──> wait ──> delete it
//
// Two rules keep a token that is in use from being disabled, even while two processes believe that they lead. First, no token is issued
// before it is stored, and none is disabled before it is stored as replaced or abandoned. Second, a record is stored only in place of the
// version that the decision was based on, so of two processes the second learns that its knowledge is old. A token that was created and not
// stored is found by its description. It is first stored as abandoned; after that, the process that created it can no longer store it as
// its own. If a Secret holds what no record explains, a record may have been lost: tokens that are found then count as in use.
package rotation
