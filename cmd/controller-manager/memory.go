package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restPeriod is how often to look whether the process is idle.
	restPeriod = 5 * time.Second
	// restingBytes is the maximum that an idle process allocates in that time, in bytes: it renews a Lease.
	restingBytes = 1 << 20
	// burstBytes is how much a burst of work must have allocated for a collection to be worthwhile, in bytes.
	burstBytes = 32 << 20
)

// giveBack returns free memory to the system after each burst of work, until ctx ends. The runtime would wait for the next collection,
// which is minutes away in an idle process, and keep the most that it ever needed.
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

// resting reports whether a burst of work is over, by how much was allocated since the last look and since memory was last returned.
func resting(sinceLook, sinceGiven uint64) bool {
	return sinceLook <= restingBytes && sinceGiven >= burstBytes
}
