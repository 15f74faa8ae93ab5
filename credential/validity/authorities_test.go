package validity

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

// roots are those of a Secret that there is.
func (w *world) roots(secret string) (*x509.CertPool, *check.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.held[secret] {
		return check.Authorities(secret, nil)
	}
	return x509.NewCertPool(), nil
}

// watch has a test tell of a Secret.
func (w *world) watch(ctx context.Context, secret string, tell func(Authorities)) {
	w.mu.Lock()
	assert.Nil(w.t, w.watches[secret], "it is watched once")
	w.watches[secret] = tell
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	delete(w.watches, secret)
	w.mu.Unlock()
}

// tell plays the watch of a Secret.
func (w *world) tell(secret string, now Authorities) {
	w.t.Helper()
	w.mu.Lock()
	tell := w.watches[secret]
	w.mu.Unlock()
	if assert.NotNil(w.t, tell, "it is watched") {
		tell(now)
	}
}

func authority(secret string) func(*v1.ImagePullSecretSpec) {
	return func(spec *v1.ImagePullSecretSpec) {
		spec.Check = &v1.CredentialCheck{CASecretRef: &v1.SecretReference{Name: secret}}
	}
}

func TestOtherAuthoritiesAreTriedSoon(t *testing.T) {
	in(t, func(w *world) {
		w.held["ca"], w.held["theirs"] = true, true
		w.put("a", authority("ca"))
		w.put("b", authority("ca"))
		w.put("other", authority("theirs"))
		w.put("none")
		w.start()
		w.tell("ca", Authorities{1})
		w.tell("theirs", Authorities{1})
		wait(pause + lag + time.Second)
		asked := func(times int, names ...string) {
			t.Helper()
			for _, name := range names {
				assert.Equal(t, times, w.asked(name), name)
			}
		}
		asked(1, "a", "b", "other", "none")

		wait(10 * time.Minute)
		w.tell("ca", Authorities{1})
		wait(2 * time.Second)
		asked(1, "a", "b") // a label was changed, or the watch began anew

		w.tell("ca", Authorities{2})
		wait(2 * time.Second)
		asked(2, "a", "b")
		for i := range byte(50) { // somebody writes it again and again
			w.tell("ca", Authorities{3 + i})
			wait(time.Second)
		}
		asked(2, "a", "b")
		wait(20 * time.Second)
		asked(3, "a", "b")
		wait(10 * time.Minute)
		asked(3, "a", "b")
		asked(1, "other", "none")
	})
}

func TestAuthoritiesThatChangeDuringACheckAreTried(t *testing.T) {
	in(t, func(w *world) {
		w.held["ca"] = true
		w.put("a", authority("ca"))
		w.answer = func(check.Login) check.Result {
			time.Sleep(10 * time.Second)
			return check.Result{Verdict: check.Valid}
		}
		w.start()
		wait(pause + lag + 3*time.Second)
		assert.Equal(t, 1, w.asked("a"), "it waits for an answer")
		w.tell("ca", Authorities{1}) // the first that is heard: it may have been read before, or not
		wait(pause + 12*time.Second)
		assert.Equal(t, 2, w.asked("a"))
		w.mu.Lock()
		delete(w.held, "ca")
		w.mu.Unlock()
		w.tell("ca", Authorities{})
		wait(pause + 12*time.Second)
		found := w.keeper.Validity(w.index.Rules().Get("a"))
		if assert.NotNil(t, found) {
			assert.Equal(t, "AuthoritiesMissing", found.Reason)
		}
	})
}

func TestOnlyAuthoritiesThatAreNeededAreWatched(t *testing.T) {
	in(t, func(w *world) {
		watched := func() (names []string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for name := range w.watches {
				names = append(names, name)
			}
			return names
		}
		w.start()
		wait(pause + lag + time.Second)
		assert.Empty(t, watched())
		w.put("a", authority("one"))
		wait(time.Second)
		assert.Equal(t, []string{"one"}, watched())
		w.put("a", authority("two"))
		wait(time.Second)
		assert.Equal(t, []string{"two"}, watched())
		w.put("a", func(spec *v1.ImagePullSecretSpec) { spec.Check.Disabled = true })
		wait(time.Second)
		assert.Empty(t, watched())
		w.put("a", authority("two"))
		wait(time.Second)
		w.remove("a")
		wait(time.Second)
		assert.Empty(t, watched())
	})
}

func TestASecretThatManyShareAndSomebodyWritesAgainAndAgainIsNoBurst(t *testing.T) {
	in(t, func(w *world) {
		const objects, minutes = 300, 20
		w.held["ca"] = true
		for i := range objects {
			w.put(fmt.Sprint("r", i), authority("ca"))
		}
		w.start()
		for i := range minutes * 60 {
			w.tell("ca", Authorities{byte(i), byte(i >> 8)})
			wait(time.Second)
		}
		total := 0
		for name, times := range w.seen() {
			total += len(times)
			for i := range times[1:] {
				require.GreaterOrEqual(t, times[i+1].Sub(times[i]), pause, name)
			}
		}
		assert.Len(t, w.seen(), objects, "each has its turn")
		assert.LessOrEqual(t, total, atOnce+minutes*60*perSecond)
		assert.Greater(t, total, objects*2)
	})
}
