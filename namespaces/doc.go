// Package namespaces knows the labels of all namespaces while some ImagePullSecret selects by labels; otherwise it watches nothing
// and holds nothing.
//
//	Need ──> watch of namespaces ──> Cache ──> Labels: reconciliation, admission
//	                                   ^
//	Ask ──> one namespace, read ───────┘
//
// An account can be created before the watch reports its namespace: then Ask reads that namespace.
package namespaces
