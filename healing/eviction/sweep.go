package eviction

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// sweep looks at all waiting pods, reports those that are left alone until somebody acts, and evicts, or reads the events of, some of the
// others. It returns how long to wait before the next sweep.
func (e *Evictor) sweep(ctx context.Context) time.Duration {
	began := time.Now()
	evict, ask := e.judge(began)
	looked := time.Since(began)
	var treating sync.WaitGroup
	treating.Go(func() { e.each(ctx, fair(evict, evictBatch), e.evictStill) })
	treating.Go(func() { e.each(ctx, fair(ask, askBatch), e.askStill) })
	treating.Wait()
	return max(period, share*looked) - time.Since(began)
}

// each calls treat for each of the pods, one after another, and logs failures in one line.
func (e *Evictor) each(ctx context.Context, pods []candidate, treat func(context.Context, types.UID) error) {
	var first error
	failed := 0
	for _, pod := range pods {
		if err := treat(ctx, pod.uid); err != nil {
			if failed++; failed == 1 {
				first = err
			}
		}
	}
	if failed > 0 && ctx.Err() == nil {
		e.Log.Warn("pods were not healed, trying again", "pods", failed, "error", first)
	}
}

// candidate is a pod for which there is something to do.
type candidate struct {
	namespace string
	uid       types.UID
}

// fair returns at most so many of the pods, an equal share from each namespace, so that many pods in one namespace do not keep those in
// others waiting.
func fair(pods []candidate, most int) (chosen []candidate) {
	turns := map[string]int{}
	turn := make([]int, len(pods))
	for i, pod := range pods {
		turn[i] = turns[pod.namespace]
		turns[pod.namespace]++
	}
	for round := 0; len(chosen) < min(most, len(pods)); round++ {
		for i, pod := range pods {
			if turn[i] == round && len(chosen) < most {
				chosen = append(chosen, pod)
			}
		}
	}
	return chosen
}

// judge decides about all waiting pods, and returns those to evict, and those whose events to read.
func (e *Evictor) judge(now time.Time) (evict, ask []candidate) {
	e.mu.Lock()
	look := e.newLook(now)
	left := map[string]*tally{}
	for uid, patient := range e.pods {
		verdict := look.decide(patient)
		switch verdict.Action {
		case healing.Evict:
			evict = append(evict, candidate{patient.pod.Namespace, uid})
		case healing.Ask:
			ask = append(ask, candidate{patient.pod.Namespace, uid})
		case healing.Tell:
			if left[verdict.ImagePullSecret] == nil {
				left[verdict.ImagePullSecret] = &tally{counts: map[healing.Reason]int{}}
			}
			left[verdict.ImagePullSecret].add(unhealedOf(patient, verdict))
		}
	}
	e.mu.Unlock()
	e.publish(left)
	return evict, ask
}

// look holds what decisions at one time share.
type look struct {
	*Evictor
	now   time.Time
	rules *pullsecret.Rules
	views map[string]*plan.Namespace  // nil where nothing in a namespace was seen
	facts map[[2]string]healing.Facts // by namespace and account
}

func (e *Evictor) newLook(now time.Time) *look {
	return &look{e, now, e.Index.Rules(), map[string]*plan.Namespace{}, map[[2]string]healing.Facts{}}
}

// factsOf returns what is known about what the pods of an account pull with. It is computed once.
func (l *look) factsOf(namespace, account string) healing.Facts {
	facts, known := l.facts[[2]string{namespace, account}]
	if known {
		return facts
	}
	view, looked := l.views[namespace]
	if !looked {
		if seen, found := l.View(namespace); found {
			view = &seen
		}
		l.views[namespace] = view
	}
	if view != nil {
		facts = healing.FactsOf(l.rules, *view, account, l.Refused)
	}
	l.facts[[2]string{namespace, account}] = facts
	return facts
}

// decide decides about a pod. A Job that was not read yet is assumed not to count evictions. e.mu is held.
func (l *look) decide(patient *patient) healing.Verdict {
	if patient.gone {
		return healing.Verdict{}
	}
	pod, owner := patient.pod, ownerOf(patient.pod)
	var past healing.Past
	if l.past[owner] != nil {
		past = *l.past[owner]
	}
	facts := l.factsOf(pod.Namespace, pod.Account)
	verdict := healing.Decide(pod, patient.seen, facts, past, l.jobs[owner], l.now)
	if verdict.Late && !patient.late {
		patient.late = true
		l.pastOf(owner).Saw(healing.Latecomer{Created: pod.Created, Seen: patient.seen.First})
	}
	if verdict.Action == healing.Evict && l.now.Before(patient.held) {
		verdict.Action = healing.Leave
		if patient.telling {
			verdict.Action, verdict.Reason = healing.Tell, healing.Blocked
		}
	}
	return verdict
}

// maxOwners is how many owners are remembered.
const maxOwners = 10000

// pastOf returns what is remembered about the pods of an owner. e.mu is held.
func (e *Evictor) pastOf(owner ownerKey) *healing.Past {
	if e.past[owner] == nil {
		makeRoom(e.past)
		e.past[owner] = &healing.Past{}
	}
	return e.past[owner]
}

// makeRoom forgets arbitrary owners until there is room for one more.
func makeRoom[Known any](owners map[ownerKey]Known) {
	for other := range owners {
		if len(owners) < maxOwners {
			return
		}
		delete(owners, other)
	}
}

// verdict decides again about one pod.
func (e *Evictor) verdict(uid types.UID) (healing.Pod, healing.Verdict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	patient := e.pods[uid]
	if patient == nil {
		return healing.Pod{}, healing.Verdict{}
	}
	return patient.pod, e.newLook(time.Now()).decide(patient)
}
