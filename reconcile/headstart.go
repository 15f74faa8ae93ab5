package reconcile

import (
	"sync"
	"time"
)

const (
	// headStart lets the API server's own watch of namespaces get ahead of ours: the API server delays writes into a namespace that it has
	// not seen yet by 50 ms (missingNamespaceWait in its NamespaceLifecycle plugin). Without the head start, that happens to one new
	// namespace in thirty.
	headStart = 400 * time.Microsecond
	// maxNewcomers is how many namespaces may wait for their head start. Where more come at once, further ones are enqueued without
	// one: some writes may then take 50 ms longer.
	maxNewcomers = 256
)

// newcomers adds namespaces to a queue once their head start is over.
type newcomers struct {
	add     func(namespace string)
	waiting chan newcomer
	ended   chan struct{}
	end     func()
}

type newcomer struct {
	namespace string
	seen      time.Time
}

func newNewcomers(add func(namespace string)) *newcomers {
	n := &newcomers{add: add, waiting: make(chan newcomer, maxNewcomers), ended: make(chan struct{})}
	n.end = sync.OnceFunc(func() { close(n.ended) })
	go n.run()
	return n
}

// Add adds a namespace that has just been seen, after its head start.
func (n *newcomers) Add(namespace string) {
	select {
	case n.waiting <- newcomer{namespace, time.Now()}:
	default:
		n.add(namespace)
	}
}

// run adds the namespaces, in the order in which they came, until end is called.
func (n *newcomers) run() {
	for {
		select {
		case next := <-n.waiting:
			nap(headStart - time.Since(next.seen))
			n.add(next.namespace)
		case <-n.ended:
			return
		}
	}
}
