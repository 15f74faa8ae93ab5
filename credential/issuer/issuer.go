// Package issuer carries out what package rotation decides: it lists, creates and revokes tokens, and stores what it knows of them before
// it does anything else with it.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
)

// ErrConflict is returned by Store and Forget if another process has stored the record meanwhile.
var ErrConflict = errors.New("the record was stored by another process meanwhile")

// Records keeps the records, each with a version.
type Records interface {
	// Load returns the record of an object and its version; both are zero if there is none.
	Load(ctx context.Context, uid string) (record rotation.Record, version string, err error)
	// Store replaces that version of it, or returns ErrConflict.
	Store(ctx context.Context, record rotation.Record, version string) error
	// Forget removes it if it still has that version, or returns ErrConflict.
	Forget(ctx context.Context, uid, version string) error
}

// Registry has the calls that are made to a registry instance. tencentcloud.Registry is one.
type Registry interface {
	Domain(ctx context.Context) (string, error)
	Tokens(ctx context.Context) ([]tencentcloud.Listed, error)
	CreateLongTermToken(ctx context.Context, description string) (tencentcloud.Token, error)
	CreateTemporaryToken(ctx context.Context) (tencentcloud.Token, error)
	DisableToken(ctx context.Context, id string) error
	DeleteToken(ctx context.Context, id string) error
}

// Issuer carries out decisions. It keeps only the listings of registries, so another one can take over at any time.
type Issuer struct {
	Cluster rotation.Cluster
	Records Records
	// Registry returns the registry of a place, with the keys that the place names.
	Registry func(place rotation.Place) (Registry, error)
	Now      func() time.Time

	mu       sync.Mutex
	listings map[view]rotation.Listing
	// created is when a token was last created, or may have been: earlier listings are void.
	created map[rotation.Instance]time.Time
}

// view is a registry as seen with certain keys: with others it may seem absent, or not to have every token.
type view struct {
	rotation.Instance
	key string
}

// Outcome is the result of a Sync.
type Outcome struct {
	// Issue is the token that every Secret should hold; nil leaves them as they are.
	Issue *rotation.Token
	// Domain is the default domain of its registry; blank if it is not known.
	Domain string
	// Again is when to sync again if nothing else happens; zero if nothing is left to do.
	Again time.Time
}

// maxRounds is the maximum number of decisions in one Sync: to list, to store, to disable, and to store that takes four.
const maxRounds = 12

// Sync brings an object's tokens in line with a policy; a nil one means that the object is gone. held returns the serial of the token that
// all of the object's Secrets hold, or 0. If calls fail, the outcome is valid nonetheless, and the error is the first.
func (i *Issuer) Sync(ctx context.Context, uid string, policy *rotation.Policy, held func(rotation.Record) int) (Outcome, error) {
	var first error
	closed := map[rotation.Instance]bool{}
	for range maxRounds {
		record, version, err := i.Records.Load(ctx, uid)
		if err != nil {
			return Outcome{}, fmt.Errorf("loading the record of tokens of %s: %w", uid, err)
		}
		var missing error
		policy, missing = i.located(ctx, policy, record)
		decision := rotation.Plan(rotation.State{
			Cluster: i.Cluster, Policy: policy, Record: record, Listings: i.known(record, policy), Closed: closed, Held: held(record),
			Now: i.Now(),
		})
		outcome := Outcome{Issue: decision.Issue, Again: decision.Again}
		if decision.Issue != nil {
			outcome.Domain = record.Domain(decision.Issue.Instance)
		}
		if first == nil {
			first = missing
		}
		if missing != nil || len(decision.Actions) == 0 {
			return outcome, first // without the registry's domain, a token could not be issued
		}
		made, err := i.make(ctx, decision.Actions, record, version, policy, closed)
		if first == nil {
			first = err
		}
		if made == 0 {
			return outcome, first
		}
	}
	if first == nil {
		first = fmt.Errorf("syncing the tokens of %s: %d decisions were not enough", uid, maxRounds)
	}
	return Outcome{}, first
}

// located returns the policy with the domain of its registry. The registry is asked for it once; then the record has it.
func (i *Issuer) located(ctx context.Context, policy *rotation.Policy, record rotation.Record) (*rotation.Policy, error) {
	if policy == nil || policy.Domain != "" || record.Domain(policy.Instance) != "" {
		return policy, nil
	}
	registry, err := i.Registry(rotation.Place{Instance: policy.Instance, Key: policy.Key})
	if err != nil {
		return policy, err
	}
	domain, err := registry.Domain(ctx)
	if err != nil {
		return policy, err
	}
	located := *policy
	located.Domain = domain
	return &located, nil
}

// make carries out the actions. It returns how many succeeded, and the first error. After a conflict, everything is decided again.
func (i *Issuer) make(
	ctx context.Context, actions []rotation.Action, record rotation.Record, version string, policy *rotation.Policy,
	closed map[rotation.Instance]bool,
) (made int, first error) {
	for _, action := range actions {
		err := i.do(ctx, action, record, version, policy)
		if errors.Is(err, ErrConflict) {
			return made + 1, first
		}
		if list, is := action.(rotation.List); is && err != nil {
			closed[list.Place.Instance] = true
		}
		if err == nil {
			made++
		} else if first == nil {
			first = err
		}
	}
	return made, first
}

func (i *Issuer) do(ctx context.Context, action rotation.Action, record rotation.Record, version string, policy *rotation.Policy) error {
	switch action := action.(type) {
	case rotation.Store:
		return i.Records.Store(ctx, action.Record, version)
	case rotation.Forget:
		return i.Records.Forget(ctx, record.UID, version)
	case rotation.List:
		return i.list(ctx, action.Place, policy)
	case rotation.Create:
		return i.create(ctx, action, record, version)
	case rotation.Disable:
		return i.revoke(ctx, action.Place, Registry.DisableToken, action.ID, rotation.Listing.Disabled)
	case rotation.Delete:
		return i.revoke(ctx, action.Place, Registry.DeleteToken, action.ID, rotation.Listing.Deleted)
	default:
		return fmt.Errorf("making a decision: %T is unknown", action)
	}
}

// list asks for the tokens of a place. A registry that does not exist has none; but for the one in the policy that is an error.
func (i *Issuer) list(ctx context.Context, place rotation.Place, policy *rotation.Policy) error {
	registry, err := i.Registry(place)
	if err != nil {
		return err
	}
	listing := rotation.Listing{At: i.Now()}
	tokens, err := registry.Tokens(ctx)
	switch {
	case is(err, tencentcloud.InstanceNotFound) && (policy == nil || policy.Instance != place.Instance):
		listing.Gone = true
	case err != nil:
		return err
	}
	for _, token := range tokens {
		listing.Tokens = append(listing.Tokens, rotation.Listed(token))
	}
	i.keep(view{place.Instance, place.Key}, listing)
	return nil
}

// create creates a token and stores it.
func (i *Issuer) create(ctx context.Context, action rotation.Create, record rotation.Record, version string) error {
	registry, err := i.Registry(action.Place)
	if err != nil {
		return err
	}
	// Even if no answer comes, earlier listings are out of date.
	defer i.forget(action.Place.Instance)
	var made tencentcloud.Token
	if action.Kind == rotation.Temporary {
		made, err = registry.CreateTemporaryToken(ctx)
	} else {
		made, err = registry.CreateLongTermToken(ctx, action.Description)
	}
	if is(err, tencentcloud.QuotaExceeded) {
		i.makeRoom(ctx, registry)
	}
	if err != nil {
		return err
	}
	// The token exists now: it must be stored even if ctx ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if !made.Expires.After(i.Now()) { // if it were stored, the next one would be created at once
		discard(ctx, registry, made.ID)
		return fmt.Errorf("creating a token of registry %s: it has expired by this machine's clock: correct the clock", action.Place.ID)
	}
	err = i.Records.Store(ctx, record.With(rotation.Token{
		Kind: action.Kind, Instance: action.Place.Instance, ID: made.ID, Username: made.Username, Password: made.Password,
		Created: i.Now(), Expires: made.Expires,
	}), version)
	if errors.Is(err, ErrConflict) && i.isLost(ctx, record.UID, made.ID) {
		discard(ctx, registry, made.ID)
	}
	return err
}

// makeRoom deletes a disabled token ahead of its time, so that the next try finds room. If it cannot, the user has to make room.
func (i *Issuer) makeRoom(ctx context.Context, registry Registry) {
	listed, err := registry.Tokens(ctx)
	if err != nil {
		return
	}
	var tokens []rotation.Listed
	for _, one := range listed {
		tokens = append(tokens, rotation.Listed(one))
	}
	if spare, found := i.Cluster.Spare(tokens); found {
		_ = registry.DeleteToken(ctx, spare.ID)
	}
}

// isLost reports whether a token is known not to be stored. Another process may have removed the record, and nothing else would find the
// token.
func (i *Issuer) isLost(ctx context.Context, uid, id string) bool {
	record, _, err := i.Records.Load(ctx, uid)
	return err == nil && !slices.ContainsFunc(record.Tokens, func(token rotation.Token) bool { return token.ID == id })
}

// discard revokes a token that was never issued. If that fails, the token is found later by its description.
func discard(ctx context.Context, registry Registry, id string) {
	if id != "" && registry.DisableToken(ctx, id) == nil {
		_ = registry.DeleteToken(ctx, id)
	}
}

// storeTimeout is how long it may take to store a token that was created.
const storeTimeout = 10 * time.Second

// revoke disables or deletes a token, and updates the listings.
func (i *Issuer) revoke(ctx context.Context, place rotation.Place, call func(Registry, context.Context, string) error, id string,
	note func(rotation.Listing, string) rotation.Listing,
) error {
	registry, err := i.Registry(place)
	if err != nil {
		return err
	}
	err = call(registry, ctx, id)
	if is(err, tencentcloud.TokenNotFound) {
		i.forget(place.Instance) // a new listing tells whether the token or the registry is gone
		return nil
	}
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for seen, listing := range i.listings {
		if seen.Instance == place.Instance {
			i.listings[seen] = note(listing, id)
		}
	}
	return nil
}

func is(err error, reason tencentcloud.Reason) bool {
	var failure *tencentcloud.Error
	return errors.As(err, &failure) && failure.Reason == reason
}

// known returns the listings of an object's registries, by the keys that it names. For the registry in the policy, a listing that says that
// it is gone does not count. Such a listing was made for an object that no longer asks for it, and the registry may come back, with its
// tokens.
func (i *Issuer) known(record rotation.Record, policy *rotation.Policy) map[rotation.Instance]rotation.Listing {
	i.mu.Lock()
	defer i.mu.Unlock()
	known := map[rotation.Instance]rotation.Listing{}
	for _, place := range record.Places {
		seen := view{place.Instance, place.Key}
		asked := policy != nil && policy.Instance == place.Instance
		if asked {
			seen.key = policy.Key
		}
		if listing, found := i.listings[seen]; found && (!asked || !listing.Gone) {
			known[place.Instance] = listing
		}
	}
	return known
}

// keep keeps a listing, unless a token was created since it was asked for.
func (i *Issuer) keep(seen view, listing rotation.Listing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.listings == nil {
		i.listings = map[view]rotation.Listing{}
	}
	if listing.At.After(i.created[seen.Instance]) {
		i.listings[seen] = listing
	}
}

// forget drops all listings of a registry up to now.
func (i *Issuer) forget(instance rotation.Instance) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.created == nil {
		i.created = map[rotation.Instance]time.Time{}
	}
	i.created[instance] = i.Now()
	maps.DeleteFunc(i.listings, func(seen view, _ rotation.Listing) bool { return seen.Instance == instance })
}
