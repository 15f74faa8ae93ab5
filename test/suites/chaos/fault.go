package chaos

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// source returns the random numbers of one stream of a seed. Every stream has its own, so that what one goroutine draws does
// not depend on how fast the others are.
func source(seed uint64, stream ...any) *rand.Rand {
	hash := fnv.New64a()
	for _, part := range stream {
		_, _ = fmt.Fprintf(hash, "%v\x00", part) // it never fails
	}
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// hostility says how often the API server misbehaves, in percent of the requests that it can happen to. Each seed draws its
// own: what one kind of fault would mend, such as a relist, must be absent somewhere for another to be seen.
type hostility struct {
	lateRequest, refused, cutBefore         int // before it is passed on
	lateAnswer, cutAfter, refusedAfterwards int // once it was carried out
	lateEvent, endedWatch, relist           int // while it is watched
	partition                               int // of the time
}

func newHostility(seed uint64) hostility {
	random := source(seed, "hostility")
	upTo := func(most int) int {
		if random.IntN(3) == 0 {
			return 0
		}
		return 1 + random.IntN(most)
	}
	return hostility{
		lateRequest: upTo(20), refused: upTo(30), cutBefore: upTo(10),
		lateAnswer: upTo(60), cutAfter: upTo(15), refusedAfterwards: upTo(10),
		lateEvent: upTo(25), endedWatch: upTo(80), relist: upTo(40),
		partition: upTo(60),
	}
}

func (h hostility) String() string {
	return fmt.Sprintf("late requests %d %%, refused %d %%, cut before %d %%, late answers %d %%, cut after %d %%, refused after %d %%, "+
		"late events %d %%, ended watches %d %%, relists %d %%, partitions %d %%",
		h.lateRequest, h.refused, h.cutBefore, h.lateAnswer, h.cutAfter, h.refusedAfterwards, h.lateEvent, h.endedWatch, h.relist, h.partition)
}

// request is what a fault is chosen by: who asked for what, and how often before. Two runs of a seed give equal requests
// equal faults, whenever they come.
type request struct {
	replica, method, path string
	watch                 bool
	count                 int
}

func (r request) String() string {
	verb := r.method
	if r.watch {
		verb = "WATCH"
	}
	return fmt.Sprintf("%s %s #%d", verb, r.path, r.count)
}

func (r request) writes() bool { return r.method != http.MethodGet }

// fault is what happens to one request. The zero value is nothing.
type fault struct {
	before  time.Duration // it is passed on so much later
	refuse  int           // it is answered with this status and not carried out
	cut     bool          // the connection ends instead of that
	after   time.Duration // it is answered so much later
	retract int           // it is carried out and answered with this status nevertheless
	cutLate bool          // it is carried out and the connection ends instead of the answer
	watch   watchFault
}

// watchFault is what happens to a watch that was let begin.
type watchFault struct {
	late int           // percent of the events that come late
	ends time.Duration // it ends after so long; 0 for never
	how  ending
}

// ending is how a watch ends.
type ending string

const (
	inOrder   ending = "in order"
	inAnEvent ending = "in the middle of an event"
	expired   ending = "with 410"
)

// fault returns what happens to a request.
func (h hostility) fault(seed uint64, r request) fault {
	random := source(seed, "fault", r)
	chance := func(percent int) bool { return random.IntN(100) < percent }
	upTo := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	var f fault
	if chance(h.lateRequest) {
		f.before = upTo(400 * time.Millisecond)
	}
	refusals := []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	switch {
	case r.watch:
		refusals = append(refusals, http.StatusGone)
	case r.method == http.MethodPost:
		refusals = append(refusals, http.StatusUnprocessableEntity)
	case r.writes():
		refusals = append(refusals, http.StatusConflict, http.StatusConflict, http.StatusUnprocessableEntity)
	}
	if chance(h.refused) {
		f.refuse = refusals[random.IntN(len(refusals))]
		return f
	}
	if f.cut = chance(h.cutBefore); f.cut {
		return f
	}
	if r.watch {
		f.watch.late = h.lateEvent
		if chance(h.endedWatch) {
			f.watch.ends, f.watch.how = 50*time.Millisecond+upTo(4*time.Second), []ending{inOrder, inAnEvent}[random.IntN(2)]
			if chance(h.relist) {
				f.watch.how = expired
			}
		}
		return f
	}
	if r.writes() && chance(h.lateAnswer) {
		f.after = upTo(1500 * time.Millisecond)
	}
	switch {
	case r.writes() && chance(h.refusedAfterwards):
		f.retract = []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout}[random.IntN(3)]
	case chance(h.cutAfter):
		f.cutLate = true
	}
	return f
}

func (f fault) String() string {
	var said []string
	say := func(when bool, format string, args ...any) {
		if when {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	say(f.before > 0, "passed on after %s", f.before.Round(time.Millisecond))
	say(f.refuse > 0, "refused with %d", f.refuse)
	say(f.cut, "cut before")
	say(f.after > 0, "answered after %s", f.after.Round(time.Millisecond))
	say(f.retract > 0, "carried out and answered with %d", f.retract)
	say(f.cutLate, "carried out and cut")
	say(f.watch.ends > 0, "ends after %s %s", f.watch.ends.Round(time.Millisecond), f.watch.how)
	return strings.Join(said, ", ")
}

// reach says which of the two replicas can reach the API server, and for how long that stays so.
type reach struct {
	replicas [2]bool
	lasts    time.Duration
}

// reach returns what follows: the nth of its kind.
func (h hostility) reach(seed uint64, n int) reach {
	random := source(seed, "reach", n)
	one := random.IntN(2)
	lasts := 200*time.Millisecond + time.Duration(random.Int64N(int64(3*time.Second)))
	switch {
	case random.IntN(100) >= h.partition:
		return reach{[2]bool{true, true}, lasts}
	case random.IntN(5) == 0:
		return reach{[2]bool{false, false}, lasts / 3}
	default:
		return reach{[2]bool{one == 0, one == 1}, lasts}
	}
}
