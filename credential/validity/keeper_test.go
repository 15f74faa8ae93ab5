package validity

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// world is a Keeper in a time of its own, registries that note when they are asked, and statuses as the API server has them.
type world struct {
	t     *testing.T
	index *pullsecret.Index
	stop  func()

	mu       sync.Mutex
	objects  map[string]*v1.ImagePullSecret
	statuses map[string]v1.ImagePullSecretStatus
	issued   map[string]metav1.Time // since when the Secrets of an object hold its credential
	deaf     bool                   // whether no status can be written
	logins   map[string][]time.Time // by object: a server is one object's
	answer   func(check.Login) check.Result
	uids     int
	keeper   *Keeper
	edited   time.Time // by a test
	watches  map[string]func(Authorities)
	held     map[string]bool // the Secrets that there are
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, objects: map[string]*v1.ImagePullSecret{}, statuses: map[string]v1.ImagePullSecretStatus{}, logins: map[string][]time.Time{},
		issued: map[string]metav1.Time{}, watches: map[string]func(Authorities){}, held: map[string]bool{},
		answer: func(check.Login) check.Result {
			return check.Result{Verdict: check.Valid, Reason: "LoggedIn", Message: "yes"}
		},
	}
}

// start begins a term.
func (w *world) start() {
	w.index = pullsecret.NewIndex()
	w.mu.Lock()
	for _, object := range w.objects {
		w.index.Put(object)
	}
	w.mu.Unlock()
	keeper := NewKeeper(Config{
		Log: slog.New(slog.DiscardHandler), Index: w.index, Now: time.Now, Login: w.login,
		Status: func(name string) (v1.ImagePullSecretStatus, time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.objects[name] == nil {
				return v1.ImagePullSecretStatus{}, time.Time{}
			}
			return w.statuses[name], w.objects[name].CreationTimestamp.Time
		},
		Roots: func(_ context.Context, secret string) (*x509.CertPool, *check.Result) {
			return w.roots(secret)
		},
		Watch: w.watch,
	})
	w.keeper = keeper
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		keeper.Run(ctx, func(name string) { w.write(keeper, name) })
	}()
	w.stop = func() {
		cancel()
		<-done
	}
	synctest.Wait()
}

func (w *world) login(ctx context.Context, login check.Login) check.Result {
	w.mu.Lock()
	w.logins[login.Server] = append(w.logins[login.Server], time.Now())
	answer := w.answer
	w.mu.Unlock()
	return answer(login)
}

// write stores what was found out, as the writer of statuses does.
func (w *world) write(keeper *Keeper, name string) {
	time.Sleep(100 * time.Millisecond)
	rule := keeper.Index.Rules().Get(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if rule == nil || w.objects[name] == nil || w.deaf {
		return
	}
	issued, old := w.issued[name], w.statuses[name]
	status := v1.ImagePullSecretStatus{
		SecretsDesired: 1, Conditions: slices.Clone(old.Conditions), Credential: &v1.CredentialStatus{IssuedAt: &issued},
	}
	plan.SetValid(&status, rule, old, keeper.Validity(rule), time.Now())
	w.statuses[name] = status
}

// said is the reason that the status of the object r gives.
func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if condition := meta.FindStatusCondition(w.statuses["r"].Conditions, v1.ConditionCredentialValid); condition != nil {
		return condition.Reason
	}
	return ""
}

// put creates or edits an object.
func (w *world) put(name string, edits ...func(*v1.ImagePullSecretSpec)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if before := w.objects[name]; before != nil {
		object = before.DeepCopy()
	} else {
		w.uids++
		object.UID = types.UID(fmt.Sprint("uid-", w.uids))
		object.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
		object.Spec.Docker = v1.DockerCredential{Server: name, Username: "robot", Password: "hush"}
	}
	object.Generation++
	before := object.Spec.Docker.Password
	for _, edit := range edits {
		edit(&object.Spec)
	}
	if w.objects[name] == nil || object.Spec.Docker.Password != before {
		w.issued[name] = metav1.NewTime(time.Now().Truncate(time.Second))
	}
	w.objects[name] = object
	if w.index != nil {
		w.index.Put(object)
		go w.write(w.keeper, name)
	}
}

func (w *world) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.objects, name)
	delete(w.statuses, name)
	w.index.Remove(name)
}

// asked returns how often the registry of an object was asked.
func (w *world) asked(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.logins[name])
}

// seen returns when the registry of each object was asked.
func (w *world) seen() map[string][]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string][]time.Time{}
	for name, times := range w.logins {
		seen[name] = slices.Clone(times)
	}
	return seen
}

func (w *world) answers(verdict check.Verdict, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = func(check.Login) check.Result {
		return check.Result{Verdict: verdict, Reason: reason, Message: "so it is"}
	}
}

func password(text string) func(*v1.ImagePullSecretSpec) {
	return func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = text }
}

// in runs a test in a time of its own.
func in(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		test(w)
		w.stop()
		wait(time.Second) // what is still being written is
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestACredentialIsCheckedAtEachChangeAndThenEveryHour(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		wait(pause + lag)
		w.put("r")
		wait(2 * time.Second)
		assert.Equal(t, 1, w.asked("r"), "a new one, soon")
		found := w.keeper.Validity(w.index.Rules().Get("r"))
		require.NotNil(t, found)
		assert.Equal(t, metav1.ConditionTrue, found.Status)
		assert.WithinDuration(t, time.Now(), found.CheckedAt, 2*time.Second)

		wait(50 * time.Minute)
		assert.Equal(t, 1, w.asked("r"))
		wait(20 * time.Minute)
		assert.Equal(t, 2, w.asked("r"), "an hour later")

		wait(2 * time.Minute)
		w.answers(check.Refused, "Unauthorized")
		w.put("r", password("another"))
		wait(2 * time.Second)
		assert.Equal(t, 3, w.asked("r"), "a change")
		assert.Equal(t, metav1.ConditionFalse, w.keeper.Validity(w.index.Rules().Get("r")).Status)

		w.put("r", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "a" })
		wait(10 * time.Minute)
		assert.Equal(t, 3, w.asked("r"), "who gets it is another matter")
		assert.Equal(t, w.index.Rules().Get("r").Generation, w.keeper.Validity(w.index.Rules().Get("r")).Generation)

		w.put("r", func(spec *v1.ImagePullSecretSpec) { spec.Check = &v1.CredentialCheck{Interval: "2m"} })
		wait(10 * time.Minute)
		assert.InDelta(t, 8, w.asked("r"), 1)
		w.put("r", func(spec *v1.ImagePullSecretSpec) { spec.Check = &v1.CredentialCheck{Disabled: true} })
		before := w.asked("r")
		wait(5 * time.Hour)
		assert.Equal(t, before, w.asked("r"), "it is switched off")
	})
}

func TestWhatCouldNotBeReadForAWhileIsCheckedOn(t *testing.T) {
	in(t, func(w *world) {
		server := func(text string) func(*v1.ImagePullSecretSpec) {
			return func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = text }
		}
		w.start()
		wait(pause + lag)
		w.put("r")
		wait(5 * time.Minute)
		w.put("r", server("https://r"))
		wait(5 * time.Minute)
		assert.Equal(t, 1, w.asked("r"))
		w.put("r", server("r"))
		wait(5 * time.Second)
		assert.Equal(t, 2, w.asked("r"), "nobody knows what was asked for meanwhile")
		wait(70 * time.Minute)
		assert.Equal(t, 3, w.asked("r"))
	})
}

func TestWhatSaidNothingIsTriedSooner(t *testing.T) {
	in(t, func(w *world) {
		w.answers(check.Unknown, "Timeout")
		w.start()
		wait(pause + lag)
		w.put("r")
		for i, expected := range []int{1, 2, 3, 4, 5, 6} {
			wait([]time.Duration{2 * time.Second, 6 * time.Minute, 11 * time.Minute, 22 * time.Minute, 44 * time.Minute, 66 * time.Minute}[i])
			assert.Equal(t, expected, w.asked("r"))
		}
		assert.Equal(t, metav1.ConditionUnknown, w.keeper.Validity(w.index.Rules().Get("r")).Status)
	})
}

func TestMissingAuthoritiesAskNobody(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		w.put("r", func(spec *v1.ImagePullSecretSpec) {
			spec.Check = &v1.CredentialCheck{CASecretRef: &v1.SecretReference{Name: "registry-ca"}}
		})
		wait(time.Hour)
		assert.Zero(t, w.asked("r"))
		found := w.keeper.Validity(w.index.Rules().Get("r"))
		assert.Equal(t, metav1.ConditionUnknown, found.Status)
		assert.Equal(t, "AuthoritiesMissing", found.Reason)
		assert.Contains(t, found.Message, "registry-ca")
	})
}

func TestWhatWasReplacedWhileNobodyLedIsChecked(t *testing.T) {
	in(t, func(w *world) {
		w.start()
		for _, name := range []string{"same", "edited", "issued", "forged"} {
			w.put(name)
		}
		wait(10 * time.Minute)
		w.stop()
		w.index = nil
		w.put("edited", password("another"))
		later, farOff := metav1.NewTime(time.Now()), metav1.NewTime(time.Now().Add(1000*time.Hour))
		w.statuses["issued"].Credential.IssuedAt = &later   // a Secret that it refers to was written anew
		w.statuses["forged"].Credential.CheckedAt = &farOff // by somebody who wants no check
		w.start()
		wait(5 * time.Minute)
		assert.Equal(t, 1, w.asked("same"))
		assert.Equal(t, 2, w.asked("edited"))
		assert.Equal(t, 2, w.asked("issued"))
		assert.Equal(t, 2, w.asked("forged"))
	})
}

// TestNoServerIsAskedTwiceWithinAMinute lets chance edit, delete and create anew, and end terms, with what they found out written or lost.
func TestNoServerIsAskedTwiceWithinAMinute(t *testing.T) {
	for seed := range uint64(20) {
		in(t, func(w *world) {
			chance := rand.New(rand.NewPCG(seed, 0))
			verdicts := []check.Verdict{check.Valid, check.Refused, check.Unknown}
			w.start()
			for range 400 {
				name := fmt.Sprint("r", chance.IntN(3))
				switch chance.IntN(9) {
				case 0:
					w.remove(name)
				case 1:
					w.stop()
					w.start()
				case 2:
					w.mu.Lock()
					w.deaf = chance.IntN(2) == 0 // what is found out is lost then
					w.mu.Unlock()
				case 3:
					w.answers(verdicts[chance.IntN(3)], "Any")
				case 4:
					w.put(name, func(spec *v1.ImagePullSecretSpec) {
						spec.Check = &v1.CredentialCheck{Interval: "1m", Disabled: chance.IntN(3) == 0}
					})
				default:
					w.put(name, password(fmt.Sprint(chance.IntN(1000))))
				}
				wait(time.Duration(chance.IntN(60)) * time.Second / time.Duration(1+chance.IntN(20)))
			}
			asked := 0
			for name, times := range w.seen() {
				asked += len(times)
				for i := range times[1:] {
					require.GreaterOrEqual(t, times[i+1].Sub(times[i]), time.Minute, "seed %d, %s", seed, name)
				}
			}
			assert.Greater(t, asked, 10, "it was asked at all")
		})
	}
}
