package hostsd

import "time"

const (
	// configDelay makes one pass of the several events of a folder's swap.
	configDelay = 50 * time.Millisecond
	// repairDelay is the same for the hosts file, and the first pause between repairs.
	repairDelay = 100 * time.Millisecond
	// maxRepairDelay bounds the pause between repairs while somebody keeps undoing them.
	maxRepairDelay = 10 * time.Second
	// backoffReset is the time without a repair after which the next one is prompt again.
	backoffReset = time.Minute
	retryDelay   = time.Second
	// maxRetryDelay bounds how late a hosts file that became writable is noticed.
	maxRetryDelay = 30 * time.Second
)

// repairBackoff decides when the next pass is due. If another instance wants different lines, or any program undoes ours, the pauses grow,
// so that nobody can keep the processor busy by undoing.
type repairBackoff struct {
	resync     time.Duration
	failures   int       // passes in a row that failed
	repairs    int       // repairs in a row
	lastRepair time.Time // of the last repair
	notBefore  time.Time // the earliest pass that a change of the hosts file may cause
}

// passed records a pass and returns when the next is due if nothing happens. jitter, in [0, 1), keeps the nodes of a cluster from working
// in step.
func (b *repairBackoff) passed(now time.Time, failed, repaired bool, jitter float64) time.Time {
	if now.Sub(b.lastRepair) > backoffReset {
		b.repairs = 0
	}
	if repaired {
		b.repairs++
		b.lastRepair = now
	}
	due := now.Add(b.resync + time.Duration((jitter-0.5)*0.2*float64(b.resync)))
	b.notBefore = b.lastRepair.Add(doubled(repairDelay, b.repairs, maxRepairDelay))
	if !failed {
		b.failures = 0
		return due
	}
	retry := now.Add(doubled(retryDelay, b.failures, maxRetryDelay))
	b.failures++
	if b.notBefore.Before(retry) {
		b.notBefore = retry
	}
	if retry.Before(due) {
		return retry
	}
	return due
}

// configChanged returns when a pass is due after a change of the configuration.
func (b *repairBackoff) configChanged(now time.Time) time.Time { return now.Add(configDelay) }

// fileChanged returns when a pass is due after a change of the hosts file.
func (b *repairBackoff) fileChanged(now time.Time) time.Time {
	due := now.Add(repairDelay)
	if due.Before(b.notBefore) {
		return b.notBefore
	}
	return due
}

func doubled(d time.Duration, times int, limit time.Duration) time.Duration {
	for range times {
		if d *= 2; d >= limit {
			return limit
		}
	}
	return d
}
