package reconcile

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// promptRepairs is how often the same write is repeated at once: what an operator or a hasty script undoes is put
	// right without delay.
	promptRepairs = 8
	// firstPause is how long the repair after those waits. Each further one waits twice as long, up to maxPause.
	firstPause = 5 * time.Second
	maxPause   = 5 * time.Minute
	// truce is how long a write must last for the fight over it to be over. It is above maxPause, so that a fight in which
	// we have become slow is not taken for its end.
	truce = 15 * time.Minute
)

// ReasonContended is the failure of an object that someone else changes back whenever we have repaired it.
const ReasonContended = "Contended"

// contention notices the writes that someone undoes again and again, and holds their repetition back ever longer: two
// controllers that disagree must not keep an API server busy. What is written with other content, such as a new password,
// is no repetition.
type contention struct {
	mu    sync.Mutex
	seed  maphash.Seed
	fresh map[string]map[object]fight // by namespace
	swept time.Time
}

// object is one object of a namespace that we write.
type object struct {
	account bool // a ServiceAccount, else a Secret
	name    string
}

// fight is what is known of the repetitions of one write.
type fight struct {
	content uint64
	// repairs counts the repetitions; since is when the first was due, last the time of the last write.
	repairs     int
	since, last time.Time
	// undone is whether the last write was undone within its own request.
	undone bool
}

func newContention() *contention {
	return &contention{seed: maphash.MakeSeed(), fresh: map[string]map[object]fight{}}
}

// subject returns what a change writes: where, and a hash of what.
func (c *contention) subject(change Change) (namespace string, written object, content uint64) {
	var hash maphash.Hash
	hash.SetSeed(c.seed)
	put := func(texts ...string) {
		for _, text := range texts {
			_, _ = hash.WriteString(strconv.Quote(text)) // it never fails
		}
	}
	switch change := change.(type) {
	case IssueSecret:
		namespace, written = change.Namespace, object{name: change.Rule.Secret}
		put("issue", string(change.Rule.UID), string(change.Rule.Sum[:]))
	case DeleteSecret:
		namespace, written = change.Namespace, object{name: change.Name}
		put("delete")
	case EditAccount:
		namespace, written = change.Namespace, object{account: true, name: change.Name}
		put(change.Secrets...)
		for _, operation := range change.Patch { // to add an entry that one has removed repeats nothing
			put(operation.Operation)
		}
	}
	return namespace, written, hash.Sum64()
}

// held returns the fight that keeps a change from being written yet, and until when; false where it may be written.
func (c *contention) held(change Change, now time.Time) (of fight, until time.Time, held bool) {
	namespace, written, content := c.subject(change)
	c.mu.Lock()
	defer c.mu.Unlock()
	of, found := c.fresh[namespace][written]
	if !found || of.content != content || of.repairs < promptRepairs {
		return fight{}, time.Time{}, false
	}
	until = of.last.Add(pause(of.repairs - promptRepairs))
	return of, until, now.Before(until)
}

// pause returns how long to wait after so many pauses before.
func pause(before int) time.Duration {
	if before > 10 { // the shift would overflow long after the bound is reached
		return maxPause
	}
	return min(firstPause<<before, maxPause)
}

// wrote takes in that a change was written, and whether that was undone within the same request. It returns how often by now
// the change has repaired what someone had undone.
func (c *contention) wrote(change Change, now time.Time, undone bool) (repairs int) {
	namespace, written, content := c.subject(change)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	objects := c.fresh[namespace]
	if objects == nil {
		objects = map[object]fight{}
		c.fresh[namespace] = objects
	}
	known, found := objects[written]
	if !found || known.content != content || now.Sub(known.last) > truce {
		objects[written] = fight{content: content, last: now, undone: undone}
		return 0
	}
	if known.repairs++; known.repairs == 1 {
		known.since = now
	}
	known.last, known.undone = now, undone
	objects[written] = known
	return known.repairs
}

// forget takes in that a namespace is gone: what is written into the next one of its name repeats nothing.
func (c *contention) forget(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fresh, namespace)
}

// forgetAccount takes in that a ServiceAccount is gone.
func (c *contention) forgetAccount(namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fresh[namespace], object{account: true, name: name})
}

// sweep forgets, once a minute, what has lasted.
func (c *contention) sweep(now time.Time) {
	if now.Sub(c.swept) < time.Minute {
		return
	}
	c.swept = now
	for namespace, objects := range c.fresh {
		for written, known := range objects {
			if now.Sub(known.last) > truce {
				delete(objects, written)
			}
		}
		if len(objects) == 0 {
			delete(c.fresh, namespace)
		}
	}
}

// contended returns what a held change means to those whose rules asked for it. namespace says who wrote last.
func contended(change Change, of fight, until time.Time, namespace Namespace) []Problem {
	who := "someone"
	if manager := lastWriter(change, namespace); manager != "" {
		who = fmt.Sprintf("%q", manager)
	}
	problems := concerned(change)
	for i := range problems {
		problems[i].Since.Time = of.since.Truncate(time.Second)
		if of.undone {
			problems[i].Reason = ReasonUndone
			problems[i].Message = fmt.Sprintf("%s; tried %d times since %s, next at %s", (&undone{}).Error(),
				of.repairs, of.since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
			continue
		}
		problems[i].Reason = ReasonContended
		problems[i].Message = fmt.Sprintf("%s undoes what is written here: repaired %d times since %s, next at %s. Make it leave this object alone",
			who, of.repairs, of.since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	return problems
}

// lastWriter returns the field manager that wrote the changed object after us, where that is known.
func lastWriter(change Change, namespace Namespace) string {
	switch change := change.(type) {
	case IssueSecret:
		secret, _ := namespace.Secret(change.Rule.Secret)
		return secret.Writer
	case DeleteSecret:
		secret, _ := namespace.Secret(change.Name)
		return secret.Writer
	case EditAccount:
		if i, found := slices.BinarySearchFunc(namespace.Accounts, change.Name, Account.compare); found {
			return namespace.Accounts[i].Writer
		}
	}
	return ""
}
