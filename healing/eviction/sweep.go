package eviction

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// sweep looks at all pods that wait, tells of those that are left alone, and does what is to be done for some of the others.
func (e *Evictor) sweep(ctx context.Context) {
	work := e.judge(time.Now())
	for _, uid := range work[:min(len(work), batch)] {
		if err := e.treat(ctx, uid); err != nil && ctx.Err() == nil {
			e.Log.Warn("pod was not healed, trying again", "error", err)
		}
	}
}

// judge decides about all pods that wait, and returns those for which there is something to do.
func (e *Evictor) judge(now time.Time) (work []types.UID) {
	e.mu.Lock()
	look := e.newLook(now)
	left := map[string]*tally{}
	for uid, patient := range e.pods {
		verdict := look.decide(patient)
		switch verdict.Action {
		case healing.Ask, healing.Evict:
			work = append(work, uid)
		case healing.Tell:
			if left[verdict.ImagePullSecret] == nil {
				left[verdict.ImagePullSecret] = &tally{counts: map[healing.Reason]int{}}
			}
			left[verdict.ImagePullSecret].add(unhealedOf(patient, verdict))
		}
	}
	e.mu.Unlock()
	e.publish(left)
	return work
}

// look is a look at pods at one moment.
type look struct {
	*Evictor
	now   time.Time
	rules *pullsecret.Rules
	facts map[[2]string]healing.Facts // by namespace and account
}

func (e *Evictor) newLook(now time.Time) *look {
	return &look{e, now, e.Index.Rules(), map[[2]string]healing.Facts{}}
}

// decide decides about a pod, with what is known of Jobs: one that was not read does not count. e.mu is held.
func (l *look) decide(patient *patient) healing.Verdict {
	if patient.gone {
		return healing.Verdict{}
	}
	pod := patient.pod
	key := [2]string{pod.Namespace, pod.Account}
	facts, known := l.facts[key]
	if !known {
		if namespace, seen := l.View(pod.Namespace); seen {
			facts = healing.FactsOf(l.rules, namespace, pod.Account, l.Refused)
		}
		l.facts[key] = facts
	}
	owner := pod.Owner.Value().UID
	var past healing.Past
	if l.past[owner] != nil {
		past = *l.past[owner]
	}
	verdict := healing.Decide(pod, patient.seen, facts, past, func() bool { return l.jobs[owner] }, l.now)
	if verdict.Late && !patient.late {
		patient.late = true
		l.pastOf(owner).Saw(pod.Created)
	}
	if verdict.Action == healing.Evict && l.now.Before(patient.blocked) {
		verdict.Action, verdict.Reason = healing.Tell, healing.Blocked
	}
	return verdict
}

// maxPast is how many owners are remembered.
const maxPast = 10000

// pastOf returns what became of the pods of an owner. e.mu is held.
func (e *Evictor) pastOf(owner types.UID) *healing.Past {
	if e.past[owner] == nil {
		for other := range e.past {
			if len(e.past) < maxPast {
				break
			}
			delete(e.past, other)
		}
		e.past[owner] = &healing.Past{}
	}
	return e.past[owner]
}

// verdict decides anew about one pod.
func (e *Evictor) verdict(uid types.UID) (healing.Pod, healing.Verdict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	patient := e.pods[uid]
	if patient == nil {
		return healing.Pod{}, healing.Verdict{}
	}
	return patient.pod, e.newLook(time.Now()).decide(patient)
}

// treat reads what decides about a pod, and evicts it where that is the verdict.
func (e *Evictor) treat(ctx context.Context, uid types.UID) error {
	pod, verdict := e.verdict(uid)
	if verdict.Action == healing.Ask {
		if err := e.ask(ctx, pod); err != nil {
			return err
		}
		pod, verdict = e.verdict(uid)
	}
	if verdict.Action != healing.Evict {
		return nil
	}
	if owner := pod.Owner.Value(); owner.Kind == "Job" {
		if err := e.readJob(ctx, pod.Namespace, owner); err != nil {
			return err
		}
	}
	if err := e.limit.Wait(ctx); err != nil {
		return err
	}
	if pod, verdict = e.verdict(uid); verdict.Action != healing.Evict { // it is another one by now
		return nil
	}
	return e.evict(ctx, pod, verdict)
}

const (
	evictPods  = "create pods/eviction"
	listEvents = "list events"
	getJobs    = "get jobs.batch"
)

// ask reads the events about a pod. They count as read where that failed: it is not tried again at once.
func (e *Evictor) ask(ctx context.Context, pod healing.Pod) error {
	if err := e.readLimit.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := e.Clients.Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.uid": string(pod.UID), "reason": "Failed",
	}.String()})
	e.permitted.used(listEvents, err)
	var events []corev1.Event
	if err == nil {
		events = list.Items
	}
	e.mu.Lock()
	if patient := e.pods[pod.UID]; patient != nil {
		patient.seen = patient.seen.Told(patient.pod, events, time.Now())
	}
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("reading the events of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// readJob reads a Job, once: its podFailurePolicy never changes. One that cannot be read counts the eviction as a failure.
func (e *Evictor) readJob(ctx context.Context, namespace string, owner healing.Owner) error {
	e.mu.Lock()
	_, known := e.jobs[owner.UID]
	e.mu.Unlock()
	if known {
		return nil
	}
	if err := e.readLimit.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	job, err := e.Clients.Jobs(namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	e.permitted.used(getJobs, err)
	if err != nil {
		return fmt.Errorf("reading job %s/%s: %w", namespace, owner.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.jobs[owner.UID] = job.UID != owner.UID || healing.Counts(job)
	return nil
}

// evict evicts a pod as it was seen, and no other one of its name.
func (e *Evictor) evict(ctx context.Context, pod healing.Pod, verdict healing.Verdict) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := e.Clients.Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID, ResourceVersion: &pod.Version}},
	})
	e.permitted.used(evictPods, err)
	e.note(pod, verdict, err)
	switch {
	case err == nil:
		e.tell(pod, verdict)
		return nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // it is gone, or another one by now
		return nil
	}
	return fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

const (
	firstBlock = 10 * time.Second
	lastBlock  = 5 * time.Minute
)

// note remembers how an eviction went.
func (e *Evictor) note(pod healing.Pod, verdict healing.Verdict, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	patient := e.pods[pod.UID]
	switch {
	case err == nil:
		if verdict.Late {
			e.pastOf(pod.Owner.Value().UID).Evicted = time.Now().Unix()
		}
		if patient != nil {
			patient.gone = true
		}
	case patient == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err):
	default:
		wait := min(firstBlock<<min(patient.refused, 10), lastBlock)
		if seconds, says := apierrors.SuggestsClientDelay(err); says {
			wait = max(wait, time.Duration(seconds)*time.Second)
		}
		patient.blocked = time.Now().Add(wait)
		patient.refused++
	}
}

// ReasonEvicted is the reason of the event on the owner of a pod that was evicted.
const ReasonEvicted = "EvictedToPull"

// tell tells of an eviction.
func (e *Evictor) tell(pod healing.Pod, verdict healing.Verdict) {
	owner := pod.Owner.Value()
	e.Log.Info("pod was evicted", "namespace", pod.Namespace, "pod", pod.Name, "owner", owner.Kind+"/"+owner.Name,
		"imagePullSecret", verdict.ImagePullSecret, "reason", verdict.Reason)
	if e.Observer.Evicted != nil {
		e.Observer.Evicted(verdict.Reason)
	}
	if e.Recorder == nil {
		return
	}
	why := fmt.Sprintf("it is older than the entry %s of its service account %s", verdict.Secret, pod.Account)
	if verdict.Reason == healing.BackingOff {
		why = fmt.Sprintf("secret %s holds another credential since its last attempt to pull, and the next one was more than a minute away", verdict.Secret)
	}
	e.Recorder.Eventf(&corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name, UID: owner.UID,
	}, corev1.EventTypeNormal, ReasonEvicted, "pod %s was evicted, so that another one takes its place: %s", pod.Name, why)
}
