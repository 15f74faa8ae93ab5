package healing

import (
	"slices"
	"time"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

// Reason is a word for why a pod is evicted, or not. Those that kubectl tcr why gives, too, mean the same.
type Reason string

// Why a pod is evicted.
const (
	// PodOlderThanEntry is that it lacks the entry, which its account has.
	PodOlderThanEntry Reason = "PodOlderThanEntry"
	// BackingOff is that it last failed before its Secret was written, and would wait for long before it tries again.
	BackingOff Reason = "BackingOff"
)

// Why a pod is left alone that waits for what it would get if it were created anew. It takes somebody to do something.
const (
	// NoController is that nobody would create another one.
	NoController Reason = "NoController"
	// JobCounts is that its Job would count the eviction as a failure.
	JobCounts Reason = "JobCounts"
	// PodListsItsOwn is that another one would lack the entry, too: the API server gives pods that list pull secrets no others.
	PodListsItsOwn Reason = "PodListsItsOwn"
	// NotHelped is that others of its owner were created after all stood, and were refused as well.
	NotHelped Reason = "NotHelped"
	// Blocked is that the API server did not let it go.
	Blocked Reason = "Blocked"
)

// Evicting are the reasons why pods are evicted, Telling those why they are left alone until somebody does something.
var (
	Evicting = []Reason{PodOlderThanEntry, BackingOff}
	Telling  = []Reason{NoController, JobCounts, PodListsItsOwn, NotHelped, Blocked}
)

// Why a pod is left alone otherwise.
const (
	StaticPod         Reason = "StaticPod"
	OptedOut          Reason = "OptedOut"
	OtherRegistry     Reason = "OtherRegistry"     // it waits for no image of a server of ours
	OtherFailure      Reason = "OtherFailure"      // it was not refused
	EntryMissing      Reason = "EntryMissing"      // its account does not list the Secret yet
	SecretStale       Reason = "SecretStale"       // or the Secret is not what it should be
	CredentialRefused Reason = "CredentialRefused" // the credential that it has, or the one that it would get, is no good
	TriesSoon         Reason = "TriesSoon"         // it tries again within a minute
	WaitsBriefly      Reason = "WaitsBriefly"      // it has only begun to wait
	Young             Reason = "Young"             // it was created after all stood, and lacks it all the same
	Unexplained       Reason = "Unexplained"       // nothing says why it waits
)

const (
	// patience is how long a pod waits before it is evicted.
	patience = 30 * time.Second
	// soon is how near its next try may be.
	soon = time.Minute
	// rest is how long a pod is left alone that was created after all stood, and its owner after the second one.
	rest = 10 * time.Minute
	// askAgain is after how long events are read again that did not tell enough.
	askAgain = 30 * time.Second
)

// Action is what to do with a pod.
type Action uint8

// What to do. Of several verdicts on a pod, the greater one decides.
const (
	Leave Action = iota
	Tell         // leave it alone, and tell what to do
	Ask          // read its events, and decide anew
	Evict
)

// Verdict is what to do with a pod, and why.
type Verdict struct {
	Action Action
	Reason Reason
	// ImagePullSecret is the one that it is about, Secret that one's Secret; blank where it is about none.
	ImagePullSecret, Secret string
	// Late is whether the pod was refused although it was created after all stood that it lacks.
	Late bool
}

// Decide says what to do with a pod. counts reports whether its Job would count its eviction as a failure; it is asked only about a pod
// of a Job that would be evicted otherwise.
func Decide(pod Pod, seen Seen, facts Facts, past Past, counts func() bool, now time.Time) Verdict {
	switch {
	case pod.Static:
		return Verdict{Reason: StaticPod}
	case pod.OptedOut || facts.OptedOut:
		return Verdict{Reason: OptedOut}
	}
	best := Verdict{Reason: OtherRegistry}
	for _, giver := range facts.Givers {
		for _, wait := range pod.Waits {
			if !giver.gives(wait.Image) {
				continue
			}
			verdict := candidate{pod, seen, facts, past, giver, wait}.decide(now)
			verdict.ImagePullSecret, verdict.Secret = giver.Name, giver.Secret
			if best.ImagePullSecret == "" || verdict.Action > best.Action {
				best = verdict
			}
		}
	}
	if best.Action != Evict {
		return best
	}
	switch owner := pod.Owner.Value(); {
	case pod.Owner == nobody:
		best.Action, best.Reason = Tell, NoController
	case owner.Kind == "Job" && counts():
		best.Action, best.Reason = Tell, JobCounts
	}
	return best
}

// candidate is a pod that waits for an image of a server of ours.
type candidate struct {
	Pod
	seen  Seen
	facts Facts
	past  Past
	giver Giver
	wait  Wait
}

func (c candidate) decide(now time.Time) Verdict {
	lacks := !slices.Contains(c.Entries, c.giver.Secret)
	refusal := c.wait.Refusal
	if refusal == diagnose.RefusalUntold && !c.seen.Asked.IsZero() {
		refusal = c.seen.Refusals[c.wait.Image]
	}
	switch {
	case c.giver.Bad:
		return Verdict{Reason: CredentialRefused}
	case !slices.Contains(c.facts.Entries, c.giver.Secret):
		return Verdict{Reason: EntryMissing}
	case !c.giver.Current:
		return Verdict{Reason: SecretStale}
	case refusal == diagnose.RefusalUntold:
		return c.ask(Unexplained, now)
	case refusal == diagnose.NotRefused:
		return Verdict{Reason: OtherFailure}
	case !lacks && refusal == diagnose.RefusedScope:
		return Verdict{Reason: CredentialRefused}
	}
	foreign := func(name string) bool { return !slices.Contains(c.facts.Entries, name) }
	if lacks && !c.giver.Inserted && slices.ContainsFunc(c.Entries, foreign) {
		return Verdict{Action: Tell, Reason: PodListsItsOwn}
	}
	verdict := c.spare(now)
	if verdict == (Verdict{}) {
		verdict = c.refused(lacks, now)
	}
	verdict.Late = c.late()
	return verdict
}

// refused decides about a pod that was refused.
func (c candidate) refused(lacks bool, now time.Time) Verdict {
	switch {
	case !lacks:
		return c.tried(now)
	case now.Sub(c.seen.Since) <= patience:
		return c.ask(WaitsBriefly, now)
	}
	return Verdict{Action: Evict, Reason: PodOlderThanEntry}
}

// spare leaves a pod alone that would be evicted in circles.
func (c candidate) spare(now time.Time) Verdict {
	stands, rested := c.facts.stands(c.giver), func(created int64) bool { return !now.Before(time.Unix(created, 0).Add(rest)) }
	switch {
	case c.late() && c.past.Evicted > stands && c.Created > c.past.Evicted:
		return Verdict{Action: Tell, Reason: NotHelped}
	case c.past.Late[1] > stands && !rested(c.past.Late[0]):
		return Verdict{Action: Tell, Reason: NotHelped}
	case c.late() && !rested(c.Created):
		return Verdict{Reason: Young}
	}
	return Verdict{}
}

// late reports whether the pod was created after all stood that it lacks.
func (c candidate) late() bool { return c.Created > c.facts.stands(c.giver) }

// tried decides about a pod that has the entry.
func (c candidate) tried(now time.Time) Verdict {
	written := time.Unix(c.giver.Written, 0)
	unknown := c.seen.FailedAt.IsZero() || c.seen.Asked.IsZero() && c.seen.FailedAt.Before(written)
	switch {
	case unknown:
		return c.ask(Unexplained, now)
	case !c.seen.FailedAt.Before(written):
		return Verdict{Reason: CredentialRefused}
	case now.Sub(c.seen.Since) <= patience:
		return Verdict{Reason: WaitsBriefly}
	case c.seen.nextTry().Sub(now) <= soon:
		return Verdict{Reason: TriesSoon}
	}
	return Verdict{Action: Evict, Reason: BackingOff}
}

// ask has the events read that may tell what is not known, unless they were just now.
func (c candidate) ask(reason Reason, now time.Time) Verdict {
	if now.Sub(c.seen.Asked) < askAgain {
		return Verdict{Reason: reason}
	}
	return Verdict{Action: Ask, Reason: reason}
}

// Past is what became of the pods of an owner, in Unix seconds.
type Past struct {
	// Late is when the last two pods of it were created that were refused although all stood that they lack, the last one first.
	Late [2]int64
	// Evicted is when such a one was evicted last.
	Evicted int64
}

// Saw takes in that such a pod was created.
func (p *Past) Saw(created int64) {
	switch {
	case created > p.Late[0]:
		p.Late = [2]int64{created, p.Late[0]}
	case created > p.Late[1]:
		p.Late[1] = created
	}
}
