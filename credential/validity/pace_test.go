package validity

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

func TestAThousandAreNoBurst(t *testing.T) {
	in(t, func(w *world) {
		for i := range 1000 {
			w.put(fmt.Sprint("r", i))
		}
		w.start()
		wait(pause + lag - time.Second)
		assert.Empty(t, w.seen(), "another leader may have asked just before")
		wait(30 * time.Minute)
		assert.Len(t, w.seen(), 1000)
		perMinute := map[time.Time]int{}
		for _, times := range w.seen() {
			require.Len(t, times, 1)
			perMinute[times[0].Truncate(time.Minute)]++
		}
		for minute, count := range perMinute {
			assert.LessOrEqual(t, count, atOnce+60*perSecond, minute)
		}

		// Another leader goes on where this one was.
		w.stop()
		w.start()
		before := len(w.seen())
		wait(10 * time.Minute)
		assert.Len(t, w.seen(), before)
		for _, times := range w.seen() {
			assert.Len(t, times, 1, "each has its time")
		}
		wait(time.Hour)
		for name, times := range w.seen() {
			require.Len(t, times, 2, name)
			assert.InDelta(t, time.Hour.Seconds(), times[1].Sub(times[0]).Seconds(), time.Hour.Seconds()*spread+60)
		}
	})
}

func TestRegistriesThatDoNotAnswerHoldUpNobodyForLong(t *testing.T) {
	in(t, func(w *world) {
		w.answer = func(login check.Login) check.Result {
			if login.Server != "good" {
				time.Sleep(20 * time.Second)
			}
			return check.Result{Verdict: check.Valid, Reason: "LoggedIn"}
		}
		w.start()
		wait(pause + lag)
		for i := range workers - 1 {
			w.put(fmt.Sprint("slow", i))
		}
		wait(2 * time.Second)
		w.put("good")
		wait(2 * time.Second)
		assert.Equal(t, 1, w.asked("good"))
	})
}

func TestWhatHasToWaitIsAskedWithWhatThereIsByThen(t *testing.T) {
	in(t, func(w *world) {
		var outdated []string
		w.answer = func(login check.Login) check.Result {
			w.mu.Lock()
			defer w.mu.Unlock()
			if time.Now().After(w.edited) && !w.edited.IsZero() && login.Password != "another" {
				outdated = append(outdated, login.Server)
			}
			return check.Result{Verdict: check.Valid, Reason: "LoggedIn"}
		}
		w.start()
		wait(pause + lag)
		for i := range 30 {
			w.put(fmt.Sprint("r", i))
		}
		wait(settling + 100*time.Millisecond)
		w.edited = time.Now()
		before := w.asked("r29")
		w.remove("r29")
		for i := range 29 {
			w.put(fmt.Sprint("r", i), password("another"))
		}
		wait(10 * time.Minute)
		assert.Empty(t, outdated)
		assert.Equal(t, before, w.asked("r29"), "it is gone")
	})
}

func TestManyServersThatDoNotAnswerHoldUpNobodyForLong(t *testing.T) {
	in(t, func(w *world) {
		w.answer = func(login check.Login) check.Result {
			if login.Server != "good" {
				time.Sleep(20 * time.Second)
			}
			return check.Result{Verdict: check.Valid, Reason: "LoggedIn"}
		}
		w.start()
		wait(pause + lag)
		for i := range workers {
			w.put(fmt.Sprint("slow", i), func(spec *v1.ImagePullSecretSpec) {
				for j := range 16 {
					spec.Docker.AdditionalServers = append(spec.Docker.AdditionalServers, fmt.Sprintf("slow%d-%d", i, j))
				}
			})
		}
		wait(2 * time.Second)
		w.put("good")
		wait(30 * time.Second)
		assert.Equal(t, 1, w.asked("good"))
	})
}
