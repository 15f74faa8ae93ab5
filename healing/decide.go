package healing

import (
	"slices"
	"strings"
	"time"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Reason is why a pod is evicted, or not, in one word. Reasons that kubectl tcr why gives as well mean the same there.
type Reason string

// Why a pod is evicted.
const (
	// PodOlderThanEntry means that the pod lacks the entry, which its account has.
	PodOlderThanEntry Reason = "PodOlderThanEntry"
	// BackingOff means that its pull last failed before its Secret was written, and that the next try is far off.
	BackingOff Reason = "BackingOff"
)

// Why a pod is left alone although a new pod in its place would pull, or might. Somebody has to act.
const (
	// NoController means that no controller would create another pod.
	NoController Reason = "NoController"
	// JobCounts means that its Job would count the eviction as a failure.
	JobCounts Reason = "JobCounts"
	// PodListsItsOwn means that another pod would lack the entry, too: the API server gives a pod that lists pull secrets of its own no
	// others.
	PodListsItsOwn Reason = "PodListsItsOwn"
	// NotHelped means that other pods of its owner were refused as well, although entry and Secret were in place when they were created.
	NotHelped Reason = "NotHelped"
	// Blocked means that the API server did not evict it, or did not return its Job.
	Blocked Reason = "Blocked"
)

// Evicting are the reasons why pods are evicted, Telling the reasons why they are left alone until somebody acts.
var (
	Evicting = []Reason{PodOlderThanEntry, BackingOff}
	Telling  = []Reason{NoController, JobCounts, PodListsItsOwn, NotHelped, Blocked}
)

// Why a pod is left alone otherwise.
const (
	StaticPod         Reason = "StaticPod"
	OptedOut          Reason = "OptedOut"
	OtherRegistry     Reason = "OtherRegistry"     // it waits for no image of a server that we have a credential for
	OtherFailure      Reason = "OtherFailure"      // it was not refused
	EntryMissing      Reason = "EntryMissing"      // its account does not list the Secret yet
	SecretStale       Reason = "SecretStale"       // the Secret is not what it should be
	CredentialRefused Reason = "CredentialRefused" // the credential that it has, or the one that it would get, is refused
	TriesSoon         Reason = "TriesSoon"         // it tries again within a minute, or is trying now
	WaitsBriefly      Reason = "WaitsBriefly"      // it has only begun to wait
	Young             Reason = "Young"             // it was refused although entry and Secret were in place when it was created
	Unexplained       Reason = "Unexplained"       // nothing says why it waits
)

const (
	// patience is how long a pod waits before it is evicted.
	patience = 30 * time.Second
	// soon is how far off the next try may be for the pod to be left alone.
	soon = time.Minute
	// rest is how long a late pod is left alone, and the pods of its owner after a second late one. A late pod was created after entry and
	// Secret were in place.
	rest = 10 * time.Minute
	// firstAsk is after how long events are read again that did not say enough. That doubles each time, up to lastAsk.
	firstAsk, lastAsk = 30 * time.Second, 5 * time.Minute
	// settling is how long other API servers may not yet know the entry: a pod that one of them creates lacks it.
	settling = 2 * time.Second
)

// Action is what to do about a pod.
type Action uint8

// What to do. Of several verdicts on a pod, the one with the highest action applies.
const (
	Leave Action = iota
	Tell         // leave it alone, and report what somebody has to do
	Ask          // read its events, and decide again
	Evict
)

// Verdict is what to do about a pod, and why.
type Verdict struct {
	Action Action
	Reason Reason
	// ImagePullSecret is the one that the verdict is about, Secret the name of its Secret; both are blank where it is about none.
	ImagePullSecret, Secret string
	// Late is whether the pod was refused although it was created after entry and Secret were in place. Stands is since when both are in
	// place, and Written when the Secret was written, in Unix seconds.
	Late            bool
	Stands, Written int64
}

// Decide returns what to do about a pod. counts is whether its Job is known to count its eviction as a failure.
func Decide(pod Pod, seen Seen, facts Facts, past Past, counts bool, now time.Time) Verdict {
	switch {
	case pod.Static:
		return Verdict{Reason: StaticPod}
	case pod.OptedOut || facts.OptedOut:
		return Verdict{Reason: OptedOut}
	}
	best := Verdict{Reason: OtherRegistry}
	for _, giver := range facts.Givers {
		for _, wait := range pod.Waits {
			if !giver.gives(wait.Host) {
				continue
			}
			verdict := candidate{pod, seen, facts, past, giver, wait}.decide(now)
			verdict.ImagePullSecret, verdict.Secret = giver.Name, giver.Secret
			verdict.Stands, verdict.Written = facts.stands(giver), giver.Written
			if best.ImagePullSecret == "" || verdict.Action > best.Action {
				best = verdict
			}
		}
	}
	if best.Action == Ask && best.Reason == WaitsBriefly && pod.Owner == nobody {
		best.Action = Leave // its events need not be read: it is reported a little later
	}
	if best.Action != Evict {
		return best
	}
	switch {
	case pod.Owner == nobody:
		best.Action, best.Reason = Tell, NoController
	case pod.Owner.Value().IsJob() && counts:
		best.Action, best.Reason = Tell, JobCounts
	}
	return best
}

// candidate is a pod that waits for an image of one of the giver's servers.
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
	if refusal == diagnose.RefusalUntold {
		refusal = c.seen.pull(c.wait.Image).Refusal
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
	foreign := func(name string) bool { // one with our prefix came from its account, which no longer lists it
		return !slices.Contains(c.facts.Entries, name) && !strings.HasPrefix(name, pullsecret.SecretPrefix)
	}
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

// refused decides about a pod whose pull was refused.
func (c candidate) refused(lacks bool, now time.Time) Verdict {
	switch {
	case !lacks:
		return c.tried(now)
	case now.Sub(c.seen.Since) <= patience:
		return c.ask(WaitsBriefly, now)
	case now.Sub(time.Unix(c.facts.stands(c.giver), 0)).Abs() < settling:
		return Verdict{Reason: WaitsBriefly}
	}
	return Verdict{Action: Evict, Reason: PodOlderThanEntry}
}

// spare leaves a pod alone that would be evicted over and over. Since clocks differ, creation times are compared with write times, and
// times seen by this process with now. So a new leader, which remembers no owner, spares each late pod as if it were new.
func (c candidate) spare(now time.Time) Verdict {
	stands := c.facts.stands(c.giver)
	rested := func(late Latecomer) bool {
		return now.Sub(late.Seen) >= rest && now.Sub(time.Unix(late.Created, 0)) >= rest
	}
	switch {
	case c.late() && stands <= c.past.Stood && c.seen.First.After(c.past.Evicted):
		return Verdict{Action: Tell, Reason: NotHelped}
	case c.past.Late[1].Created > stands && !rested(c.past.Late[0]):
		return Verdict{Action: Tell, Reason: NotHelped}
	case c.late() && !rested(Latecomer{c.Created, c.seen.First}):
		return Verdict{Reason: Young}
	}
	return Verdict{}
}

// late reports whether the pod was created after entry and Secret were in place.
func (c candidate) late() bool { return c.Created > c.facts.stands(c.giver) }

// tried decides about a pod that has the entry.
func (c candidate) tried(now time.Time) Verdict {
	written, pull := time.Unix(c.giver.Written, 0), c.seen.pull(c.wait.Image)
	switch {
	case pull.FailedAt.IsZero(), pull.FailedAt.Before(written) && c.seen.Known < c.giver.Written:
		return c.ask(Unexplained, now)
	case !pull.FailedAt.Before(written):
		return Verdict{Reason: CredentialRefused}
	case !pull.BegunAt.Before(written): // and it has not failed since
		return Verdict{Reason: TriesSoon}
	case now.Sub(c.seen.Since) <= patience:
		return Verdict{Reason: WaitsBriefly}
	case c.seen.nextTry(pull).Sub(now) <= soon:
		return Verdict{Reason: TriesSoon}
	}
	return Verdict{Action: Evict, Reason: BackingOff}
}

// ask has the events read that may show what is not known: at once where the Secret was written since they were last read, and otherwise
// when it is time.
func (c candidate) ask(reason Reason, now time.Time) Verdict {
	if c.giver.Written <= c.seen.Asked && now.Before(c.seen.Next) {
		return Verdict{Reason: reason}
	}
	return Verdict{Action: Ask, Reason: reason}
}

// Past is what is remembered about the pods of an owner.
type Past struct {
	// Late are the last two late pods, the last one first.
	Late [2]Latecomer
	// Evicted is when a late pod was last evicted, by the clock of this process, and Stood since when entry and Secret were in place then,
	// in Unix seconds.
	Evicted time.Time
	Stood   int64
}

// Latecomer is a late pod, one that was refused although it was created after entry and Secret were in place: when it was created, in
// Unix seconds, and when it was first seen to wait.
type Latecomer struct {
	Created int64
	Seen    time.Time
}

// Saw records a late pod.
func (p *Past) Saw(late Latecomer) {
	switch {
	case late.Created > p.Late[0].Created:
		p.Late = [2]Latecomer{late, p.Late[0]}
	case late.Created > p.Late[1].Created:
		p.Late[1] = late
	}
}
