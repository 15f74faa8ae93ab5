package plan

import (
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tcr-assistant/tcr-assistant/backoff"
)

const (
	// PromptRepairs is how often the same write is repeated at once: what an operator or a hasty script undoes is repaired without delay.
	PromptRepairs = 8
	// firstRepairDelay is how long the first repair after those waits. Each further one waits twice as long, up to maxRepairDelay.
	firstRepairDelay = 5 * time.Second
	maxRepairDelay   = 5 * time.Minute
	// backoffReset is how long a write must last before its next repair is prompt again. It is longer than maxRepairDelay, so that a write
	// that is still being undone does not seem to last.
	backoffReset = 15 * time.Minute
)

// ReasonContended is the failure of an object that someone else changes back each time we repair it.
const ReasonContended = "Contended"

// RepairBackoff detects writes that someone undoes again and again, and repeats them with a growing delay: two controllers that disagree
// must not keep an API server busy. A write with other content, such as a new password, is not a repetition.
type RepairBackoff struct {
	mu          sync.Mutex
	byNamespace map[string][]lastWrite // by the object
	began       time.Time              // when the first write was noted
	swept       time.Time
}

// lastWrite is what is known about the last write of an object. There is one for each object that was written in the last minutes, so it is
// small, and a namespace's are a slice: a map of a few takes three times as much.
type lastWrite struct {
	object  localKey
	content uint64
	at      time.Duration // since the first write of all
	repairs *Repairs      // nil unless it repeats an earlier write
}

// Repairs is what is known about the repetitions of one write.
type Repairs struct {
	// count is the number of repetitions; since is when the first one was due, last the time of the last write.
	count       int
	since, last time.Time
	// undone is whether the last write was undone within its own request.
	undone bool
}

// NewRepairBackoff returns a RepairBackoff that has seen no write.
func NewRepairBackoff() *RepairBackoff {
	return &RepairBackoff{byNamespace: map[string][]lastWrite{}}
}

// contentSeed prevents users from choosing names that have equal hashes.
var contentSeed = maphash.MakeSeed()

// contentOf returns a hash of what a change writes.
func contentOf(change Change) uint64 {
	var hash maphash.Hash
	hash.SetSeed(contentSeed)
	put := func(texts ...string) {
		for _, text := range texts {
			_, _ = hash.WriteString(strconv.Quote(text)) // it never fails
		}
	}
	switch change := change.(type) {
	case IssueSecret:
		put("issue", string(change.Rule.UID), string(change.Rule.Sum[:]))
	case DeleteSecret:
		put("delete")
	case EditAccount:
		put(change.Secrets...)
		for _, operation := range change.Patch { // adding an entry after removing it is not a repetition
			put(operation.Operation)
		}
	}
	return hash.Sum64()
}

// Held returns the repairs because of which a change is held back, and until when; false where it may be written.
func (b *RepairBackoff) Held(change Change, now time.Time) (repairs Repairs, until time.Time, held bool) {
	key, content := KeyOf(change), contentOf(change)
	b.mu.Lock()
	defer b.mu.Unlock()
	writes := b.byNamespace[key.Namespace]
	i, found := find(writes, key.local())
	if !found || writes[i].content != content || writes[i].repairs == nil || writes[i].repairs.count < PromptRepairs {
		return Repairs{}, time.Time{}, false
	}
	repairs = *writes[i].repairs
	until = repairs.last.Add(backoff.Doubled(firstRepairDelay, repairs.count-PromptRepairs, maxRepairDelay))
	return repairs, until, now.Before(until)
}

// Wrote notes that a change was written, and whether that was undone within the same request. It returns how often by now the change has
// repaired what someone had undone.
func (b *RepairBackoff) Wrote(change Change, now time.Time, undone bool) (count int) {
	key, content := KeyOf(change), contentOf(change)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		b.began = now
	}
	b.sweep(now)
	write := lastWrite{object: key.local(), content: content, at: now.Sub(b.began)}
	writes := b.byNamespace[key.Namespace]
	i, found := find(writes, write.object)
	if !found {
		b.byNamespace[key.Namespace] = slices.Insert(writes, i, write)
		return 0
	}
	if before := writes[i]; before.content == content && write.at-before.at <= backoffReset {
		write.repairs = &Repairs{count: 1, since: now, last: now, undone: undone}
		if before.repairs != nil {
			write.repairs.count, write.repairs.since = before.repairs.count+1, before.repairs.since
		}
		count = write.repairs.count
	}
	writes[i] = write
	return count
}

// find returns where the last write of an object stands among those of its namespace, or belongs.
func find(writes []lastWrite, object localKey) (i int, found bool) {
	return slices.BinarySearchFunc(writes, object, func(write lastWrite, object localKey) int { return write.object.compare(object) })
}

// ForgetNamespace notes that a namespace is gone: writes into the next namespace of its name are not repetitions.
func (b *RepairBackoff) ForgetNamespace(namespace string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byNamespace, namespace)
}

// ForgetAccount notes that a ServiceAccount is gone.
func (b *RepairBackoff) ForgetAccount(namespace, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	writes := b.byNamespace[namespace]
	if i, found := find(writes, localKey{account: true, name: name}); found {
		b.byNamespace[namespace] = slices.Delete(writes, i, i+1)
	}
}

// sweep forgets, once a minute, the writes that have lasted.
func (b *RepairBackoff) sweep(now time.Time) {
	if now.Sub(b.swept) < time.Minute {
		return
	}
	b.swept = now
	for namespace, writes := range b.byNamespace {
		writes = slices.DeleteFunc(writes, func(write lastWrite) bool { return now.Sub(b.began)-write.at > backoffReset })
		if b.byNamespace[namespace] = writes; len(writes) == 0 {
			delete(b.byNamespace, namespace)
		}
	}
}
