package reconcile

import (
	"syscall"
	"time"
)

// nap sleeps for a fraction of a millisecond. time.Sleep does not: a process that is otherwise idle waits for its timers in epoll_wait,
// which counts in whole milliseconds.
func nap(pause time.Duration) {
	if pause > 0 {
		spec := syscall.NsecToTimespec(pause.Nanoseconds())
		_ = syscall.Nanosleep(&spec, nil) // a signal ends it early, which does no harm
	}
}
