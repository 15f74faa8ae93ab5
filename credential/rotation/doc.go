// Package rotation decides which tokens an ImagePullSecret needs, when they are replaced, and when the old ones go. It is pure: what is
// stored, what the cloud lists and what the Secrets hold go in, and the next steps come out as values. Whoever makes them asks again
// after each, so that it may end between any two of them and another one go on.
//
//	create ──> store ──> issue ──> every Secret has it ──> wait ──> disable the old one ──> wait ──> delete it
//
// Two things keep a token that is in use from being disabled, even while two processes believe that they lead. Nothing is issued
// that is not stored, and nothing is disabled that is not stored as superseded or abandoned; and whoever stores a record does so on the
// version that it decided from, so that of two the second learns that its knowledge is old. A token that was created and not stored is
// found by its description. It is stored as abandoned first, and whoever may still hold it can then no longer store it as its own.
// Where a Secret holds what no record explains, a record may have been lost: what is found then is taken for one in use.
package rotation
