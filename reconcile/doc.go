// Package reconcile brings Secrets and ServiceAccounts in line with the ImagePullSecrets.
//
// It watches the cluster, has package plan decide, makes the writes, and has package status tell what has become of them. The
// way of a Secret:
//
//	ImagePullSecret ──informer──> Index ──> Rules ──┐
//	                                                ├─> plan.For ──> IssueSecret ──> POST or apply ──┐
//	Namespaces, Secrets ──watch──> plan.State ──────┘                                                │
//	                                   ^                                                             │
//	                                   ├──────── the answer: the Secret as it is now ────────────────┤
//	                                   │                                                             v
//	                                   └──> status of the ImagePullSecret, events, counts <── success or failure
//
// A queue holds the namespaces to compare: those of which a watch told something, those that a changed ImagePullSecret selects,
// and once in a while all of them. With each it holds what of it is concerned, a plan.Part: news of an account or of a Secret's
// content are about that object alone, so that what an event costs does not depend on what else stands in its namespace. Each worker
// takes one namespace at a time, with all that was gathered of it, and plans it from the state alone, so it does not matter why it was
// queued, nor how often. The answer to a write is taken into the state at once: the next plan does not wait for the watch. What fails
// is queued again by itself, later each time; what is refused or undone again and again waits for longer.
package reconcile
