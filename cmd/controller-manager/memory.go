package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restPeriod is how often it is looked whether the process rests.
	restPeriod = 5 * time.Second
	// restingBytes is what a process that rests allocates in that time at most, in bytes: it renews a Lease.
	restingBytes = 1 << 20
	// burstBytes is what a burst of work has allocated at least for what it has left to be worth a collection.
	burstBytes = 32 << 20
)

// giveBack returns to the system, until ctx ends, what a burst of work has left in the heap, once it is over. The runtime would
// wait for the next collection, which in a process that rests is minutes away, and keep the most that it ever needed.
func giveBack(ctx context.Context) {
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(restPeriod)
	defer tick.Stop()
	var looked, given uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
		if resting(now-looked, now-given) {
			debug.FreeOSMemory()
			given = now
		}
		looked = now
	}
}

// resting reports whether a burst of work is over, by what was allocated since the last look and since memory was last given back.
func resting(sinceLook, sinceGiven uint64) bool {
	return sinceLook <= restingBytes && sinceGiven >= burstBytes
}
