package feed

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
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/latest"
)

const (
	// watchPeriod is how long the API server holds a watch of few objects, at least; at most twice as long.
	watchPeriod = 5 * time.Minute
	// turns is how many lists and starts of watches are under way at a time: what thousands of them hold at once, and the
	// connections that they would open, cost more than they all do once they are at rest.
	turns = 8
	// turnTime is how long a question without an answer may keep others from being asked.
	turnTime = 5 * time.Second
	// refusedPause is how long one that is not permitted waits, on average.
	refusedPause = 20 * time.Second
	// frameLimit is the largest event that is read.
	frameLimit = 16 << 20
)

// Few is where few objects come from, of each of thousands of names.
type Few[Object latest.Kind, List runtime.Object] struct {
	list    func(context.Context, metav1.ListOptions) (List, error)
	stream  func(context.Context, metav1.ListOptions) (io.ReadCloser, error)
	decoder runtime.Decoder
	turns   chan struct{}
}

// NewFew returns the source that these make up: stream starts a watch, and returns what the API server says, byte by byte,
// until ctx ends; decoder reads the objects in it.
func NewFew[Object latest.Kind, List runtime.Object](
	list func(context.Context, metav1.ListOptions) (List, error),
	stream func(context.Context, metav1.ListOptions) (io.ReadCloser, error),
	decoder runtime.Decoder,
) *Few[Object, List] {
	return &Few[Object, List]{list, stream, decoder, make(chan struct{}, turns)}
}

// turn does work when its turn has come, on a stack of its own.
func (f *Few[Object, List]) turn(ctx context.Context, work func() error) error {
	select {
	case f.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	over := sync.OnceFunc(func() { <-f.turns })
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

// FollowFew is Follow for what is few objects, but of which there are thousands: while nothing happens it is one goroutine
// with a small stack, and holds no buffer. It begins with a list where the watch before did not end in its time. answered is
// told of each answer, with a nil error where there is none.
func FollowFew[Object latest.Kind, Stripped any, List runtime.Object](
	ctx context.Context, few *Few[Object, List], narrow func(*metav1.ListOptions), answered func(verb string, err error), feed *Feed[Object, Stripped],
) {
	f := &fewFollower[Object, Stripped, List]{few: few, narrow: narrow, answered: answered, feed: feed}
	backoff := *newBackoff()
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if err == nil {
			backoff = *newBackoff()
			continue
		}
		f.version = ""
		pause := backoff.Step()
		if apierrors.IsForbidden(err) { // thousands are told so at once, and somebody has to act first
			pause = refusedPause/2 + rand.N(refusedPause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// fewFollower is one FollowFew.
type fewFollower[Object latest.Kind, Stripped any, List runtime.Object] struct {
	few      *Few[Object, List]
	narrow   func(*metav1.ListOptions)
	answered func(verb string, err error)
	feed     *Feed[Object, Stripped]

	version string // to go on from; blank where that is to be a list
	due     time.Time
	head    [4]byte
}

// follow follows until a watch ends. It returns why that was not in its time.
func (f *fewFollower[Object, Stripped, List]) follow(ctx context.Context) error {
	if f.version == "" {
		if err := f.few.turn(ctx, func() error { return f.relist(ctx) }); err != nil {
			return err
		}
	}
	var events io.ReadCloser
	err := f.few.turn(ctx, func() (err error) {
		events, err = f.start(ctx)
		return err
	})
	if err != nil {
		return err
	}
	err = f.read(events)
	_ = events.Close() // all that was to be read of it has been
	if err == nil && time.Now().Before(f.due) {
		err = errEndedEarly
	}
	return err
}

// errEndedEarly says that a watch ended before its time: what its end means is not known.
var errEndedEarly = errors.New("the watch ended before its time")

func (f *fewFollower[Object, Stripped, List]) relist(ctx context.Context) error {
	options := metav1.ListOptions{}
	f.narrow(&options)
	list, err := f.few.list(ctx, options)
	f.answered("list", err)
	if err != nil {
		return err
	}
	listed, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	all := make([]any, len(objects))
	for i, object := range objects {
		all[i] = object
	}
	f.version = listed.GetResourceVersion()
	return f.feed.Replace(all, f.version)
}

func (f *fewFollower[Object, Stripped, List]) start(ctx context.Context) (io.ReadCloser, error) {
	seconds := int64((watchPeriod + rand.N(watchPeriod)) / time.Second)
	f.due = time.Now().Add(time.Duration(seconds-1) * time.Second)
	options := metav1.ListOptions{ResourceVersion: f.version, TimeoutSeconds: &seconds, AllowWatchBookmarks: true}
	f.narrow(&options)
	events, err := f.few.stream(ctx, options)
	f.answered("watch", err)
	return events, err
}

// read takes in events until their end. Each is preceded by its length, in four bytes, or they are JSON, one after another:
// how the latter begins would be the length of an event beyond all limits.
func (f *fewFollower[Object, Stripped, List]) read(events io.Reader) error {
	for {
		if _, err := io.ReadFull(events, f.head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the length of an event: %w", err)
		}
		if strings.IndexByte("{ \t\r\n", f.head[0]) >= 0 {
			return f.readJSON(io.MultiReader(strings.NewReader(string(f.head[:])), events))
		}
		if err := apart(func() error { return f.takeFrame(events) }); err != nil {
			return err
		}
	}
}

func (f *fewFollower[Object, Stripped, List]) takeFrame(events io.Reader) error {
	length := binary.BigEndian.Uint32(f.head[:])
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
	return f.take(event)
}

func (f *fewFollower[Object, Stripped, List]) readJSON(events io.Reader) error {
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
		if err := f.take(event); err != nil {
			return err
		}
	}
}

// take passes an event on.
func (f *fewFollower[Object, Stripped, List]) take(event metav1.WatchEvent) error {
	decoded, _, err := f.few.decoder.Decode(event.Object.Raw, nil, nil)
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
		err = f.feed.Update(object)
	case watch.Deleted:
		err = f.feed.Delete(object)
	case watch.Bookmark:
		err = f.feed.Bookmark(version)
	default:
		err = fmt.Errorf("understanding an event: its type is %q", event.Type)
	}
	f.version = version
	return err
}
