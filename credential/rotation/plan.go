package rotation

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxLive is how many long-term tokens an object has at most that let somebody in.
	maxLive = 2
	// settling is how long after its creation a token may be missing from a listing: clocks differ by five minutes to either side, and a
	// list may lag.
	settling = 10 * time.Minute
	// fresh is how old a listing may be for something to be created or revoked by it.
	fresh = time.Minute
	// audit is how often the tokens are listed when nothing is due.
	audit = 24 * time.Hour
)

// What the Secrets hold where it is no token of the record.
const (
	// Strange says that one of them holds something that the record does not explain: the record may have been lost.
	Strange = -1
	// Unseen says that it is not known yet what they hold.
	Unseen = -2
)

// Policy is what an ImagePullSecret asks for.
type Policy struct {
	UID, Name string
	Instance  Instance
	// Domain is the registry's default one; blank where that was not asked for.
	Domain string
	Kind   Kind
	// Key names the Secret of the keys to call with; blank for the manager's own identity.
	Key string
	// RotateAfter is how long a long-term token is issued.
	RotateAfter time.Duration
	// Keep leaves the tokens as they are when the object goes.
	Keep bool
}

// Listed is what the cloud tells of a long-term token.
type Listed struct {
	ID, Description  string
	Enabled          bool
	Created, Expires time.Time
}

// Listing is what a registry was said to have.
type Listing struct {
	// At is when it was asked for, by the manager's clock.
	At time.Time
	// Gone says that the registry does not exist any more.
	Gone   bool
	Tokens []Listed
	// deleted are those that were deleted since.
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

// State is all that is known.
type State struct {
	Cluster Cluster
	// Policy is nil once the object is gone.
	Policy *Policy
	// Record is what is stored.
	Record Record
	// Listings are what registries were said to have, as far as they were asked.
	Listings map[Instance]Listing
	// Closed are registries that could not be listed just now. Where another one is asked for, it does not wait for them.
	Closed map[Instance]bool
	// Held is the serial of the token that each of the object's Secrets holds; 0 while they hold several of the record, or none. It may
	// be Strange or Unseen.
	Held int
	Now  time.Time
}

// Action is one thing to do.
type Action interface{ action() }

type (
	// List asks a registry for its tokens.
	List struct{ Place Place }
	// Create creates a token. It is put into the record with Record.With, and that is stored, before anything else is done with it.
	// Where no answer comes, there may be one nonetheless: whatever comes of it, the registry's listing is to be forgotten.
	Create struct {
		Place       Place
		Kind        Kind
		Description string
	}
	// Store stores the record in place of the version that the decision is based on.
	Store struct{ Record Record }
	// Disable has a token let nobody in any more.
	Disable struct {
		Place Place
		ID    string
	}
	// Delete deletes a token that is disabled.
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
	// Actions are to be made in this order. That one fails holds up none of the others, but for a Store: what follows from that is
	// decided anew.
	Actions []Action
	// Issue is the token that every Secret is to hold; nil leaves the Secrets as they are.
	Issue *Token
	// Again is when to ask again where nothing else happens.
	Again time.Time
}

// Plan decides what to do next. What is to be stored is stored before anything else is done.
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
	// What is said to be replaced in this very decision is not issued, either.
	if current, found := p.record.Current(s.Now); found {
		p.decision.Issue = &current
	}
	return p.decision
}

// planner is one decision in the making.
type planner struct {
	State
	record   Record
	decision Decision
	listing  map[Instance]bool // what is to be listed
}

func (p *planner) do(action Action) { p.decision.Actions = append(p.decision.Actions, action) }

// look has the next decision be made at a time, unless another is earlier.
func (p *planner) look(at time.Time) {
	if p.decision.Again.IsZero() || at.Before(p.decision.Again) {
		p.decision.Again = at
	}
}

// list has a registry be listed, once.
func (p *planner) list(place Place) {
	if p.listing == nil {
		p.listing = map[Instance]bool{}
	}
	if !p.Closed[place.Instance] && !p.listing[place.Instance] {
		p.listing[place.Instance] = true
		p.do(List{place})
	}
}

// recent returns what a registry was said to have no longer ago than age.
func (p *planner) recent(instance Instance, age time.Duration) (Listing, bool) {
	listing, found := p.Listings[instance]
	if !found || p.Now.Sub(listing.At) >= age || listing.At.After(p.Now) {
		return Listing{}, false
	}
	return listing, true
}

// listed is recent, and has the registry listed where that is not known.
func (p *planner) listed(place Place, age time.Duration) (Listing, bool) {
	listing, known := p.recent(place.Instance, age)
	if !known {
		p.list(place)
	}
	return listing, known
}

// header brings in line what the record says of the object, and where its tokens may be: before one is created there.
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

// observe takes in what was heard.
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

// find returns what a listing says of a token. known is false where the listing may not have it yet; one that is abandoned or disabled
// has been seen in one.
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

// isOver says whether nothing is left to be done about a token.
func (p *planner) isOver(token, current Token) bool {
	if token.ID == "" { // whoever logs in with it has an hour
		return token.dead(p.Now) || current.Serial != 0 && p.Held == current.Serial
	}
	found, known := p.find(token)
	return known && found == nil
}

// isLeft says whether a place has none of the object's tokens any more, and will get none.
func (p *planner) isLeft(place Place) bool {
	if p.Policy != nil && place.Instance == p.Policy.Instance ||
		slices.ContainsFunc(p.record.Tokens, func(token Token) bool { return token.Instance == place.Instance }) {
		return false
	}
	listing, found := p.Listings[place.Instance]
	return !place.LongTerm || found && (listing.Gone || p.Now.Sub(listing.At) <= fresh)
}

// abandon stores what is not stored: what was created by a process that ended then, or of which the record was lost. Where a Secret may
// hold it, it is not abandoned, and goes as one that is replaced does.
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

// isStored says whether the record has a token.
func (p *planner) isStored(instance Instance, id string) bool {
	return slices.ContainsFunc(p.record.Tokens, func(token Token) bool { return token.ID == id && token.Instance == instance })
}

// place returns that of a token.
func (p *planner) place(instance Instance) Place {
	for _, place := range p.record.Places {
		if place.Instance == instance {
			return place
		}
	}
	return Place{Instance: instance, LongTerm: true}
}
