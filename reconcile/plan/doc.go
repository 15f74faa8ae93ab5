// Package plan decides what reconciliation does.
//
// State is the cluster as far as it was seen, and Agenda what of it is to be compared. ForPart compares that of one namespace with the
// rules and returns the writes that are missing, as values. RepairBackoff and Refusals say which of them have to wait, and until
// when. Summarize says in a status how far it all has got, and EventAggregator which events tell of it. Nothing here calls the API server or reads a clock:
//
//	watches, answers ──> State ──┬─> ForPart ──> Changes ──> RepairBackoff, Refusals ──> (written by package reconcile)
//	ImagePullSecrets ──> Rules ──┴─> Summarize, EventAggregator ──> (written by package status)
package plan
