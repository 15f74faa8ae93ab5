package keeper

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/tools/record"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// Discovered is the ConfigMap of the addresses that were found.
	Discovered = "updater-config-discovered"
	// Fixed is the ConfigMap of the install value global.hosts.
	Fixed = "updater-config"

	// period is the pause between two questions to the cloud about a registry. Each pause is shorter by up to a tenth.
	period = time.Minute
	// askTimeout is how long one registry may take to answer.
	askTimeout = 30 * time.Second
	// askers is how many registries are asked at a time: the cloud limits the requests of an account.
	askers = 4
	// patience is how long to wait for the ConfigMap of global.hosts before lines are written without it: on the nodes it takes precedence
	// anyway.
	patience = 5 * time.Second
	// firstRetry is the first pause after publishing has failed.
	firstRetry = time.Second
	// writePause is the minimum time between two writes of the ConfigMap, even if somebody undoes them.
	writePause = time.Second
)

// ConfigMaps is the client of the ConfigMaps in hosts-updater's namespace.
type ConfigMaps = gentype.ClientWithList[*corev1.ConfigMap, *corev1.ConfigMapList]

// Config is what a Keeper needs.
type Config struct {
	Log   *slog.Logger
	Index *pullsecret.Index
	// ConfigMaps is the client of those in Namespace, which is hosts-updater's.
	ConfigMaps *ConfigMaps
	Namespace  string
	// Owner returns the owner of what is published; nil for none.
	Owner func(context.Context) (*metav1.OwnerReference, error)
	// Registry returns the registry of a place.
	Registry func(place rotation.Place) (Registry, error)
	// Parse returns the addresses of the data of the ConfigMap of global.hosts, by domain.
	Parse func(data map[string]string) (map[string][]netip.Addr, error)
	// Recorder records events on ImagePullSecrets; it may be nil.
	Recorder record.EventRecorder
}

// Keeper keeps what is published in line with what the cloud says. It runs on the leader alone, once per term.
type Keeper struct {
	Config
	discovered, fixed *latest.Object[*corev1.ConfigMap]
	wake              chan struct{} // holds one element if something may have changed
	slots             chan struct{} // one for each registry that is being asked
	asking            sync.WaitGroup

	// Only Run uses the fields that follow.
	loaded   bool // whether what was published before is known
	watching bool
	seen     seen
	written  time.Time
	failing  string          // the error of publishing that was logged last; blank after a success
	told     map[string]told // by name, what events and the log have reported last

	mu      sync.Mutex // guards what follows
	objects map[string]*object
	reach   map[string]*pullsecret.Reach
	changed chan struct{} // closed once reach changes
}

// seen is what is known of both ConfigMaps at the beginning of a pass.
type seen struct {
	discovered, fixed latest.Snapshot[*corev1.ConfigMap]
	parsed            string // the version that addresses are from
	addresses         map[string][]netip.Addr
}

// object is an ImagePullSecret that asks for a private network.
type object struct {
	record privatenetwork.Record
	// registry is what is asked for; nil if all that is known is from before this term.
	registry *pullsecret.Registry
	known    bool // the cloud has answered about registry in this term
	asking   bool
	due      time.Time // to ask again
	failures int
	refused  *refusal
}

// New returns a Keeper for one term.
func New(config Config) *Keeper {
	named := func(name string) *latest.Object[*corev1.ConfigMap] {
		return latest.NewObject[*corev1.ConfigMap](config.Log, "config map "+config.Namespace+"/"+name, clientset.Named(config.ConfigMaps, name))
	}
	return &Keeper{
		Config: config, discovered: named(Discovered), fixed: named(Fixed),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, askers), told: map[string]told{},
		objects: map[string]*object{}, reach: map[string]*pullsecret.Reach{}, changed: make(chan struct{}),
	}
}

// Reached returns whether a rule's registry is reached from its private network; nil if that is not known yet.
func (k *Keeper) Reached(rule *pullsecret.Rule) *pullsecret.Reach {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reach[rule.Name]
}

// Changed returns a channel that is closed once a result of Reached changes.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Run keeps what is published until ctx ends. The Index must know all ImagePullSecrets. While none asks for a private network, all it does
// is to remove, once, what is left from before.
func (k *Keeper) Run(ctx context.Context) {
	var watches sync.WaitGroup
	defer watches.Wait()
	defer k.asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer k.Index.Observe(func(pullsecret.Change) { k.stir() })()
	for pause := firstRetry; ctx.Err() == nil; {
		if !k.watching && wanted(k.Index.Rules()) {
			k.watching = true
			watches.Go(func() { k.discovered.Run(ctx) })
			watches.Go(func() { k.fixed.Run(ctx) })
			k.awaitFixed(ctx)
		}
		again, err := k.pass(ctx)
		switch {
		case err == nil:
			pause = firstRetry
		case ctx.Err() == nil:
			again = min(again, pause)
			pause = min(2*pause, period)
		}
		k.rest(ctx, again)
	}
}

// wanted reports whether some ImagePullSecret asks for a private network.
func wanted(rules *pullsecret.Rules) bool {
	for rule := range rules.All() {
		if rule.Registry != nil && rule.Registry.Network != nil {
			return true
		}
	}
	return false
}

// stir makes Run look again.
func (k *Keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default: // it will anyway
	}
}

// awaitFixed waits for the ConfigMap of global.hosts to be known, for a while.
func (k *Keeper) awaitFixed(ctx context.Context) {
	known := k.fixed.Get()
	if known.Known {
		return
	}
	select {
	case <-known.Changed:
	case <-ctx.Done():
	case <-time.After(patience):
	}
}

// rest returns once there may be something to do.
func (k *Keeper) rest(ctx context.Context, again time.Duration) {
	var discovered, fixed <-chan struct{}
	if k.watching {
		discovered, fixed = k.seen.discovered.Changed, k.seen.fixed.Changed
	}
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-k.wake:
	case <-discovered:
	case <-fixed:
	}
}

// pass asks the registries that are due, brings what is published in line, and reports it. It returns when to look again.
func (k *Keeper) pass(ctx context.Context) (time.Duration, error) {
	rules := k.Index.Rules()
	err := k.load(ctx)
	if err == nil {
		k.look()
		k.follow(ctx, rules, time.Now())
		err = k.publish(ctx)
	}
	switch {
	case errors.Is(err, errJustWritten):
		return writePause, nil // reported only once it is published
	case err == nil:
		k.failing = ""
	case ctx.Err() == nil && wanted(rules):
		if k.failing != err.Error() { // this is reached after each answer of the cloud
			k.Log.Warn("private addresses were not published, trying again", "error", err)
		}
		k.failing = err.Error()
		k.follow(ctx, rules, time.Now())
	}
	k.report(rules, err)
	return k.next(time.Now()), err
}

// look reads what is known of both ConfigMaps now.
func (k *Keeper) look() {
	k.seen.discovered, k.seen.fixed = k.discovered.Get(), k.fixed.Get()
	fixed := k.seen.fixed
	switch {
	case !fixed.Known || k.seen.parsed == fixed.Version() && fixed.Exists:
	case !fixed.Exists:
		k.seen.addresses, k.seen.parsed = nil, ""
	default:
		addresses, err := k.Parse(fixed.Object.Data)
		if err != nil {
			k.Log.Warn("addresses of global.hosts were not read", "error", err) // hosts-updater keeps the last good ones, too
		} else {
			k.seen.addresses = addresses
		}
		k.seen.parsed = fixed.Version()
	}
}

// follow brings the objects in line with the rules, and asks the registries that are due.
func (k *Keeper) follow(ctx context.Context, rules *pullsecret.Rules, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for rule := range rules.All() {
		if rule.Registry == nil || rule.Registry.Network == nil {
			continue
		}
		one := k.objects[rule.Name]
		if one == nil {
			one = &object{}
			k.objects[rule.Name] = one
		}
		if one.registry != rule.Registry || one.record.UID != string(rule.UID) {
			asked := rule.Registry
			one.record = one.record.Ask(string(rule.UID), asked.ID, asked.Region, asked.Network.VPC, asked.Network.Domains)
			one.registry, one.due, one.failures = asked, now, 0
			if !one.record.Told() {
				one.refused, one.known = nil, false
			}
		}
		if !one.asking && !one.due.After(now) {
			one.asking = true
			record, known := one.record, one.known
			k.asking.Go(func() { k.ask(ctx, rule, one, record, known) })
		}
	}
	for name := range k.objects {
		if rule := rules.Get(name); (rule == nil || rule.Registry == nil || rule.Registry.Network == nil) && rules.Invalid(name) == nil {
			delete(k.objects, name)
		}
	}
}

// ask asks a registry, and takes in its answers.
func (k *Keeper) ask(ctx context.Context, rule *pullsecret.Rule, one *object, record privatenetwork.Record, known bool) {
	defer k.stir()
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	registry, err := k.Registry(rotation.Place{
		Instance: rotation.Instance{Region: rule.Registry.Region, ID: rule.Registry.ID}, Key: rule.Registry.Keys,
	})
	if err == nil {
		record, err = ask(asking, registry, record, known)
	}
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	one.asking = false
	if one.registry != rule.Registry {
		one.due = time.Time{} // something else is asked for by now
		return
	}
	one.record, one.refused = record, refusalOf(err)
	if err == nil {
		one.failures, one.known = 0, true
		one.due = time.Now().Add(period - rand.N(period/10))
		return
	}
	one.failures++
	var failure *tencentcloud.Error
	if !errors.As(err, &failure) {
		failure = &tencentcloud.Error{Reason: tencentcloud.Internal} // an error of the API server, which passes by itself
	}
	one.due = time.Now().Add(failure.Backoff(one.failures, rand.Float64()))
}

// next returns how long it takes until the next registry is due.
func (k *Keeper) next(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := now.Add(period)
	for _, one := range k.objects {
		if !one.asking && one.registry != nil && one.due.Before(next) {
			next = one.due
		}
	}
	return max(next.Sub(now), 0)
}
