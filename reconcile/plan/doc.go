// Package plan decides what reconciliation does.
//
// State is the cluster as far as it was seen, and Agenda is which parts of it have to be compared. ForPart compares a part of one
// namespace with the rules and returns the missing writes as values. RepairBackoff and Refusals decide which of them have to wait, and
// until when. Summarize turns progress into a status, and EventAggregator into events. Nothing here calls the API server or reads a
// clock:
//
//	watches, answers ──> State ──┬─> ForPart ──> Changes ──> RepairBackoff, Refusals ──> (written by package reconcile)
//	ImagePullSecrets ──> Rules ──┴─> Summarize, EventAggregator ──> (written by package status)
package plan
