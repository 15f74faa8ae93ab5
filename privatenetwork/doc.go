// Package privatenetwork decides which lines of hosts files lead to a registry over a private network, and what to report about it. It is
// pure: what the cloud answered goes in, lines and a condition come out.
package privatenetwork
