// Package backoff says how long to wait before writing the same again: after a failure, after a write, and while another writer undoes
// it.
//
// Another writer may undo a write at once. What one object holds must be correct again soon, so it is restored at the rate of
// [Restores]. Some writers have bounds of their own:
//
//   - There are thousands of Secrets and entries. Each is delayed separately, longer each time, and the status of its ImagePullSecret
//     says so: reconcile/plan.RepairBackoff.
//   - Webhook configurations are also written by rotations, in which no write may wait for long: webhook/registration bounds all their
//     writes together, at a higher rate.
//   - Whoever deletes the certificate costs the signer a new one: certs bounds how many are issued, not how many are written.
//   - privatenetwork/keeper asks once a minute, so it writes once a second at most and looks again.
//   - On nodes, a file is written, and hostsd imports none of our packages: its repairs wait longer each time, up to seconds.
package backoff

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Sleep returns after the pause, or once ctx ends.
func Sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jitter is by which part a pause between failures may be longer, so that an API server that comes back is not asked by all clients at
// once.
const jitter = 0.5

// Between returns the pauses between failures: each is twice as long as the one before, up to the longest, and then up to a half longer
// at random.
func Between(first, longest time.Duration) wait.Backoff {
	return wait.Backoff{Duration: first, Factor: 2, Jitter: jitter, Steps: math.MaxInt, Cap: longest}
}

// Doubled returns first, doubled that many times, but at most longest.
func Doubled(first time.Duration, times int, longest time.Duration) time.Duration {
	for ; times > 0 && first < longest; times-- {
		first *= 2
	}
	return min(first, longest)
}

// Spread returns a random pause, up to a half shorter or longer than the given one.
func Spread(pause time.Duration) time.Duration { return pause/2 + rand.N(pause) }

const (
	// leastAfterWrite is the shortest pause after a write.
	leastAfterWrite = 50 * time.Millisecond
	// writeFactor is how many times as long as the write the pause is.
	writeFactor = 8
	// LongestAfterWrite is the longest pause after a write.
	LongestAfterWrite = 2 * time.Second
)

// AfterWrite returns how long to pause after a write that took that long, so that thousands of changes at once cost the API server no
// more than a fixed share of its time.
func AfterWrite(took time.Duration) time.Duration {
	return min(max(leastAfterWrite, writeFactor*took), LongestAfterWrite)
}

// restoresPerSecond and restoresAtOnce bound how often changes by others are undone.
const (
	restoresPerSecond = 1
	restoresAtOnce    = 20
)

// Restores returns a limit on how often an object is written again because another writer has changed it. The first writes are made at
// once; after that, neither side goes at full speed.
func Restores() *rate.Limiter { return rate.NewLimiter(restoresPerSecond, restoresAtOnce) }
