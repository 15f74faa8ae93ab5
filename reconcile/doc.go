// Package reconcile brings Secrets and ServiceAccounts in line with the ImagePullSecrets.
//
// It watches the cluster, lets package plan decide, makes the writes, and lets package status report the results. The path of a Secret:
//
//	ImagePullSecret ──informer──> Index ──> Rules ──┐
//	                                                ├─> plan.For ──> IssueSecret ──> POST or apply ──┐
//	Namespaces, Secrets ──watch──> plan.State ──────┘                                                │
//	                                   ^                                                             │
//	                                   ├──────── the answer: the Secret as it is now ────────────────┤
//	                                   │                                                             v
//	                                   └──> status of the ImagePullSecret, events, counts <── success or failure
//
// A queue holds the namespaces to compare: those that a watch reported something about, those that a changed ImagePullSecret selects, and
// periodically all of them. For each namespace it holds the plan.Part to compare: an event about an account or about a Secret's content
// concerns that object alone, so that the cost of an event does not depend on what else is in its namespace. Each worker takes one
// namespace at a time, with everything gathered for it, and plans it from the state alone, so it does not matter why it was queued, nor
// how often. The answer to a write goes into the state at once: the next plan does not wait for the watch. An object that fails is queued
// again by itself, with a growing delay; one that is refused or undone again and again waits longer.
package reconcile
