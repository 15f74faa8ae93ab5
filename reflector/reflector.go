// Package reflector runs client-go's reflectors without their caches: it passes on the existing objects of a kind, and then every
// change of them.
//
// The existing objects come first, as a relist, and again whenever the API server cannot report every change since. A watch that ended
// early is resumed only after a check of the version that the API server is at: one whose data was restored from a backup would accept
// a version that it has not reached yet, and be silent until then.
package reflector

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

// Store passes on what is watched, stripped to what is needed. It keeps nothing, so that no object is held twice, and each object of
// a watch is stripped before the next one is decoded.
type Store[Object latest.Kind, Stripped any] struct {
	Strip    func(Object) Stripped
	Put      func(Stripped)
	Remove   func(Stripped)
	Replaced func(all []Stripped, at latest.Relist)
	// PageSize is how many objects of a list are held whole at a time; 0 means 500.
	PageSize int64

	// LastVersion is the latest version that was seen. If these objects were watched before, set it to what was seen then.
	LastVersion uint64
}

var _ cache.ReflectorStore = (*Store[*corev1.Secret, int])(nil)

// Add passes on an object that was created.
func (s *Store[Object, Stripped]) Add(object any) error { s.Put(s.take(object)); return nil }

// Update passes on an object that was changed.
func (s *Store[Object, Stripped]) Update(object any) error { s.Put(s.take(object)); return nil }

// Delete passes on an object that was deleted.
func (s *Store[Object, Stripped]) Delete(object any) error { s.Remove(s.take(object)); return nil }

// Resync does nothing: nothing is kept that could be passed on again.
func (s *Store[Object, Stripped]) Resync() error { return nil }

// Bookmark takes in that there was no other change up to that version.
func (s *Store[Object, Stripped]) Bookmark(version string) error {
	s.LastVersion = max(s.LastVersion, latest.Version(version))
	return nil
}

// Replace takes in a relist.
func (s *Store[Object, Stripped]) Replace(objects []any, version string) error {
	all := make([]Stripped, len(objects))
	for i, object := range objects {
		all[i] = s.stripped(object)
	}
	at := latest.Version(version)
	rewound := at < s.LastVersion
	s.LastVersion = at
	s.Replaced(all, latest.Relist{Version: at, Rewound: rewound})
	return nil
}

// take strips an object, and takes in its version.
func (s *Store[Object, Stripped]) take(object any) Stripped {
	if whole, is := object.(Object); is {
		s.LastVersion = max(s.LastVersion, latest.Version(whole.GetResourceVersion()))
	}
	return s.stripped(object)
}

// stripped returns what is needed of an object. Those of a list have already been stripped.
func (s *Store[Object, Stripped]) stripped(object any) Stripped {
	if listed, is := object.(*strippedObject[Stripped]); is {
		return listed.stripped
	}
	return s.Strip(object.(Object))
}

// Everything narrows nothing.
func Everything(*metav1.ListOptions) {}

// forbiddenLogPeriod is how often a missing permission is logged.
const forbiddenLogPeriod = 10 * time.Minute

// LogForbidden returns a function that logs a missing permission: the reflector logs its failures, but not how to fix them. The function
// may be called from several goroutines, for thousands of watches.
func LogForbidden(log *slog.Logger, resource string) func(verb string, err error) {
	var mu sync.Mutex
	said := map[string]time.Time{} // by verb
	return func(verb string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); apierrors.IsForbidden(err) && now.Sub(said[verb]) > forbiddenLogPeriod {
			log.Error("permission is missing", "verb", verb, "resource", resource, "error", err)
			said[verb] = now
		}
	}
}

// ListWatch joins a typed client's List and Watch. answered is called for each answer, with a nil error if it succeeded.
func ListWatch[List runtime.Object](
	answered func(verb string, err error), narrow func(*metav1.ListOptions),
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	before := &resumption{now: time.Now}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			asOfNow(&options)
			objects, err := list(ctx, options)
			answered("list", err)
			before.listed(err)
			return objects, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			doubtful := before.doubtful(options)
			before.began(options)
			if doubtful {
				if err := checkNotRewound(ctx, options, list); err != nil {
					answered("list", err)
					return nil, err
				}
			}
			events, err := stream(ctx, options)
			answered("watch", err)
			return events, err
		},
	}
}

// asOfNow makes a list return the most recent data. An API server that is asked for a version that it has not reached waits for it:
// after its data was restored from a backup, perhaps for years.
func asOfNow(options *metav1.ListOptions) {
	if options.Continue == "" {
		options.ResourceVersion, options.ResourceVersionMatch = "", ""
	}
}

// resumption is what is known about the last watch.
type resumption struct {
	now func() time.Time

	mu  sync.Mutex
	due time.Time // when it should have ended; zero if there was none
}

// listed takes in a list: the next watch begins with its version, and resumes nothing.
func (r *resumption) listed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.due = time.Time{}
	}
}

// doubtful reports whether a watch resumes one that ended early. Another API server may answer now, or the same one with the data of
// a backup.
func (r *resumption) doubtful(options metav1.ListOptions) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	resumes := options.ResourceVersion != "" && options.ResourceVersion != "0"
	return resumes && r.now().Before(r.due)
}

// began takes in that a watch begins.
func (r *resumption) began(options metav1.ListOptions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = time.Time{}
	if options.TimeoutSeconds != nil {
		r.due = r.now().Add(time.Duration(*options.TimeoutSeconds)*time.Second - time.Second)
	}
}

// checkNotRewound returns an error if the API server is at an earlier version than the one that a watch would begin with. It would
// accept the watch and be silent until it reaches that version.
func checkNotRewound[List runtime.Object](
	ctx context.Context, watched metav1.ListOptions, list func(context.Context, metav1.ListOptions) (List, error),
) error {
	least, err := list(ctx, metav1.ListOptions{LabelSelector: watched.LabelSelector, FieldSelector: watched.FieldSelector, Limit: 1})
	if err != nil {
		return err
	}
	listed, err := meta.ListAccessor(least)
	if err != nil {
		return err
	}
	if latest.Version(listed.GetResourceVersion()) < latest.Version(watched.ResourceVersion) {
		return apierrors.NewResourceExpired("the API server is at version " + listed.GetResourceVersion() + ", and was at " +
			watched.ResourceVersion)
	}
	return nil
}

// newPauses returns the pauses between failures: an API server that comes back is noticed within seconds.
func newPauses() wait.Backoff { return backoff.Between(100*time.Millisecond, 5*time.Second) }

// quiet drops what a reflector logs about a missing permission, at each of its tries: ListWatch calls answered with it, which decides
// how often to log it.
type quiet struct{ klog.LogSink }

// Error logs failures that have another cause.
func (q quiet) Error(err error, message string, keysAndValues ...any) {
	if !apierrors.IsForbidden(err) {
		q.LogSink.Error(err, message, keysAndValues...)
	}
}

// WithName returns the same sink with a name.
func (q quiet) WithName(name string) klog.LogSink { return quiet{q.LogSink.WithName(name)} }

// WithValues returns the same sink with more key-value pairs.
func (q quiet) WithValues(keysAndValues ...any) klog.LogSink {
	return quiet{q.LogSink.WithValues(keysAndValues...)}
}

// Run runs a reflector until ctx ends. It passes to the store what the API server has.
func Run[Object latest.Kind, Stripped any](
	ctx context.Context, name string, source *cache.ListWatch, object Object, store *Store[Object, Stripped],
) {
	pauses := newPauses()
	r := cache.NewReflectorWithOptions(&pages[Object, Stripped]{ListWatch: source, store: store}, object, store,
		cache.ReflectorOptions{Name: name, Backoff: &pauses})
	r.WatchListPageSize = cmp.Or(store.PageSize, pageSize)
	r.RunWithContext(klog.NewContext(ctx, klog.New(quiet{klog.FromContext(ctx).GetSink()})))
}
