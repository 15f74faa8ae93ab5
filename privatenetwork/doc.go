// Package privatenetwork decides which lines of hosts files lead to a registry over a private network, and what is to be said of that.
// It is pure: what the cloud answered goes in, lines and a condition come out.
package privatenetwork
