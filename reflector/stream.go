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
	// watchPeriod is how long the API server holds a watch, at least; at most twice as long.
	watchPeriod = 5 * time.Minute
	// turns is how many lists and starts of watches are under way at a time: what thousands of them hold at once, and the
	// connections that they would open, cost more than they all do once they are at rest.
	turns = 8
	// turnTime is how long a question without an answer may keep others from being asked.
	turnTime = 5 * time.Second
	// forbiddenDelay is how long one that is not permitted waits, on average.
	forbiddenDelay = 20 * time.Second
	// catchUpTime is how long a list may take that is to be no older than another was. An API server without a way to ask etcd how far it is,
	// such as 1.30, would wait for its cache for three seconds, and then refuse.
	catchUpTime = time.Second
	// frameLimit is the largest event that is read.
	frameLimit = 16 << 20
)

// StreamSource lists and watches objects for thousands of RunStream, few objects for each. They take turns.
type StreamSource[Object latest.Kind, List runtime.Object] struct {
	list    func(context.Context, metav1.ListOptions) (List, error)
	stream  func(context.Context, metav1.ListOptions) (io.ReadCloser, error)
	decoder runtime.Decoder
	turns   chan struct{}
	fresh   atomic.Pointer[freshList] // the last one; nil before there was one
	lagging atomic.Bool               // the API server's cache does not keep up with what is stored
}

// freshList is a list that was as of now: its version, and when it was asked for.
type freshList struct {
	asked   time.Time
	version string
}

// NewStreamSource returns the source that these make up: stream starts a watch, and returns what the API server says, byte by byte,
// until ctx ends; decoder reads the objects in it.
func NewStreamSource[Object latest.Kind, List runtime.Object](
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (io.ReadCloser, error),
	decoder runtime.Decoder,
) *StreamSource[Object, List] {
	return &StreamSource[Object, List]{list: list, stream: stream, decoder: decoder, turns: make(chan struct{}, turns)}
}

// turn does work when its turn has come, on a stack of its own.
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

// apart does work on a stack of its own, which goes when that is done: the stack of who waits for hours stays small.
func apart(work func() error) error {
	done := make(chan error)
	go func() { done <- work() }()
	return <-done
}

// RunStream is Run for a watch that sees few objects but is one of thousands: while nothing happens it is one goroutine with a
// small stack, and holds no buffer. It begins with a list unless the watch before ended in its time. answered is told of each
// answer, with a nil error where it is no refusal.
func RunStream[Object latest.Kind, Stripped any, List runtime.Object](
	ctx context.Context, source *StreamSource[Object, List], narrow func(*metav1.ListOptions), answered func(verb string, err error), store *Store[Object, Stripped],
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
		if apierrors.IsForbidden(err) { // thousands are told so at once, and somebody has to act first
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
	since   time.Time // when that has come to be needed
	due     time.Time
	head    [4]byte
}

// watchOnce watches until a watch ends. It returns why that was not in its time.
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
	_ = events.Close() // all that was to be read of it has been
	if err == nil && time.Now().Before(r.due) {
		err = errEndedEarly
	}
	return err
}

// errEndedEarly says that a watch ended before its time: what its end means is not known.
var errEndedEarly = errors.New("the watch ended before its time")

// relist asks for all there are, page by page. Where the API server no longer has the version that the first page was of, it begins
// anew.
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
		options.ResourceVersion, options.ResourceVersionMatch = "", "" // the next page is of the version of this one
		if options.Continue = page.Continue; options.Continue == "" {
			r.version = page.ResourceVersion
			if fresh {
				r.source.fresh.Store(&freshList{asked, r.version})
			}
			return r.store.Replace(all, r.version)
		}
	}
}

// errLagging says that the API server's cache does not get to a version that its storage is at.
var errLagging = errors.New("the API server's cache lags behind its storage")

// ask asks for a page. It does not wait for long where that is to be no older than another.
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

// atLeast returns the version that a list may be of, or of any later one; blank where it has to be as of now. It is enough to be as new
// as another list that was asked for as of now since this one has come to be needed: by then nothing later was heard of, unless the API
// server has gone back in time, and then it is. What is to be as of now, the API server asks its storage for, and then waits until
// its cache has heard of every write there, of whatever kind, for up to a tenth of a second: thousands would wait in turn.
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

// read takes in events until their end. Each is preceded by its length, in four bytes, or they are JSON, one after another:
// how the latter begins would be the length of an event beyond all limits.
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
		return fmt.Errorf("reading an event: it is %d bytes long, and may be %d", length, frameLimit)
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

// take passes an event on.
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
