//go:build !linux

package reconcile

import "time"

// nap sleeps for a fraction of a millisecond, or for as long as the system rounds that up to.
func nap(pause time.Duration) { time.Sleep(pause) }
