// Package latest keeps the latest version of one object of the API: a Lease, a webhook configuration, a Secret.
//
// It learns about the object from a watch, from the answers to its own writes, and from reads. Any of these may be late. They are
// ordered by resourceVersion, deletions included, so that a late event undoes nothing, and the late answer to a creation does not
// bring back an object that is gone:
//
//	watch ─────┐
//	answers ───┼──> order by version ──> Get, Changed
//	reads ─────┘
//
// A read counts for more. If the API server answers one with a version below one that it had already reported, etcd was restored to
// an older revision, and the answer is the truth: it replaces all that is known, and the watch, which would wait for versions that
// are far off, starts again. For the same reason no watch is ever resumed: each begins with a read.
package latest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/backoff"
)

const (
	// readTimeout is how long a read may take.
	readTimeout = 10 * time.Second
	// watchTimeout is how long the API server keeps a watch open, at least; at most twice as long.
	watchTimeout = 5 * time.Minute
	// steady is how long a watch must have lasted for the pauses and the log to start over.
	steady = 10 * time.Second
	// firstPause and longestPause bound the pauses between failures: an API server that comes back is noticed within seconds.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// Source reads and watches one object, as [k8s.io/client-go/tools/cache.ListWatch] does when it is narrowed to a name.
type Source interface {
	ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error)
	WatchWithContext(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// Kind is a pointer to a Kubernetes object.
type Kind interface {
	runtime.Object
	metav1.Object
}

// Object is the latest version of an object, as far as known. Its methods may be called from several goroutines.
type Object[K Kind] struct {
	log    *slog.Logger
	name   string
	source Source

	mu      sync.Mutex
	known   record[K]
	changed chan struct{} // closed when what Get returns changes
	turned  chan struct{} // closed when an era ends, see record
}

// NewObject returns the object that the source reads and watches. The name is for the log.
func NewObject[K Kind](log *slog.Logger, name string, source Source) *Object[K] {
	return &Object[K]{log: log, name: name, source: source, changed: make(chan struct{}), turned: make(chan struct{})}
}

// Snapshot is what was known about an object at one moment.
type Snapshot[K Kind] struct {
	// Object is nil if it does not exist. It is shared, and must not be modified.
	Object K
	// Exists says whether the object exists.
	Exists bool
	// Known says whether anything is known about the object.
	Known bool
	// Changed is closed once any of this has changed.
	Changed <-chan struct{}
}

// Version returns the object's resourceVersion; blank if the object does not exist.
func (s Snapshot[K]) Version() string {
	if !s.Exists {
		return ""
	}
	return s.Object.GetResourceVersion()
}

// Get returns what is known about the object. It makes no request.
func (o *Object[K]) Get() Snapshot[K] {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Snapshot[K]{o.known.object, o.known.exists, o.known.heard, o.changed}
}

// Run watches the object until ctx ends.
func (o *Object[K]) Run(ctx context.Context) {
	pauses, said := backoff.Between(firstPause, longestPause), ""
	for ctx.Err() == nil {
		began := time.Now()
		err := o.watchOnce(ctx)
		if time.Since(began) >= steady {
			pauses, said = backoff.Between(firstPause, longestPause), ""
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error() // logs once for each outage
			o.log.Warn("object was not watched", "name", o.name, "error", err)
		}
		backoff.Sleep(ctx, pauses.Step())
	}
}

// CatchUp returns once what is known is at least as new as the call, or with the cause when ctx ends first. After an outage, the
// watch may lag far behind.
func (o *Object[K]) CatchUp(ctx context.Context) error {
	for pauses := backoff.Between(firstPause, longestPause); ; {
		_, _, err := o.read(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.log.Warn("object was not read", "name", o.name, "error", err)
		backoff.Sleep(ctx, pauses.Step())
	}
}

// Read reads the object from the API server once and takes in the answer.
func (o *Object[K]) Read(ctx context.Context) error {
	_, _, err := o.read(ctx)
	return err
}

// Write calls write and takes in its answer, unless the API server goes back in time meanwhile: then it is unknown whether the answer is
// from before or after, and the watch shows what became of the write.
func (o *Object[K]) Write(write func() (K, error)) (K, error) {
	o.mu.Lock()
	era := o.known.era
	o.mu.Unlock()
	written, err := write()
	if err == nil {
		o.tell(written, true, era)
	}
	return written, err
}

// watchOnce reads the object and takes in every event from then on, until the watch ends.
func (o *Object[K]) watchOnce(ctx context.Context) error {
	version, after, err := o.read(ctx)
	if err != nil {
		return err
	}
	seconds := int64((watchTimeout + rand.N(watchTimeout)) / time.Second)
	stream, err := o.source.WatchWithContext(ctx, metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &seconds})
	if err != nil {
		return fmt.Errorf("watching %s: %w", o.name, err)
	}
	defer stream.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-after.turned:
			return nil
		case event, open := <-stream.ResultChan():
			if !open {
				return nil
			}
			object, is := event.Object.(K)
			switch {
			case event.Type == watch.Bookmark:
			case event.Type == watch.Error || !is:
				return fmt.Errorf("watching %s: %w", o.name, apierrors.FromObject(event.Object))
			default:
				o.tell(object, event.Type != watch.Deleted, after.era)
			}
		}
	}
}

// moment is an era, and a channel that is closed when it ends.
type moment struct {
	era    int
	turned <-chan struct{}
}

// read reads the current object and takes in the answer. It returns the version that the API server is at. If an era ends meanwhile,
// the answer is dropped and the read repeated.
func (o *Object[K]) read(ctx context.Context) (version string, after moment, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		o.mu.Lock()
		asked := o.known
		o.mu.Unlock()
		object, exists, version, err := o.ask(ctx)
		if err != nil {
			return "", after, fmt.Errorf("reading %s: %w", o.name, err)
		}
		stale := false
		era, turned := o.put(func(r record[K]) record[K] {
			stale = asked.era != r.era
			return r.read(object, exists, Version(version), asked)
		})
		if !stale {
			return version, moment{era, turned}, nil
		}
	}
}

// ask returns the current object, and the version that the API server is at.
func (o *Object[K]) ask(ctx context.Context) (object K, exists bool, version string, err error) {
	// Without a resourceVersion in its options, a list returns the most recent data, not what some API server has cached.
	list, err := o.source.ListWithContext(ctx, metav1.ListOptions{})
	if err != nil {
		return object, false, "", err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return object, false, "", err
	}
	err = meta.EachListItem(list, func(item runtime.Object) error {
		object, exists = item.(K)
		return nil
	})
	return object, exists, accessor.GetResourceVersion(), err
}

// tell takes in that an object was written or, if it does not exist, deleted.
func (o *Object[K]) tell(object K, exists bool, era int) {
	var none K
	told := object
	if !exists {
		told = none
	}
	o.put(func(r record[K]) record[K] { return r.told(told, exists, Version(object.GetResourceVersion()), era) })
}

func (o *Object[K]) put(change func(record[K]) record[K]) (era int, turned <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.known
	o.known = change(before)
	if o.known.era != before.era {
		o.log.Warn("API server went back in time", "name", o.name, "from", before.asOf, "to", o.known.asOf)
		close(o.turned)
		o.turned = make(chan struct{})
	}
	if o.known.heard != before.heard || o.known.exists != before.exists ||
		o.known.exists && o.known.object.GetResourceVersion() != before.object.GetResourceVersion() {
		close(o.changed)
		o.changed = make(chan struct{})
	}
	return o.known.era, o.turned
}
