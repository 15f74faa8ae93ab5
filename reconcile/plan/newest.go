package plan

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// newest collects the most recently changed objects, as many as a status lists. Every object in the cluster is added each time a status
// is computed, so objects that are not among the newest are dropped at once.
type newest struct {
	before map[place]int64 // times that the previous status lists
	found  stampedHeap
}

// place identifies an object.
type place struct{ namespace, name string }

type stamped struct {
	at int64
	place
}

// compare orders the newest first, and objects of the same second by name.
func (s stamped) compare(other stamped) int {
	return cmp.Or(cmp.Compare(other.at, s.at), cmp.Compare(s.namespace, other.namespace), cmp.Compare(s.name, other.name))
}

func newNewest(before []v1.Update) *newest {
	n := &newest{before: make(map[place]int64, len(before))}
	for _, update := range before {
		namespace, name, _ := strings.Cut(update.NamespacedName, "/")
		n.before[place{namespace, name}] = update.UpdatedAt.Unix()
	}
	return n
}

func (n *newest) add(at int64, namespace, name string) {
	one := stamped{at, place{namespace, name}}
	one.at = max(at, n.before[one.place])
	switch {
	case len(n.found) < maxUpdates:
		heap.Push(&n.found, one)
	case one.compare(n.found[0]) < 0:
		n.found[0] = one
		heap.Fix(&n.found, 0)
	}
}

// updates returns the collected objects, the newest first.
func (n *newest) updates() []v1.Update {
	slices.SortFunc(n.found, stamped.compare)
	var updates []v1.Update
	room := maxNames
	for _, one := range n.found {
		name := one.namespace + "/" + one.name
		if room -= len(name); room < 0 {
			break
		}
		updates = append(updates, v1.Update{NamespacedName: name, UpdatedAt: metav1.Unix(one.at, 0)})
	}
	return updates
}

// stampedHeap is a heap with the oldest object on top.
type stampedHeap []stamped

func (h stampedHeap) Len() int           { return len(h) }
func (h stampedHeap) Less(i, j int) bool { return h[i].compare(h[j]) > 0 }
func (h stampedHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push appends an element.
func (h *stampedHeap) Push(one any) { *h = append(*h, one.(stamped)) }

// Pop removes the last element and returns it.
func (h *stampedHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
