// Package namespaces knows the labels of all namespaces, for as long as some ImagePullSecret selects by labels; else it watches
// nothing and holds nothing.
//
//	Need ──> watch of namespaces ──> Cache ──> Labels: reconciliation, admission
//	                                   ^
//	Ask ──> one namespace, read ───────┘
//
// An account can be created before the watch tells of its namespace: to Ask then reads that one.
package namespaces
