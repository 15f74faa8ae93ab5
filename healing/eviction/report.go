package eviction

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// maxUnhealed is how many pods a status lists.
const maxUnhealed = 20

// unhealed is a pod that is left alone until somebody acts.
type unhealed struct {
	namespace, name string
	reason          healing.Reason
	secret          string
	owner           healing.Owner
	since           time.Time
}

func unhealedOf(patient *patient, verdict healing.Verdict) unhealed {
	pod := patient.pod
	return unhealed{pod.Namespace, pod.Name, verdict.Reason, verdict.Secret, pod.Owner.Value(), patient.seen.Since}
}

// tally counts the unhealed pods of one ImagePullSecret, and keeps the first ones by name.
type tally struct {
	counts map[healing.Reason]int
	all    int
	first  []unhealed
}

func (t *tally) add(one unhealed) {
	t.all++
	t.counts[one.reason]++
	i, _ := slices.BinarySearchFunc(t.first, one, func(a, b unhealed) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	if i < maxUnhealed {
		t.first = slices.Insert(t.first[:min(len(t.first), maxUnhealed-1)], i, one)
	}
}

// failure returns the entry of the status, which says what to do.
func (u unhealed) failure() v1.Failure {
	var message string
	switch u.reason {
	case healing.NoController:
		message = "no controller would create it again: delete it and create it again yourself"
	case healing.JobCounts:
		message = fmt.Sprintf("job %s would count its eviction as a failure: delete the pod yourself, and create such jobs with a "+
			"podFailurePolicy that ignores the pod condition DisruptionTarget", u.owner.Name)
	case healing.PodListsItsOwn:
		message = fmt.Sprintf("it lists imagePullSecrets of its own, so another pod would lack %s, too: remove them from its template, add "+
			"%[1]s there, or set spec.pods", u.secret)
	case healing.NotHelped:
		message = fmt.Sprintf("other pods of %s %s were refused, too, although their account and Secret were ready when they were created: "+
			"run kubectl tcr why", u.owner.Kind, u.owner.Name)
	default:
		message = "the API server did not evict it, or did not return its Job, for example because of a webhook: the manager tries again, " +
			"see its log"
	}
	return v1.Failure{
		NamespacedName: u.namespace + "/" + u.name, Reason: string(u.reason), Message: message,
		Since: metav1.NewTime(u.since.Truncate(time.Second)),
	}
}

// report is what the status of ImagePullSecrets says about healing.
type report struct {
	mu       sync.Mutex
	of       map[string]plan.Healing // by ImagePullSecret
	watching bool
	missing  []string
	changed  chan struct{}
}

func newReport() report {
	return report{changed: make(chan struct{})}
}

// Healing returns the report on an ImagePullSecret that heals pods.
func (e *Evictor) Healing(imagePullSecret string) plan.Healing {
	e.told.mu.Lock()
	defer e.told.mu.Unlock()
	told := e.told.of[imagePullSecret]
	told.Watching, told.Missing = e.told.watching, e.told.missing
	return told
}

// Changed returns a channel that is closed once a report changes.
func (e *Evictor) Changed() <-chan struct{} {
	e.told.mu.Lock()
	defer e.told.mu.Unlock()
	return e.told.changed
}

// publish reports the pods that are left alone, by ImagePullSecret.
func (e *Evictor) publish(left map[string]*tally) {
	of, counts := map[string]plan.Healing{}, map[healing.Reason]int{}
	for imagePullSecret, pods := range left {
		told := plan.Healing{Unhealed: pods.all}
		for reason, number := range pods.counts {
			counts[reason] += number
		}
		for _, pod := range pods.first {
			told.Listed = append(told.Listed, pod.failure())
		}
		of[imagePullSecret] = told
	}
	if e.Observer.Unhealed != nil {
		e.Observer.Unhealed(counts)
	}
	missing, watching := e.permitted.lacking()
	e.told.mu.Lock()
	defer e.told.mu.Unlock()
	if maps.EqualFunc(e.told.of, of, plan.Healing.Equal) && e.told.watching == watching && slices.Equal(e.told.missing, missing) {
		return
	}
	e.told.of, e.told.watching, e.told.missing = of, watching, missing
	close(e.told.changed)
	e.told.changed = make(chan struct{})
}
