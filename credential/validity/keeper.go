package validity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// workers is how many objects are checked at a time, each at all of its servers: some may not answer.
	workers = 8
	// perSecond is how many checks begin per second after the first few: a leader that finds a thousand overdue takes minutes.
	perSecond = 2
	// atOnce is how many begin without a pause.
	atOnce = 8
	// glance is how often the status is read again if another process made the last check: the credential may have changed since.
	glance = 10 * time.Second
	// looking is how soon the status is first read to see whether it announces the login.
	looking = 50 * time.Millisecond
	// settling is how long to wait after a change: another one often follows.
	settling = time.Second
)

// Config is what a Keeper needs.
type Config struct {
	Log   *slog.Logger
	Index *pullsecret.Index
	// Status returns the status of the ImagePullSecret of that name and its creation time, as last read; both are zero if there is none.
	Status func(imagePullSecret string) (status v1.ImagePullSecretStatus, created time.Time)
	// Roots returns the certificate authorities in the Secret of that name in the manager's namespace, or why there are none.
	Roots func(ctx context.Context, secret string) (*x509.CertPool, *check.Result)
	// Watch calls tell with the authorities in that Secret, once they are known and again whenever they may have changed, until ctx ends.
	Watch func(ctx context.Context, secret string, tell func(Authorities))
	// Login is check.Run.
	Login func(ctx context.Context, login check.Login) check.Result
	Now   func() time.Time
}

// Keeper finds out whether registries take the credentials of all ImagePullSecrets. It runs on the leader alone; each term has a new one.
type Keeper struct {
	Config
	queue workqueue.TypedDelayingInterface[string] // of names
	pace  *rate.Limiter
	told  func(imagePullSecret string)
	named chan struct{} // holds a token once the Secrets with authorities may be others

	mu      sync.Mutex
	began   time.Time
	objects map[string]*object // by name
}

// object is what is remembered of an ImagePullSecret, for a while even after it is gone.
type object struct {
	// noted is when this process last decided to log in; the status must show that time before it does. due is whether that login is yet to be
	// made.
	noted time.Time
	due   bool
	// turn is when it may decide that, because of the rate limit; zero if it does not wait.
	turn time.Time
	// checked is when this process last logged in; zero if it has not yet. of is what it logged in with, found is the result.
	checked  time.Time
	of       subject
	found    credential.Validity
	unknowns int
	// authorities is the Secret whose authorities this process last read for it; outdated is whether they have changed since.
	authorities string
	outdated    bool
}

// subject is what is checked: if it changes, it is checked again.
type subject struct {
	uid   types.UID
	sum   [sha256.Size]byte
	trial pullsecret.Trial
}

func subjectOf(rule *pullsecret.Rule) subject { return subject{rule.UID, rule.Sum, rule.Trial} }

func (s subject) equal(other subject) bool {
	return s.uid == other.uid && s.sum == other.sum && s.trial.Equal(other.trial)
}

// NewKeeper returns a Keeper for one term of leadership.
func NewKeeper(config Config) *Keeper {
	return &Keeper{
		Config: config, objects: map[string]*object{},
		queue: workqueue.NewTypedDelayingQueue[string](), pace: rate.NewLimiter(perSecond, atOnce), named: make(chan struct{}, 1),
	}
}

// Validity returns what this process has found out about the credential of a rule, and when it last logged in or is about to; nil if it has
// neither logged in nor decided to.
func (k *Keeper) Validity(rule *pullsecret.Rule) *credential.Validity {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.objects[rule.Name]
	looked := one != nil && !one.checked.IsZero() && one.of.uid == rule.UID
	if !looked && (one == nil || !one.due) {
		return nil
	}
	found := credential.Validity{}
	switch {
	case !looked:
	case one.of.equal(subjectOf(rule)):
		found = one.found
		found.Generation = rule.Generation // another generation of the spec, with the same check
	default:
		found = credential.NotCheckedYet(rule.Generation)
	}
	found.CheckedAt = one.noted
	return &found
}

// Run checks until ctx ends, and calls told whenever Validity may have changed for an ImagePullSecret. The Index must know all
// ImagePullSecrets.
func (k *Keeper) Run(ctx context.Context, told func(imagePullSecret string)) {
	k.told = told
	k.mu.Lock()
	k.began = k.Now()
	k.mu.Unlock()
	var running sync.WaitGroup
	defer running.Wait()
	defer k.queue.ShutDown()
	defer k.Index.Observe(k.observe)()
	for rule := range k.Index.Rules().All() {
		k.queue.Add(rule.Name)
	}
	for range workers {
		running.Go(func() { k.work(ctx) })
	}
	k.followAuthorities(ctx)
}

// observe takes in a change of the rules. It is called under the index's lock. A change with Unknown set always counts: while the object
// could not be read, it was no longer checked.
func (k *Keeper) observe(change pullsecret.Change) {
	if authoritiesOf(change.Before) != authoritiesOf(change.After) {
		select {
		case k.named <- struct{}{}:
		default:
		}
	}
	if change.Before != nil && change.After != nil && !change.Unknown && subjectOf(change.Before).equal(subjectOf(change.After)) &&
		change.Before.Trial.Interval == change.After.Trial.Interval && slices.Equal(change.Before.Servers, change.After.Servers) {
		return
	}
	k.queue.AddAfter(change.Name, settling)
}

// of returns what is remembered of the object of that name. k.mu is held.
func (k *Keeper) of(name string) *object {
	if k.objects[name] == nil {
		k.objects[name] = &object{}
	}
	return k.objects[name]
}

func (k *Keeper) work(ctx context.Context) {
	for {
		name, stopped := k.queue.Get()
		if stopped {
			return
		}
		if again := k.keep(ctx, name); again > 0 && ctx.Err() == nil {
			k.queue.AddAfter(name, again)
		}
		k.queue.Done(name)
	}
}

// keep checks a credential if it is due, and returns after how long to look again; 0 for never, unless something changes.
func (k *Keeper) keep(ctx context.Context, name string) time.Duration {
	rule := k.Index.Rules().Get(name)
	if rule == nil {
		return k.forget(name)
	}
	if rule.Trial.Disabled || !rule.Known() {
		return 0
	}
	if due, ours := k.due(rule); due.After(k.Now()) {
		wait := due.Sub(k.Now())
		if !ours {
			wait = min(wait, glance)
		}
		return wait
	}
	if wait := k.note(rule.Name); wait > 0 {
		return wait
	}
	k.check(ctx, rule)
	if current := k.Index.Rules().Get(name); current != nil {
		due, _ := k.due(current)
		return max(due.Sub(k.Now()), settling)
	}
	return settling
}

// note has the status announce that a login is about to be made, so that every other process knows. It returns after how long to see
// whether the status does; 0 once it does.
func (k *Keeper) note(name string) time.Duration {
	status, _ := k.Status(name)
	now := k.Now()
	k.mu.Lock()
	one := k.of(name)
	if since := now.Sub(one.noted); one.due && since < noting {
		defer k.mu.Unlock()
		if checkedAt(status).Equal(one.noted) {
			return 0
		}
		return max(since/4, looking)
	}
	if wait := k.turn(one, now); wait > 0 {
		k.mu.Unlock()
		return wait
	}
	one.noted, one.due = now.Truncate(time.Second), true
	k.mu.Unlock()
	k.told(name)
	return looking
}

// turn returns how long an object waits for its turn: only so many checks begin per second. k.mu is held.
func (k *Keeper) turn(one *object, now time.Time) time.Duration {
	if one.turn.IsZero() {
		one.turn = now.Add(k.pace.ReserveN(now, 1).DelayFrom(now))
	}
	if wait := one.turn.Sub(now); wait > 0 {
		return wait
	}
	one.turn = time.Time{}
	return 0
}

// forget forgets an object that is gone, but only once another one of its name may be checked. It returns how long that takes; 0 once it is
// forgotten.
func (k *Keeper) forget(name string) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.objects[name]
	if one == nil {
		return 0
	}
	if wait := after(one.checked).Sub(k.Now()); wait > 0 {
		return wait
	}
	delete(k.objects, name)
	return 0
}

// due returns when to check a credential, and whether this process knows that by itself. Otherwise it depends on the status, which has to
// be read again periodically: it may come to say that another credential is issued.
func (k *Keeper) due(rule *pullsecret.Rule) (at time.Time, ours bool) {
	status, created := k.Status(rule.Name)
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.of(rule.Name)
	seen := history{checked: one.checked, unknowns: one.unknowns, current: one.of.equal(subjectOf(rule))}
	if ours = !one.checked.IsZero(); !ours {
		if one.due && (k.Now().Sub(one.noted) < noting || checkedAt(status).Equal(one.noted)) {
			return one.noted, false // the login that the status announces is yet to be made
		}
		seen = before(status, created, k.began, k.Now(), rule.Generation)
	}
	seen.current = seen.current && !one.outdated
	return seen.next(rule.Trial.Interval, chanceOf(string(rule.UID), seen.checked)), ours
}

// check logs in at each server of a rule, and takes in the result.
func (k *Keeper) check(ctx context.Context, rule *pullsecret.Rule) {
	found := credential.Validity{Generation: rule.Generation}
	k.reads(rule)
	attempts := k.attempts(ctx, rule)
	if ctx.Err() != nil {
		return // an interrupted check says nothing
	}
	found.Status, found.Reason, found.Message = judge(attempts)
	k.take(rule, found)
	k.told(rule.Name)
}

// attempts logs in at all servers of a rule at once: one that does not answer holds up no other.
func (k *Keeper) attempts(ctx context.Context, rule *pullsecret.Rule) (attempts []attempt) {
	roots, unknown := k.roots(ctx, rule.Trial.CA)
	var logins []check.Login
	for _, login := range check.Each(rule.Servers, check.Login{Image: rule.Trial.Image, Realms: rule.Trial.Realms, Roots: roots}) {
		one, known := credential.Issued(rule, login.Server)
		if !known {
			continue
		}
		login.Username, login.Password = one.Username, one.Password
		logins, attempts = append(logins, login), append(attempts, attempt{server: login.Server})
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	for i, login := range logins {
		if unknown != nil {
			attempts[i].Result = *unknown
			continue
		}
		asking.Go(func() { attempts[i].Result = k.Login(ctx, login) })
	}
	return attempts
}

// take takes in what was found.
func (k *Keeper) take(rule *pullsecret.Rule, found credential.Validity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.of(rule.Name)
	if before := one.found; before.Status != found.Status || before.Reason != found.Reason {
		level := slog.LevelInfo
		if found.Status == metav1.ConditionFalse {
			level = slog.LevelWarn
		}
		k.Log.Log(context.Background(), level, "credential was checked", "imagePullSecret", rule.Name,
			"valid", found.Status, "reason", found.Reason, "message", strings.TrimSpace(found.Message))
	}
	one.unknowns++
	if found.Status != metav1.ConditionUnknown {
		one.unknowns = 0
	}
	one.checked, one.of, one.found, one.due = k.Now(), subjectOf(rule), found, false
}

// roots returns the certificate authorities in the Secret of that name; nil, for those of the system, if the name is blank.
func (k *Keeper) roots(ctx context.Context, secret string) (*x509.CertPool, *check.Result) {
	if secret == "" {
		return nil, nil
	}
	return k.Roots(ctx, secret)
}
