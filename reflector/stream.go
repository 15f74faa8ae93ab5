package reflector

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

const (
	// watchPeriod is how long the API server keeps a watch open, at least; at most twice as long.
	watchPeriod = 5 * time.Minute
	// turns is how many lists and starts of watches may be under way at a time. Thousands at once would take more memory and
	// connections than all watches do once they are idle.
	turns = 8
	// turnTime is how long a request without an answer may block others.
	turnTime = 5 * time.Second
	// forbiddenDelay is how long a watch that is forbidden waits before the next try, on average.
	forbiddenDelay = 20 * time.Second
	// catchUpTime is how long a list may take that must not be older than an earlier one. An API server that cannot ask etcd for its
	// progress, such as 1.30, would wait for its cache for three seconds, and then refuse.
	catchUpTime = time.Second
	// frameLimit is the largest event that is read.
	frameLimit = 16 << 20
)

// StreamSource lists and watches objects for thousands of RunStream calls, with few objects for each. The calls take turns.
type StreamSource[Object latest.Kind, List runtime.Object] struct {
	list    func(context.Context, metav1.ListOptions) (List, error)
	stream  func(context.Context, metav1.ListOptions) (io.ReadCloser, error)
	decoder runtime.Decoder
	turns   chan struct{}
	fresh   atomic.Pointer[freshList] // the last one; nil if there was none yet
	lagging atomic.Bool               // the API server's cache does not keep up with its storage
}

// freshList is a list of the most recent data: its version, and when it was requested.
type freshList struct {
	asked   time.Time
	version string
}

// NewStreamSource returns a StreamSource. stream starts a watch, and returns the bytes of the API server's answer until ctx ends;
// decoder decodes the objects in them.
func NewStreamSource[Object latest.Kind, List runtime.Object](
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (io.ReadCloser, error),
	decoder runtime.Decoder,
) *StreamSource[Object, List] {
	return &StreamSource[Object, List]{list: list, stream: stream, decoder: decoder, turns: make(chan struct{}, turns)}
}

// turn waits for a turn and does work on a stack of its own.
func (s *StreamSource[Object, List]) turn(ctx context.Context, work func() error) error {
	select {
	case s.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	over := sync.OnceFunc(func() { <-s.turns })
	timer := time.AfterFunc(turnTime, over)
	defer timer.Stop()
	defer over()
	return apart(work)
}

// apart does work in a goroutine of its own, whose stack is freed afterwards: the stack of the caller, which waits for hours, stays
// small.
func apart(work func() error) error {
	done := make(chan error)
	go func() { done <- work() }()
	return <-done
}

// RunStream is Run for a watch that sees few objects but is one of thousands: while nothing happens, it is one goroutine with a small
// stack, and holds no buffer. Each watch begins with a list, unless the one before ended on time. answered is called for each answer,
// with a nil error if it succeeded.
func RunStream[Object latest.Kind, Stripped any, List runtime.Object](
	ctx context.Context, source *StreamSource[Object, List], narrow func(*metav1.ListOptions), answered func(verb string, err error),
	store *Store[Object, Stripped],
) {
	r := &streamReflector[Object, Stripped, List]{source: source, narrow: narrow, answered: answered, store: store, since: time.Now()}
	pauses := newPauses()
	for ctx.Err() == nil {
		err := r.watchOnce(ctx)
		if err == nil {
			pauses = newPauses()
			continue
		}
		r.version, r.since = "", time.Now()
		pause := pauses.Step()
		if apierrors.IsForbidden(err) { // thousands fail at once, and until somebody grants the permission
			pause = backoff.Spread(forbiddenDelay)
		}
		backoff.Sleep(ctx, pause)
	}
}

// streamReflector is one RunStream.
type streamReflector[Object latest.Kind, Stripped any, List runtime.Object] struct {
	source   *StreamSource[Object, List]
	narrow   func(*metav1.ListOptions)
	answered func(verb string, err error)
	store    *Store[Object, Stripped]

	version string    // to resume from; blank to begin with a list
	since   time.Time // since when that list has been needed
	due     time.Time // when the watch should end
	head    [4]byte
}

// watchOnce watches until the watch ends. It returns an error unless the watch ended on time.
func (r *streamReflector[Object, Stripped, List]) watchOnce(ctx context.Context) error {
	if r.version == "" {
		if err := r.source.turn(ctx, func() error { return r.relist(ctx) }); err != nil {
			return err
		}
	}
	var events io.ReadCloser
	err := r.source.turn(ctx, func() (err error) {
		events, err = r.start(ctx)
		return err
	})
	if err != nil {
		return err
	}
	err = r.read(events)
	_ = events.Close() // everything has been read
	if err == nil && time.Now().Before(r.due) {
		err = errEndedEarly
	}
	return err
}

// errEndedEarly says that a watch ended before its time, for an unknown reason.
var errEndedEarly = errors.New("the watch ended before its time")

// relist lists all objects, page by page. If the API server's cache lags behind, it starts again and lists the most recent data.
func (r *streamReflector[Object, Stripped, List]) relist(ctx context.Context) error {
	asked, options := time.Now(), metav1.ListOptions{Limit: pageSize}
	options.ResourceVersion, options.ResourceVersionMatch = r.atLeast()
	fresh := options.ResourceVersion == ""
	r.narrow(&options)
	var all []any
	for {
		list, err := r.ask(ctx, options)
		if errors.Is(err, errLagging) {
			r.source.lagging.Store(true)
			return r.relist(ctx)
		}
		r.answered("list", err)
		if err != nil {
			return err
		}
		page, err := r.store.strip(list)
		if err != nil {
			return err
		}
		for _, object := range page.Items {
			all = append(all, object)
		}
		options.ResourceVersion, options.ResourceVersionMatch = "", "" // the next page has the version of this one anyway
		if options.Continue = page.Continue; options.Continue == "" {
			r.version = page.ResourceVersion
			if fresh {
				r.source.fresh.Store(&freshList{asked, r.version})
			}
			return r.store.Replace(all, r.version)
		}
	}
}

// errLagging says that the API server's cache does not reach a version that its storage has.
var errLagging = errors.New("the API server's cache lags behind its storage")

// ask lists one page. A page that must not be older than an earlier list is not waited for longer than catchUpTime.
func (r *streamReflector[Object, Stripped, List]) ask(ctx context.Context, options metav1.ListOptions) (List, error) {
	if options.ResourceVersion == "" {
		return r.source.list(ctx, options)
	}
	limited, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	list, err := r.source.list(limited, options)
	if err != nil && ctx.Err() == nil && (limited.Err() != nil || apierrors.IsTimeout(err)) {
		err = errLagging
	}
	return list, err
}

// atLeast returns the oldest version that a list may have; blank if it must return the most recent data. It is enough to be as new as
// another list of the most recent data that was requested after this one became necessary: this watch has seen nothing later, unless
// the API server went back in time, and then the other list is the truth. For the most recent data, the API server asks its
// storage for the current version, and waits until its cache has caught up with every write, of whatever kind. That takes up to a tenth
// of a second, and thousands would have to take turns.
func (r *streamReflector[Object, Stripped, List]) atLeast() (version string, match metav1.ResourceVersionMatch) {
	last := r.source.fresh.Load()
	if last == nil || !last.asked.After(r.since) || r.source.lagging.Load() {
		return "", ""
	}
	return last.version, metav1.ResourceVersionMatchNotOlderThan
}

func (r *streamReflector[Object, Stripped, List]) start(ctx context.Context) (io.ReadCloser, error) {
	seconds := int64((watchPeriod + rand.N(watchPeriod)) / time.Second)
	r.due = time.Now().Add(time.Duration(seconds-1) * time.Second)
	options := metav1.ListOptions{ResourceVersion: r.version, TimeoutSeconds: &seconds, AllowWatchBookmarks: true}
	r.narrow(&options)
	events, err := r.source.stream(ctx, options)
	r.answered("watch", err)
	return events, err
}

// read takes in events until they end. Either each is preceded by its length, in four bytes, or they are JSON, one after another: the
// first bytes of JSON, read as a length, would be far above frameLimit.
func (r *streamReflector[Object, Stripped, List]) read(events io.Reader) error {
	for {
		if _, err := io.ReadFull(events, r.head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the length of an event: %w", err)
		}
		if strings.IndexByte("{ \t\r\n", r.head[0]) >= 0 {
			return r.readJSON(io.MultiReader(strings.NewReader(string(r.head[:])), events))
		}
		if err := apart(func() error { return r.takeFrame(events) }); err != nil {
			return err
		}
	}
}

func (r *streamReflector[Object, Stripped, List]) takeFrame(events io.Reader) error {
	length := binary.BigEndian.Uint32(r.head[:])
	if length > frameLimit {
		return fmt.Errorf("reading an event: it is %d bytes long, and may be at most %d", length, frameLimit)
	}
	frame := make([]byte, length)
	if n, err := io.ReadFull(events, frame); err != nil {
		return fmt.Errorf("reading an event: it ended after %d bytes of %d: %w", n, length, err)
	}
	var event metav1.WatchEvent
	if err := event.Unmarshal(frame); err != nil {
		return fmt.Errorf("decoding an event: %w", err)
	}
	return r.take(event)
}

func (r *streamReflector[Object, Stripped, List]) readJSON(events io.Reader) error {
	limited := &io.LimitedReader{R: events}
	decoder := json.NewDecoder(limited)
	for {
		limited.N = frameLimit
		var event metav1.WatchEvent
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("decoding an event: %w", err)
		}
		if err := r.take(event); err != nil {
			return err
		}
	}
}

// take passes on an event.
func (r *streamReflector[Object, Stripped, List]) take(event metav1.WatchEvent) error {
	decoded, _, err := r.source.decoder.Decode(event.Object.Raw, nil, nil)
	if err != nil {
		return fmt.Errorf("decoding the object of an event: %w", err)
	}
	object, is := decoded.(Object)
	if event.Type == string(watch.Error) || !is {
		return apierrors.FromObject(decoded)
	}
	version := object.GetResourceVersion()
	switch watch.EventType(event.Type) {
	case watch.Added, watch.Modified:
		err = r.store.Update(object)
	case watch.Deleted:
		err = r.store.Delete(object)
	case watch.Bookmark:
		err = r.store.Bookmark(version)
	default:
		err = fmt.Errorf("understanding an event: its type is %q", event.Type)
	}
	r.version = version
	return err
}
