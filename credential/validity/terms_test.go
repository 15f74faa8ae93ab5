package validity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

func TestLeadersThatChangeCheckNonetheless(t *testing.T) {
	in(t, func(w *world) {
		w.put("r")
		w.start()
		terms := func(count int) {
			for range count {
				wait(21 * time.Second)
				w.stop()
				w.start()
			}
		}
		terms(10)
		assert.NotZero(t, w.asked("r"), "a new one")
		before := w.asked("r")
		w.answers(check.Refused, "Unauthorized")
		w.put("r", password("another"))
		terms(10)
		assert.Greater(t, w.asked("r"), before, "another credential")
		assert.Equal(t, "Unauthorized", w.said())
		terms(200)
		times := w.seen()["r"]
		assert.LessOrEqual(t, len(times), 60, "and not as often as they change")
		for i := range times[1:] {
			require.GreaterOrEqual(t, times[i+1].Sub(times[i]), time.Minute)
		}
	})
}

func TestALoginThatCannotBeNotedIsNotMade(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		w.deaf = true
		w.put("r")
		wait(time.Hour)
		assert.Zero(t, w.asked("r"), "the next leader would not know of it")
		w.mu.Lock()
		w.deaf = false
		w.mu.Unlock()
		wait(time.Minute)
		assert.Equal(t, 1, w.asked("r"))
		status := w.statuses["r"]
		assert.WithinDuration(t, w.seen()["r"][0], status.Credential.CheckedAt.Time, noting)
	})
}

func TestNothingIsSaidOfACredentialThatWasFoundOutOfAnother(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		w.put("r")
		wait(5 * time.Minute)
		assert.Equal(t, "LoggedIn", w.said())
		w.answers(check.Refused, "Unauthorized")
		w.put("r", password("another"))
		wait(500 * time.Millisecond)
		assert.Equal(t, credential.ReasonNotCheckedYet, w.said(), "it was of another one")
		found := w.keeper.Validity(w.index.Rules().Get("r"))
		require.NotNil(t, found)
		assert.Equal(t, metav1.ConditionUnknown, found.Status)
		wait(2 * time.Second)
		assert.Equal(t, "Unauthorized", w.said(), "it is checked at once")

		w.put("r", password("a third"))
		wait(30 * time.Second)
		assert.Equal(t, credential.ReasonNotCheckedYet, w.said(), "the last login was just before")
		assert.Equal(t, 2, w.asked("r"))
		wait(40 * time.Second)
		assert.Equal(t, "Unauthorized", w.said())

		w.put("r", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "a" })
		wait(500 * time.Millisecond)
		assert.Equal(t, "Unauthorized", w.said(), "who gets it is another matter")
	})
}

func TestASecretThatIsFoundToHoldAnotherCredentialLaterIsCheckedSoon(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		w.put("r")
		wait(10 * time.Minute)
		w.stop()
		w.start()
		wait(5 * time.Minute)
		assert.Equal(t, 1, w.asked("r"))
		w.mu.Lock()
		w.issued["r"] = metav1.Now() // it had been written while nobody led
		w.mu.Unlock()
		w.write(w.keeper, "r")
		assert.Equal(t, credential.ReasonNotCheckedYet, w.said())
		wait(glance + 2*time.Second)
		assert.Equal(t, 2, w.asked("r"))
		assert.Equal(t, "LoggedIn", w.said())
	})
}
