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
	// Discovered is the ConfigMap of what is found.
	Discovered = "updater-config-discovered"
	// Fixed is that of the install value global.hosts.
	Fixed = "updater-config"

	// period is how often the cloud is asked, at most: each time is up to a tenth earlier.
	period = time.Minute
	// askTimeout is how long one registry may take to answer.
	askTimeout = 30 * time.Second
	// askers is how many registries are asked at a time: the cloud counts how often an account asks.
	askers = 4
	// patience is how long the ConfigMap of global.hosts is waited for before lines are written without it: it wins on the nodes anyway.
	patience = 5 * time.Second
	// firstRetry is after how long what was not published is tried again, at first.
	firstRetry = time.Second
	// writePause is the least time between two writes of the ConfigMap, whoever undoes them.
	writePause = time.Second
)

// ConfigMaps are those of the namespace of hosts-updater.
type ConfigMaps = gentype.ClientWithList[*corev1.ConfigMap, *corev1.ConfigMapList]

// Config is what a Keeper needs.
type Config struct {
	Log   *slog.Logger
	Index *pullsecret.Index
	// ConfigMaps are those of Namespace, that of hosts-updater.
	ConfigMaps *ConfigMaps
	Namespace  string
	// Owner returns what owns what is published, nil for nothing.
	Owner func(context.Context) (*metav1.OwnerReference, error)
	// Registry returns the registry of a place.
	Registry func(place rotation.Place) (Registry, error)
	// Parse returns the addresses of the data of the ConfigMap of global.hosts, by domain.
	Parse func(data map[string]string) (map[string][]netip.Addr, error)
	// Recorder records events on ImagePullSecrets; it may be nil.
	Recorder record.EventRecorder
}

// Keeper keeps what is published in line with what the cloud says. It runs on the leader alone, once in a term.
type Keeper struct {
	Config
	discovered, fixed *latest.Object[*corev1.ConfigMap]
	wake              chan struct{} // holds one element where something may have changed
	slots             chan struct{} // one for each registry that is being asked
	asking            sync.WaitGroup

	// What follows is Run's alone.
	loaded   bool // whether what was published before is known
	watching bool
	seen     seen
	written  time.Time
	failing  string          // why nothing is published, as the log has said last; blank while all is
	told     map[string]told // by name, what events and the log have said last

	mu      sync.Mutex // guards what follows
	objects map[string]*object
	reach   map[string]*pullsecret.Reach
	changed chan struct{} // closed once reach changes
}

// seen is what was known of both ConfigMaps at the beginning of a pass.
type seen struct {
	discovered, fixed latest.Snapshot[*corev1.ConfigMap]
	parsed            string // the version of which addresses are
	addresses         map[string][]netip.Addr
}

// object is an ImagePullSecret that asks for a private network.
type object struct {
	record privatenetwork.Record
	// registry is what is asked for; nil where all that is known is from before this term.
	registry *pullsecret.Registry
	known    bool // the cloud has told of registry in this term
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

// Reached says how far a rule's registry is reached from its private network; nil where that is not known yet.
func (k *Keeper) Reached(rule *pullsecret.Rule) *pullsecret.Reach {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reach[rule.Name]
}

// Changed returns a channel that is closed once an answer of Reached changes.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Run keeps what is published until ctx ends. The Index must know all ImagePullSecrets. While none asks for a private network, it does
// nothing but to remove, once, what is left from before.
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

// stir has Run look again.
func (k *Keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default: // it will
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

// pass asks those registries that are due, brings what is published in line, and tells of it. It returns when to look again.
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
		return writePause, nil // what is told follows what is published
	case err == nil:
		k.failing = ""
	case ctx.Err() == nil && wanted(rules):
		if k.failing != err.Error() { // each answer of the cloud leads here
			k.Log.Warn("private addresses were not published, trying again", "error", err)
		}
		k.failing = err.Error()
		k.follow(ctx, rules, time.Now())
	}
	k.report(rules, err)
	return k.next(time.Now()), err
}

// look takes in what is known of both ConfigMaps now.
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

// follow brings the objects in line with the rules, and has those asked that are due.
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

// ask asks a registry, and takes in what it told.
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
		failure = &tencentcloud.Error{Reason: tencentcloud.Internal} // the API server's, which pass by themselves
	}
	one.due = time.Now().Add(failure.Backoff(one.failures, rand.Float64()))
}

// next returns after how long a registry is to be asked again.
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
