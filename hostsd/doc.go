// Package hostsd keeps lines of a node's hosts file.
//
// What the file should hold is decided by pure functions: ParseConfig turns the configuration into entries, Edit turns a file and entries
// into a file. Only Update writes, and Daemon decides when.
//
// Every line this package owns ends in Marker. All other bytes of the file belong to
// somebody else and stay as they are, in their order.
package hostsd
