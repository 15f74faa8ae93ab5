package rotation

import (
	"slices"
	"time"
)

// retirement is how long an old token stays valid after every Secret has the new one: running pulls finish, and whatever reads the Secrets
// reads them again.
func (p Policy) retirement() time.Duration { return min(24*time.Hour, p.rotateAfter()/4) }

// burial is how long a disabled token is kept, so that one that is still needed can be enabled by hand.
func (p Policy) burial() time.Duration { return min(7*24*time.Hour, p.rotateAfter()/2) }

// rotateAfter returns RotateAfter, but at least a minute, so that there is a pause between rotations.
func (p Policy) rotateAfter() time.Duration { return max(p.RotateAfter, time.Minute) }

// Due returns when to replace a token.
func (p Policy) Due(token Token) time.Time {
	life := token.Expires.Sub(token.Created)
	if token.Kind == Temporary {
		life = min(life, time.Hour) // whatever the API says
	}
	after := life / 2
	if token.Kind == LongTerm {
		after = min(after, p.rotateAfter())
	}
	return token.Created.Add(after)
}

// revoke disables and deletes the tokens that no Secret holds or should hold.
func (p *planner) revoke() {
	current, _ := p.record.Current(p.Now)
	for _, token := range p.record.Tokens {
		if token.Serial == current.Serial || token.ID == "" {
			continue
		}
		place := p.place(token.Instance)
		switch {
		case token.Disabled.IsZero() && (token.Abandoned || !p.Now.Before(token.Expires)):
			p.disable(place, token)
		case token.Disabled.IsZero():
			p.retire(place, token, current)
		case token.Abandoned:
			p.bury(place, token, token.Disabled)
		default:
			p.bury(place, token, token.Disabled.Add(p.Policy.burial()))
		}
	}
	for _, place := range p.record.Places {
		if place.LongTerm {
			if listing, known := p.listed(place, audit); known {
				p.look(listing.At.Add(audit))
			}
		}
	}
}

// isElsewhere reports whether every Secret holds a newer token than this one, or, if this one was found, any other token of the record.
func (p *planner) isElsewhere(token Token) bool {
	return p.Held > token.Serial || p.Held > 0 && token.isFound()
}

// isFree reports whether no Secret holds a token any more, or will. A Secret that was restored with it counts as holding it, as long as
// there is a token to replace it with.
func (p *planner) isFree(token, current Token) bool {
	return !token.Replaced.IsZero() && (current.Serial == 0 || p.isElsewhere(token))
}

// retire disables a token that was replaced everywhere long enough ago.
func (p *planner) retire(place Place, token, current Token) {
	if !p.isFree(token, current) {
		return // decided again when the Secrets change
	}
	at := token.Replaced.Add(p.Policy.retirement())
	if p.Now.Before(at) {
		p.look(at)
		return
	}
	p.disable(place, token)
}

func (p *planner) disable(place Place, token Token) {
	if _, known := p.listed(place, fresh); known {
		p.do(Disable{place, token.ID})
	}
}

func (p *planner) bury(place Place, token Token, at time.Time) {
	if p.Now.Before(at) {
		p.look(at)
		return
	}
	if _, known := p.listed(place, fresh); known {
		p.do(Delete{place, token.ID})
	}
}

// create creates a token if there is none that fits, or if the next one is due.
func (p *planner) create() {
	current, found := p.record.Current(p.Now)
	fits := found && current.Instance == p.Policy.Instance && current.Kind == p.Policy.Kind
	if fits {
		if due := p.Policy.Due(current); p.Now.Before(due) {
			p.look(due)
			return
		}
	}
	place := p.place(p.Policy.Instance)
	if p.Policy.Kind == LongTerm {
		live, known := p.live()
		if !known {
			return
		}
		if live >= maxLive {
			if !fits {
				p.makeRoom(current)
			}
			return
		}
	}
	p.do(Create{place, p.Policy.Kind, p.Cluster.Describe(p.Policy.Name, p.Policy.UID)})
}

// live counts the object's valid tokens: those that are listed, and those that are stored and not listed yet. For a registry that cannot be
// listed, and is not the one in the policy, it counts the stored ones.
func (p *planner) live() (count int, known bool) {
	known = true
	for _, token := range p.record.Tokens {
		if _, recent := p.recent(token.Instance, fresh); !recent && p.counts(token) || p.isPending(token) {
			count++
		}
	}
	for _, place := range p.record.Places {
		if !place.LongTerm {
			continue
		}
		listing, is := p.listed(place, fresh)
		known = known && (is || p.Closed[place.Instance] && place.Instance != p.Policy.Instance)
		for _, listed := range listing.Tokens {
			expired := !listed.Expires.IsZero() && !p.Now.Before(listed.Expires)
			if listed.Enabled && !expired && p.isOurs(place.Instance, listed) {
				count++
			}
		}
	}
	return count, known
}

// counts reports whether a stored token can be listed, and is valid.
func (p *planner) counts(token Token) bool { return token.ID != "" && !token.dead(p.Now) }

// isPending reports whether a valid stored token is not listed yet, but may be soon.
func (p *planner) isPending(token Token) bool {
	_, listed := p.Listings[token.Instance]
	found, known := p.find(token)
	if !listed || !p.counts(token) || found != nil || known {
		return false
	}
	p.look(token.Created.Add(settling + time.Second))
	return true
}

func (p *planner) isOurs(instance Instance, listed Listed) bool {
	return p.isStored(instance, listed.ID) || p.Cluster.owns(listed.Description, p.record.UID)
}

// makeRoom disables an old token that no Secret holds, ahead of its time. Otherwise, a user who corrects the registry of an object twice
// would wait for a day. If there is no token to issue, it disables one that was found in a listing: the one with the highest serial. That
// is the oldest of those that were found together, or else the one found last, which was created in vain.
func (p *planner) makeRoom(current Token) {
	for _, token := range p.record.Tokens {
		if token.ID != "" && token.Disabled.IsZero() && !token.Abandoned && p.isFree(token, current) {
			p.disable(p.place(token.Instance), token)
			return
		}
	}
	for _, token := range slices.Backward(p.record.Tokens) {
		if current.Serial == 0 && token.isFound() && token.Disabled.IsZero() {
			p.disable(p.place(token.Instance), token)
			return
		}
	}
}

// gone cleans up after an object that is gone: every token is disabled, then deleted, and then the record is removed.
func (p *planner) gone() Decision {
	if p.record.UID == "" {
		return Decision{}
	}
	if p.record.Keep {
		return Decision{Actions: []Action{Forget{}}}
	}
	over := true
	for _, place := range p.record.Places {
		if !place.LongTerm {
			continue
		}
		listing, known := p.listed(place, fresh)
		over = over && known
		for _, listed := range listing.Tokens {
			if !p.isOurs(place.Instance, listed) {
				continue
			}
			over = false
			if listed.Enabled {
				p.do(Disable{place, listed.ID})
			} else {
				p.do(Delete{place, listed.ID})
			}
		}
	}
	for _, token := range p.record.Tokens {
		over = over && !p.isPending(token)
	}
	if over {
		p.do(Forget{})
	}
	return p.decision
}
