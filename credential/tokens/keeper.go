package tokens

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// workers is how many ImagePullSecrets are brought in line at a time: the cloud limits the requests of an account.
	workers = 2
	// firstLook and lastLook are the first and the longest pause between two looks at whether every Secret holds the token.
	firstLook, lastLook = 500 * time.Millisecond, time.Minute
	// doubt is how long an ImagePullSecret is left alone if it is not known what it asks for.
	doubt = 30 * time.Second
	// sweepPeriod is how often the records are searched for those of ImagePullSecrets that are gone.
	sweepPeriod = time.Hour
	// sweepRetry is the pause after a search that failed.
	sweepRetry = time.Minute
	// syncTimeout is how long one Sync may take: at most a dozen calls, each with its own timeout.
	syncTimeout = 2 * time.Minute
)

// Config is what a Keeper needs.
type Config struct {
	Log   *slog.Logger
	Index *pullsecret.Index
	// Sync is issuer.Issuer's.
	Sync func(ctx context.Context, uid string, policy *rotation.Policy, held func(rotation.Record) int) (issuer.Outcome, error)
	// Records returns every record. If some cannot be read, it returns the others along with an error.
	Records func(ctx context.Context) ([]rotation.Record, error)
	// Issued returns the checksums of what the Secrets of a rule hold now; false if that is not known.
	Issued func(rule *pullsecret.Rule) (sums map[[sha256.Size]byte]bool, known bool)
	// Live asks the API server for the UID of the ImagePullSecret of that name; blank if there is none, or it is being deleted.
	Live func(ctx context.Context, name string) (types.UID, error)
	Now  func() time.Time
}

// Keeper has tokens issued, renewed and revoked. It runs on the leader alone, once per term.
type Keeper struct {
	Config
	queue workqueue.TypedDelayingInterface[string] // of UIDs

	mu      sync.Mutex
	objects map[string]*object
}

// object is an ImagePullSecret that has, had, or will have tokens.
type object struct {
	name string
	// failures counts the failures in a row, looks the looks at Secrets that did not all hold the token yet.
	failures, looks int
	// told is the failure that was logged last.
	told string
}

// NewKeeper returns a Keeper.
func NewKeeper(config Config) *Keeper {
	return &Keeper{
		Config: config, objects: map[string]*object{},
		queue: workqueue.NewTypedDelayingQueue[string](),
	}
}

// Run keeps tokens until ctx ends. The Index must know all ImagePullSecrets.
func (k *Keeper) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer k.queue.ShutDown()
	defer k.Index.Observe(k.observe)()
	for rule := range k.Index.Rules().All() {
		if rule.Registry != nil {
			k.want(string(rule.UID), rule.Name)
		}
	}
	for range workers {
		running.Go(func() { k.work(ctx) })
	}
	k.sweep(ctx)
}

// observe takes in a change of the rules. It is called under the index's lock.
func (k *Keeper) observe(change pullsecret.Change) {
	before, after := change.Before, change.After
	if before != nil && after != nil && before.Registry == after.Registry {
		return // what is asked for is the same: it may be what we have supplied
	}
	for _, rule := range []*pullsecret.Rule{before, after} {
		if rule != nil && rule.Registry != nil {
			k.want(string(rule.UID), rule.Name)
		}
	}
}

// want has the tokens of an ImagePullSecret brought in line now.
func (k *Keeper) want(uid, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if one, known := k.objects[uid]; known {
		one.failures, one.looks = 0, 0
	} else {
		k.objects[uid] = &object{name: name}
	}
	k.queue.Add(uid)
}

// sweep looks for the records of ImagePullSecrets that were deleted while no manager watched, periodically until ctx ends.
func (k *Keeper) sweep(ctx context.Context) {
	for {
		records, err := k.Records(ctx)
		for _, record := range records {
			k.mu.Lock()
			_, known := k.objects[record.UID]
			k.mu.Unlock()
			if !known {
				k.want(record.UID, record.Name)
			}
		}
		pause := sweepPeriod
		if err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if apierrors.IsForbidden(err) {
				level = slog.LevelDebug // the missing permission was logged at the start, and without it no token is issued
			}
			k.Log.Log(ctx, level, "records of tokens were not read, trying again", "error", err)
			pause = sweepRetry
		}
		if backoff.Sleep(ctx, jittered(pause)); ctx.Err() != nil {
			return
		}
	}
}

// jittered lengthens a wait at random, so that equal waits spread out.
func jittered(wait time.Duration) time.Duration {
	return wait + time.Duration(float64(min(wait/10, time.Minute))*rand.Float64())
}

func (k *Keeper) work(ctx context.Context) {
	for {
		uid, stopped := k.queue.Get()
		if stopped {
			return
		}
		if again := k.keep(ctx, uid); again > 0 && ctx.Err() == nil {
			k.queue.AddAfter(uid, jittered(again))
		}
		k.queue.Done(uid)
	}
}

// keep brings an ImagePullSecret's tokens in line, and returns when to do so again; 0 for never, unless something changes.
func (k *Keeper) keep(ctx context.Context, uid string) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	k.mu.Lock()
	one, known := k.objects[uid]
	k.mu.Unlock()
	if !known {
		return 0
	}
	name := one.name
	rule := k.Index.Rules().Get(name)
	if rule != nil && string(rule.UID) == uid && rule.Registry != nil {
		return k.issue(ctx, rule)
	}
	return k.revoke(ctx, uid, name, rule)
}

// issue has the token of a rule issued.
func (k *Keeper) issue(ctx context.Context, rule *pullsecret.Rule) time.Duration {
	serial := 0
	policy := policyOf(rule)
	outcome, err := k.Sync(ctx, string(rule.UID), policy, func(record rotation.Record) int {
		serial = k.held(rule.Name, record)
		return serial
	})
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return 0
	}
	given := pullsecret.Credential{Config: rule.Config, Unread: rule.Unread, Renewal: rule.Renewal}
	given.Renewal.Refused = refusal(rule, err)
	switch {
	case outcome.Issue != nil && outcome.Domain != "":
		given.Config = rule.Registry.Render(outcome.Domain, outcome.Issue.Username, outcome.Issue.Password)
		given.Renewal.Domain, given.Unread = outcome.Domain, nil
		given.Renewal.Expires, given.Renewal.Due = outcome.Issue.Expires, policy.Due(*outcome.Issue)
	case given.Config == nil:
		given.Unread = given.Renewal.Refused
	}
	k.Index.Supply(map[*pullsecret.Rule]pullsecret.Credential{rule: given})
	if err != nil {
		return k.failed(string(rule.UID), rule.Name, err)
	}
	return k.next(string(rule.UID), outcome, outcome.Issue == nil || outcome.Issue.Serial == serial)
}

// next returns when to look again after a success.
func (k *Keeper) next(uid string, outcome issuer.Outcome, settled bool) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.objects[uid]
	one.failures, one.told = 0, ""
	wait := time.Duration(0)
	if !outcome.Again.IsZero() {
		wait = max(outcome.Again.Sub(k.Now()), time.Second)
	}
	if settled {
		one.looks = 0
		return wait
	}
	look := min(firstLook<<min(one.looks, 10), lastLook)
	one.looks++
	if wait == 0 || look < wait {
		return look
	}
	return wait
}

// failed returns when to try again, and logs a failure unless it was logged last.
func (k *Keeper) failed(uid, name string, err error) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.objects[uid]
	one.failures++
	if told := advice(err); told != one.told {
		one.told = told
		k.Log.Warn("tokens were not brought in line, trying again", "imagePullSecret", name, "error", err)
	}
	var failure *tencentcloud.Error
	if !errors.As(err, &failure) {
		failure = &tencentcloud.Error{Reason: tencentcloud.Internal} // an error of the API server, which passes by itself
	}
	return failure.Backoff(one.failures, rand.Float64())
}

// revoke revokes the tokens of an ImagePullSecret that is gone, or gets its credential from elsewhere by now. One that cannot be read keeps
// them. If it was recreated, the tokens of the old one stay until every Secret holds the new credential.
func (k *Keeper) revoke(ctx context.Context, uid, name string, rule *pullsecret.Rule) time.Duration {
	live, err := k.Live(ctx, name)
	switch {
	case err != nil:
		return k.failed(uid, name, err)
	case live == "": // it is gone
	case string(live) != uid: // it is gone, and another one of its name takes over its Secrets
		if rule == nil || string(rule.UID) == uid || !k.replaced(rule) {
			return k.next(uid, issuer.Outcome{}, false)
		}
	case rule == nil || string(rule.UID) != uid || !k.replaced(rule):
		return doubt
	}
	outcome, err := k.Sync(ctx, uid, nil, func(rotation.Record) int { return 0 })
	if err != nil {
		return k.failed(uid, name, err)
	}
	if !outcome.Again.IsZero() {
		return k.next(uid, outcome, true)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if current := k.Index.Rules().Get(name); current == nil || string(current.UID) != uid || current.Registry == nil {
		delete(k.objects, uid)
		return 0
	}
	return doubt
}

// replaced reports whether every Secret of a rule holds the rule's present credential.
func (k *Keeper) replaced(rule *pullsecret.Rule) bool {
	sums, known := k.Issued(rule)
	for sum := range sums {
		known = known && sum == rule.Sum
	}
	return known && rule.Known()
}

// held returns the serial of the token that every Secret of that ImagePullSecret holds, and that new Secrets get; 0 if they differ. It
// returns rotation.Strange if one holds what is not in the record, and rotation.Unseen if that is not known.
func (k *Keeper) held(name string, record rotation.Record) int {
	rule := k.Index.Rules().Get(name)
	if rule == nil || rule.Registry == nil {
		return rotation.Unseen
	}
	sums, known := k.Issued(rule)
	if !known {
		return rotation.Unseen
	}
	serials := map[[sha256.Size]byte]int{}
	for _, token := range record.Tokens {
		if domain := record.Domain(token.Instance); domain != "" && token.Password != "" {
			serials[sha256.Sum256(rule.Registry.Render(domain, token.Username, token.Password))] = token.Serial
		}
	}
	serial := serials[rule.Sum] // 0 if its credential is not known
	for sum := range sums {
		of, stored := serials[sum]
		if !stored {
			return rotation.Strange
		}
		if of != serial {
			serial = 0
		}
	}
	return serial
}

// policyOf returns what a rule asks for.
func policyOf(rule *pullsecret.Rule) *rotation.Policy {
	policy := &rotation.Policy{
		UID: string(rule.UID), Name: rule.Name, Instance: rotation.Instance{Region: rule.Registry.Region, ID: rule.Registry.ID},
		Kind: rotation.LongTerm, Key: rule.Registry.Keys, RotateAfter: rule.Registry.RotateAfter, Keep: rule.Registry.Keep,
	}
	if rule.Registry.Temporary {
		policy.Kind = rotation.Temporary
	}
	return policy
}

// reasonNotStored is the reason if it was not the cloud that failed, but keeping the records.
const reasonNotStored = "NotStored"

// refusal returns why a rule's credential is not issued or renewed; nil if it is.
func refusal(rule *pullsecret.Rule, err error) *pullsecret.Unread {
	if err == nil {
		return nil
	}
	refused := &pullsecret.Unread{Reason: reasonNotStored, Object: rule.Registry.Region + "/" + rule.Registry.ID, Message: advice(err)}
	var failure *tencentcloud.Error
	if errors.As(err, &failure) {
		refused.Reason = string(failure.Reason)
	}
	return refused
}

// advice returns what to do about an error, in the same words for the same failure: without the ID of the request.
func advice(err error) string {
	var failure *tencentcloud.Error
	if !errors.As(err, &failure) {
		return fmt.Sprintf("the tokens could not be kept in the manager's namespace: %v", err)
	}
	same := *failure
	same.RequestID = ""
	return same.Error()
}
