package rotation

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxLive is the maximum number of valid long-term tokens of an object.
	maxLive = 2
	// settling is how long after its creation a token may be missing from a listing: clocks may differ by five minutes either way, and a
	// listing may lag.
	settling = 10 * time.Minute
	// fresh is how old a listing may be to create or revoke tokens by it.
	fresh = time.Minute
	// audit is how often the tokens are listed when nothing is due.
	audit = 24 * time.Hour
)

// Values of State.Held that are no serial.
const (
	// Strange says that a Secret holds something that the record does not explain: the record may have been lost.
	Strange = -1
	// Unseen says that it is not known yet what the Secrets hold.
	Unseen = -2
)

// Policy is what an ImagePullSecret asks for.
type Policy struct {
	UID, Name string
	Instance  Instance
	// Domain is the registry's default domain; blank if it was not asked for.
	Domain string
	Kind   Kind
	// Key names the Secret with the keys for the cloud's API; blank for the manager's own identity.
	Key string
	// RotateAfter is the age at which a long-term token is replaced.
	RotateAfter time.Duration
	// Keep leaves the tokens as they are when the object goes.
	Keep bool
}

// Listed is what the cloud says of a long-term token.
type Listed struct {
	ID, Description  string
	Enabled          bool
	Created, Expires time.Time
}

// Listing is the list of a registry's tokens.
type Listing struct {
	// At is when it was asked for, by the manager's clock.
	At time.Time
	// Gone says that the registry does not exist any more.
	Gone   bool
	Tokens []Listed
	// deleted holds the tokens that were deleted since.
	deleted map[string]bool
}

// Disabled returns the listing after a token was disabled.
func (l Listing) Disabled(id string) Listing {
	l.Tokens = slices.Clone(l.Tokens)
	for i := range l.Tokens {
		if l.Tokens[i].ID == id {
			l.Tokens[i].Enabled = false
		}
	}
	return l
}

// Deleted returns the listing after a token was deleted.
func (l Listing) Deleted(id string) Listing {
	l.Tokens = slices.DeleteFunc(slices.Clone(l.Tokens), func(listed Listed) bool { return listed.ID == id })
	deleted := map[string]bool{id: true}
	maps.Copy(deleted, l.deleted)
	l.deleted = deleted
	return l
}

// State is all that a decision depends on.
type State struct {
	Cluster Cluster
	// Policy is nil once the object is gone.
	Policy *Policy
	// Record is what is stored.
	Record Record
	// Listings holds the listings of the registries that were asked.
	Listings map[Instance]Listing
	// Closed holds the registries that could not be listed just now. A token at another one does not wait for them.
	Closed map[Instance]bool
	// Held is the serial of the token that all of the object's Secrets hold; 0 while they hold different tokens of the record, or none. It may
	// be Strange or Unseen.
	Held int
	Now  time.Time
}

// Action is one thing to do.
type Action interface{ action() }

type (
	// List asks a registry for its tokens.
	List struct{ Place Place }
	// Create creates a token. It must be added to the record with Record.With, and the record stored, before anything else is done with it.
	// Even without an answer there may be a new token, so the registry's listing must be dropped in any case.
	Create struct {
		Place       Place
		Kind        Kind
		Description string
	}
	// Store stores the record in place of the version that the decision is based on.
	Store struct{ Record Record }
	// Disable disables a token, so that nobody can log in with it.
	Disable struct {
		Place Place
		ID    string
	}
	// Delete deletes a disabled token.
	Delete struct {
		Place Place
		ID    string
	}
	// Forget removes the stored record.
	Forget struct{}
)

func (List) action()    {}
func (Create) action()  {}
func (Store) action()   {}
func (Disable) action() {}
func (Delete) action()  {}
func (Forget) action()  {}

// Decision is what to do now.
type Decision struct {
	// Actions are the actions to carry out, in this order. A failed action does not stop the others. After a Store everything is decided
	// again.
	Actions []Action
	// Issue is the token that every Secret should hold; nil leaves the Secrets as they are.
	Issue *Token
	// Again is when to ask again if nothing else happens.
	Again time.Time
}

// Plan decides what to do next. If the record has to be stored, that comes first, alone.
func Plan(s State) Decision {
	p := planner{State: s, record: s.Record.clone()}
	if s.Policy == nil {
		return p.gone()
	}
	p.header()
	p.observe()
	if !p.record.equal(s.Record) {
		p.decision.Actions = []Action{Store{p.record}}
	} else {
		p.revoke()
		p.create()
	}
	// A token that this very decision marks as replaced is not issued, either.
	if current, found := p.record.Current(s.Now); found {
		p.decision.Issue = &current
	}
	return p.decision
}

// planner makes one decision.
type planner struct {
	State
	record   Record
	decision Decision
	listing  map[Instance]bool // the registries to list
}

func (p *planner) do(action Action) { p.decision.Actions = append(p.decision.Actions, action) }

// look schedules the next decision, unless it is already due earlier.
func (p *planner) look(at time.Time) {
	if p.decision.Again.IsZero() || at.Before(p.decision.Again) {
		p.decision.Again = at
	}
}

// list has a registry listed, once.
func (p *planner) list(place Place) {
	if p.listing == nil {
		p.listing = map[Instance]bool{}
	}
	if !p.Closed[place.Instance] && !p.listing[place.Instance] {
		p.listing[place.Instance] = true
		p.do(List{place})
	}
}

// recent returns a registry's listing, if it is younger than age.
func (p *planner) recent(instance Instance, age time.Duration) (Listing, bool) {
	listing, found := p.Listings[instance]
	if !found || p.Now.Sub(listing.At) >= age || listing.At.After(p.Now) {
		return Listing{}, false
	}
	return listing, true
}

// listed returns the same as recent. If there is no such listing, it has the registry listed.
func (p *planner) listed(place Place, age time.Duration) (Listing, bool) {
	listing, known := p.recent(place.Instance, age)
	if !known {
		p.list(place)
	}
	return listing, known
}

// header updates what the record says of the object and of the places of its tokens, before a token is created there.
func (p *planner) header() {
	p.record.UID, p.record.Name, p.record.Keep = p.Policy.UID, p.Policy.Name, p.Policy.Keep
	at := slices.IndexFunc(p.record.Places, func(place Place) bool { return place.Instance == p.Policy.Instance })
	if at < 0 {
		at = len(p.record.Places)
		p.record.Places = append(p.record.Places, Place{Instance: p.Policy.Instance})
	}
	p.record.Places[at].Key = p.Policy.Key
	if p.Policy.Domain != "" {
		p.record.Places[at].Domain = p.Policy.Domain
	}
	if p.Policy.Kind == LongTerm {
		p.record.Places[at].LongTerm = true
	}
}

// observe takes what the Secrets hold, and the listings, into the record.
func (p *planner) observe() {
	for i := range p.record.Tokens {
		token := &p.record.Tokens[i]
		if token.Replaced.IsZero() && p.isElsewhere(*token) {
			token.Replaced = p.Now
		}
		if token.Disabled.IsZero() && p.isDisabled(*token) {
			token.Disabled = p.Now
		}
	}
	p.abandon()
	current, _ := p.record.Current(p.Now)
	p.record.Tokens = slices.DeleteFunc(p.record.Tokens, func(token Token) bool {
		return token.Serial != current.Serial && p.isOver(token, current)
	})
	p.record.Places = slices.DeleteFunc(p.record.Places, p.isLeft)
}

// find returns the entry of a token in its registry's listing. known is false if the listing may not show it yet; an abandoned or disabled
// token has been in a listing before.
func (p *planner) find(token Token) (found *Listed, known bool) {
	listing, is := p.Listings[token.Instance]
	if !is || token.ID == "" {
		return nil, false
	}
	if at := slices.IndexFunc(listing.Tokens, func(listed Listed) bool { return listed.ID == token.ID }); at >= 0 {
		return &listing.Tokens[at], true
	}
	return nil, token.Abandoned || !token.Disabled.IsZero() || listing.Gone || listing.deleted[token.ID] ||
		listing.At.After(token.Created.Add(settling))
}

func (p *planner) isDisabled(token Token) bool {
	found, known := p.find(token)
	return known && (found == nil || !found.Enabled)
}

// isOver reports whether nothing is left to do about a token.
func (p *planner) isOver(token, current Token) bool {
	if token.ID == "" { // a temporary one, which ends by itself
		return token.dead(p.Now) || current.Serial != 0 && p.Held == current.Serial
	}
	found, known := p.find(token)
	return known && found == nil
}

// isLeft reports whether a place has no more tokens of the object, and will get none.
func (p *planner) isLeft(place Place) bool {
	if p.Policy != nil && place.Instance == p.Policy.Instance ||
		slices.ContainsFunc(p.record.Tokens, func(token Token) bool { return token.Instance == place.Instance }) {
		return false
	}
	listing, found := p.Listings[place.Instance]
	return !place.LongTerm || found && (listing.Gone || p.Now.Sub(listing.At) <= fresh)
}

// abandon adds the object's listed tokens that are not in the record: the process that created one died, or its record was lost. If a
// Secret may hold it, it is not marked as abandoned, and is revoked as a replaced token is.
func (p *planner) abandon() {
	if p.Held == Unseen {
		return
	}
	for _, place := range p.record.Places {
		tokens := slices.Clone(p.Listings[place.Instance].Tokens)
		slices.SortStableFunc(tokens, func(a, b Listed) int { return b.Created.Compare(a.Created) })
		for _, listed := range tokens {
			if p.isStored(place.Instance, listed.ID) || !p.Cluster.owns(listed.Description, p.record.UID) {
				continue
			}
			token := Token{
				Kind: LongTerm, Instance: place.Instance, ID: listed.ID, Created: listed.Created, Expires: listed.Expires,
				Abandoned: p.Held != Strange,
			}
			if !listed.Enabled {
				token.Disabled = p.Now
			}
			p.record = p.record.With(token)
		}
	}
}

// isStored reports whether the record has a token.
func (p *planner) isStored(instance Instance, id string) bool {
	return slices.ContainsFunc(p.record.Tokens, func(token Token) bool { return token.ID == id && token.Instance == instance })
}

// place returns the place of a registry.
func (p *planner) place(instance Instance) Place {
	for _, place := range p.record.Places {
		if place.Instance == instance {
			return place
		}
	}
	return Place{Instance: instance, LongTerm: true}
}
