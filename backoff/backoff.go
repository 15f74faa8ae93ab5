// Package backoff says how long those wait who write the same again and again: after a failure, after a write, and where another
// writer undoes it.
//
// Another writer may undo what is written as soon as it is. What stands in one object, which has to be whole soon, is restored
// at the rate of [Restores]. That is not for all:
//
//   - There are thousands of Secrets and entries. Each is delayed by itself, ever longer, and the status of its ImagePullSecret says
//     so: reconcile/plan.RepairBackoff.
//   - Webhook configurations are written by rotations, too, in which no write may wait for long: webhook/registration bounds all of
//     them together, at a higher rate.
//   - Whoever deletes the certificate costs the signer a new one: certs bounds what is issued, not what is written.
//   - privatenetwork/keeper asks once a minute, so it writes once a second at most and looks again.
//   - On nodes it is a file, and hostsd imports nothing of ours: its repairs wait ever longer, up to seconds.
package backoff

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Sleep returns after a time, or once ctx ends.
func Sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jitter is by how much a pause between failures may be longer: an API server that comes back is not asked by all at once.
const jitter = 0.5

// Between returns the pauses between failures: each is twice as long as the one before, and up to a half longer by chance.
func Between(first, longest time.Duration) wait.Backoff {
	return wait.Backoff{Duration: first, Factor: 2, Jitter: jitter, Steps: math.MaxInt, Cap: longest}
}

// Doubled returns a time that was doubled so often, and no more than the longest.
func Doubled(first time.Duration, times int, longest time.Duration) time.Duration {
	for ; times > 0 && first < longest; times-- {
		first *= 2
	}
	return min(first, longest)
}

// Spread returns a time that is by up to a half shorter or longer than the given one, by chance.
func Spread(pause time.Duration) time.Duration { return pause/2 + rand.N(pause) }

const (
	// leastAfterWrite is how long nothing is written after a write, at least.
	leastAfterWrite = 50 * time.Millisecond
	// writeFactor is by how much that is longer than the write took.
	writeFactor = 8
	// LongestAfterWrite is how long nothing is written after a write, at most.
	LongestAfterWrite = 2 * time.Second
)

// AfterWrite returns for how long nothing is written after a write that took so long, so that thousands of changes at once cost the
// API server a share of its time and no more.
func AfterWrite(took time.Duration) time.Duration {
	return min(max(leastAfterWrite, writeFactor*took), LongestAfterWrite)
}

// restoresPerSecond and restoresAtOnce bound how often what others change is taken back.
const (
	restoresPerSecond = 1
	restoresAtOnce    = 20
)

// Restores bounds how often an object is written with what it was written with last, because another writer has changed it meanwhile.
// The first ones are made at once; then neither side goes at full speed.
func Restores() *rate.Limiter { return rate.NewLimiter(restoresPerSecond, restoresAtOnce) }
