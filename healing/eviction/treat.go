package eviction

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/healing"
)

// askStill reads the events about a pod, if they still have to be read.
func (e *Evictor) askStill(ctx context.Context, uid types.UID) error {
	if err := e.readLimit.Wait(ctx); err != nil {
		return err
	}
	pod, verdict := e.verdict(uid)
	if verdict.Action != healing.Ask {
		return nil
	}
	return e.ask(ctx, pod, verdict.Written)
}

// evictStill evicts a pod, if it still has to be evicted.
func (e *Evictor) evictStill(ctx context.Context, uid types.UID) error {
	pod, verdict := e.verdict(uid)
	if verdict.Action != healing.Evict {
		return nil
	}
	if owner := pod.Owner.Value(); owner.IsJob() {
		if err := e.readJob(ctx, pod.Namespace, owner); err != nil {
			e.hold(uid, err)
			return err
		}
	}
	if err := e.limit.Wait(ctx); err != nil {
		return err
	}
	if pod, verdict = e.verdict(uid); verdict.Action != healing.Evict { // the verdict has changed by now
		return nil
	}
	return e.evict(ctx, pod, verdict)
}

const (
	evictPods  = "create pods/eviction"
	listEvents = "list events"
	getJobs    = "get jobs.batch"
)

// maxEvents and maxEventBytes limit how many events of a pod are read, and how many bytes: whoever may write events in its namespace may
// write as many as fit.
const (
	maxEvents     = 100
	maxEventBytes = 4 << 20
)

// ask reads the events about a pod, for a Secret that was written at that time.
func (e *Evictor) ask(ctx context.Context, pod healing.Pod, written int64) error {
	ctx, cancel := context.WithTimeout(clientset.AtMost(ctx, maxEventBytes), callTimeout)
	defer cancel()
	list, err := e.Clients.Events(pod.Namespace).List(ctx, metav1.ListOptions{
		Limit: maxEvents, FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)).String(),
	})
	e.permitted.used(listEvents, err)
	e.mu.Lock()
	if patient := e.pods[pod.UID]; patient != nil && err == nil {
		patient.seen = patient.seen.Told(patient.pod, list.Items, written, time.Now())
	} else if patient != nil {
		patient.seen = patient.seen.Untold(written, time.Now())
	}
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("reading the events of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// readJob reads a Job once, since its podFailurePolicy is immutable. A Job that is gone is assumed to count the eviction as a failure.
func (e *Evictor) readJob(ctx context.Context, namespace string, owner healing.Owner) error {
	key := ownerKey{namespace, owner.UID}
	e.mu.Lock()
	_, known := e.jobs[key]
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
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading job %s/%s: %w", namespace, owner.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	makeRoom(e.jobs)
	e.jobs[key] = err != nil || job.UID != owner.UID || healing.Counts(job)
	return nil
}

// evict evicts a pod, provided it still is as it was seen.
func (e *Evictor) evict(ctx context.Context, pod healing.Pod, verdict healing.Verdict) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	this := e.begin(pod, verdict)
	if this == nil {
		return nil
	}
	err := e.Clients.Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID, ResourceVersion: &pod.Version}},
	})
	e.permitted.used(evictPods, err)
	if e.end(pod, this, err) {
		e.tell(pod, verdict)
	}
	if err == nil {
		return nil
	}
	e.hold(pod.UID, err)
	if outdated(err) {
		return nil
	}
	return fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// try is a request to evict a pod.
type try struct {
	verdict healing.Verdict
	// answered is whether the request was answered, and doubtful whether the answer to it, or to an earlier one, leaves open what happened
	// to the pod.
	answered, doubtful bool
	// gone is whether the pod was seen to be evicted.
	gone bool
}

// begin notes that a pod is about to be evicted; it returns nil where the pod is gone.
func (e *Evictor) begin(pod healing.Pod, verdict healing.Verdict) *try {
	e.mu.Lock()
	defer e.mu.Unlock()
	patient := e.pods[pod.UID]
	if patient == nil {
		return nil
	}
	patient.try = &try{verdict: verdict, doubtful: patient.try != nil}
	return patient.try
}

// end records how the request ended, and reports whether the pod is known to have been evicted.
func (e *Evictor) end(pod healing.Pod, this *try, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	this.answered, this.doubtful = true, this.doubtful || lost(err)
	if this.verdict.Late && (err == nil || lost(err)) {
		past := e.pastOf(ownerOf(pod))
		past.Evicted, past.Stood = time.Now(), this.verdict.Stands
	}
	if patient := e.pods[pod.UID]; patient != nil {
		if patient.gone = err == nil; patient.gone || !this.doubtful {
			patient.try = nil
		}
	}
	return err == nil || this.gone && this.doubtful
}

// settled records that a pod went because it was evicted. Where the answer to the request was lost, it returns the verdict, which nobody
// else will report. e.mu is held.
func (p *patient) settled(pod healing.Pod) *healing.Verdict {
	if p == nil || p.try == nil || !pod.Evicted || len(pod.Waits) > 0 {
		return nil
	}
	if p.try.gone = true; p.try.answered {
		return &p.try.verdict
	}
	return nil
}

// outdated reports whether err means that a pod is gone, or has changed.
func outdated(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// lost reports whether a request may have succeeded although it ended in err.
func lost(err error) bool {
	var status apierrors.APIStatus
	return err != nil && (!errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError)
}

const (
	firstHold = 10 * time.Second
	lastHold  = 5 * time.Minute
	// longestHold limits for how long the API server can make us leave a pod alone.
	longestHold = time.Hour
)

// hold leaves a pod alone for a while, because a request about it failed.
func (e *Evictor) hold(uid types.UID, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	patient := e.pods[uid]
	if patient == nil {
		return
	}
	wait := min(firstHold<<min(patient.failed, 10), lastHold)
	if seconds, says := apierrors.SuggestsClientDelay(err); says {
		wait = max(wait, min(time.Duration(seconds)*time.Second, longestHold))
	}
	patient.held, patient.telling = time.Now().Add(wait), !outdated(err)
	patient.failed++
}

// ReasonEvicted is the reason of the event on the owner of a pod that was evicted.
const ReasonEvicted = "EvictedToPull"

// tell reports an eviction.
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
		why = fmt.Sprintf("secret %s was written after its last attempt to pull, and the next attempt was more than a minute away",
			verdict.Secret)
	}
	e.Recorder.Eventf(&corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name, UID: owner.UID,
	}, corev1.EventTypeNormal, ReasonEvicted, "pod %s was evicted, so that another one takes its place: %s", pod.Name, why)
}
