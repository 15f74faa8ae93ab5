package latest

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// hang is how long anything may take before it counts as never.
const hang = 30 * time.Second

// server is an API server that says what a test wants. A watch from a version that it has yet to reach tells nothing, as that of
// a real one.
type server struct {
	mu      sync.Mutex
	now     int
	lease   *coordinationv1.Lease
	down    error
	refuse  int                                // so many watches are refused
	streams map[*watch.RaceFreeFakeWatcher]int // from which version each tells
	lists   int
	history []watch.Event // since the start, or what was restored
}

func (s *server) ListWithContext(_ context.Context, options metav1.ListOptions) (runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	if s.down != nil {
		return nil, s.down
	}
	if options.ResourceVersion != "" {
		return nil, errors.New("what was known a while ago is not asked for")
	}
	list := &coordinationv1.LeaseList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.now)}}
	if s.lease != nil {
		list.Items = append(list.Items, *s.lease)
	}
	return list, nil
}

func (s *server) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	if s.refuse > 0 {
		s.refuse--
		return nil, apierrors.NewResourceExpired("compacted")
	}
	from, err := strconv.Atoi(options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	stream := watch.NewRaceFreeFake()
	s.streams[stream] = from
	for _, event := range s.history {
		send(stream, from, event)
	}
	return stream, nil
}

// write stores a lease at the next version.
func (s *server) write(holder string) *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "lease", ResourceVersion: strconv.Itoa(s.now)},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
	s.tell(watch.Event{Type: watch.Modified, Object: s.lease})
	return s.lease
}

func (s *server) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	gone := s.lease.DeepCopy()
	gone.ResourceVersion = strconv.Itoa(s.now)
	s.lease = nil
	s.tell(watch.Event{Type: watch.Deleted, Object: gone})
}

func (s *server) tell(event watch.Event) {
	s.history = append(s.history, event)
	for stream, from := range s.streams {
		send(stream, from, event)
	}
}

// send tells of what came after the version that the watch began from.
func send(stream *watch.RaceFreeFakeWatcher, from int, event watch.Event) {
	if Version(event.Object.(metav1.Object).GetResourceVersion()) > uint64(from) {
		stream.Action(event.Type, event.Object)
	}
}

// restore takes the server back to a version, and ends the watches where it is told to.
func (s *server) restore(now int, lease *coordinationv1.Lease, restart bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.lease, s.history = now, lease, nil
	if restart {
		for stream := range s.streams {
			stream.Stop()
		}
		clear(s.streams)
	}
}

// mute has the watches tell nothing any more.
func (s *server) mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.streams)
}

func (s *server) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

func (s *server) watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// watchUntilEnd has an object watch the server until the test ends.
func watchUntilEnd(t *testing.T, s *server) *Object[*coordinationv1.Lease] {
	t.Helper()
	s.streams = map[*watch.RaceFreeFakeWatcher]int{}
	o := NewObject[*coordinationv1.Lease](slog.New(slog.DiscardHandler), "lease", s)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return o
}

// becomes waits until the holder is known to be so; blank for no lease.
func becomes(t *testing.T, o *Object[*coordinationv1.Lease], holder string) {
	t.Helper()
	deadline := time.After(hang)
	for {
		seen := o.Get()
		if seen.Known && (!seen.Exists && holder == "" || seen.Exists && *seen.Object.Spec.HolderIdentity == holder) {
			return
		}
		select {
		case <-seen.Changed:
		case <-deadline:
			require.Fail(t, "it was not told", "%s: %+v", holder, seen)
		}
	}
}

func TestObject(t *testing.T) {
	s := &server{now: 9}
	o := NewObject[*coordinationv1.Lease](slog.New(slog.DiscardHandler), "lease", s)
	require.False(t, o.Get().Known, "nothing is known before it runs")
	o = watchUntilEnd(t, s)
	becomes(t, o, "")
	require.Eventually(t, func() bool { return s.watches() == 1 }, hang, time.Millisecond)

	s.write("a")
	becomes(t, o, "a")
	assert.Equal(t, "10", o.Get().Version())
	s.remove()
	becomes(t, o, "")
	assert.Empty(t, o.Get().Version())
	assert.Equal(t, 1, s.reads(), "one read, and the watch tells the rest")

	t.Run("an answer is known at once", func(t *testing.T) {
		before := o.Get()
		s.mute()
		_, err := o.Write(func() (*coordinationv1.Lease, error) { return s.write("b"), nil })
		require.NoError(t, err)
		assert.Equal(t, "b", *o.Get().Object.Spec.HolderIdentity)
		<-before.Changed
	})
	t.Run("a write that failed is none", func(t *testing.T) {
		_, err := o.Write(func() (*coordinationv1.Lease, error) { return nil, errors.New("no") })
		require.EqualError(t, err, "no")
		assert.Equal(t, "b", *o.Get().Object.Spec.HolderIdentity)
	})
	t.Run("who catches up knows what no watch told", func(t *testing.T) {
		s.write("c")
		assert.Equal(t, "b", *o.Get().Object.Spec.HolderIdentity)
		require.NoError(t, o.CatchUp(t.Context()))
		assert.Equal(t, "c", *o.Get().Object.Spec.HolderIdentity)
	})
}

func TestWatchesThatEndBeginAnew(t *testing.T) {
	s := &server{now: 9, refuse: 2}
	o := watchUntilEnd(t, s)
	becomes(t, o, "")
	require.Eventually(t, func() bool { return s.watches() == 1 }, hang, time.Millisecond, "a watch that is refused is asked for again")
	s.mu.Lock()
	for stream := range s.streams {
		stream.Error(&metav1.Status{Reason: metav1.StatusReasonExpired, Code: 410})
	}
	clear(s.streams)
	s.mu.Unlock()
	require.Eventually(t, func() bool { return s.watches() == 1 }, hang, time.Millisecond)
	s.write("a")
	becomes(t, o, "a")
}

func TestRestoration(t *testing.T) {
	for _, restart := range []bool{true, false} {
		name := map[bool]string{true: "a server that was restarted", false: "a server whose watches stay open and tell nothing"}[restart]
		t.Run(name, func(t *testing.T) {
			s := &server{now: 9}
			o := watchUntilEnd(t, s)
			becomes(t, o, "")
			old := s.write("old")
			becomes(t, o, "old")
			for range 100 {
				s.write("new")
			}
			require.Eventually(t, func() bool { return o.Get().Version() == "110" }, hang, time.Millisecond, "the last of them is heard")

			s.restore(20, old, restart)
			if !restart {
				require.NoError(t, o.Read(t.Context()))
			}
			becomes(t, o, "old")
			require.Eventually(t, func() bool { // where the watch had to begin anew it may do so between two writes
				s.write("next")
				seen := o.Get()
				return *seen.Object.Spec.HolderIdentity == "next"
			}, hang, 10*time.Millisecond, "what the restored one tells is heard, low as its versions are")
			s.remove()
			becomes(t, o, "")
		})
	}
}

func TestAnOutageIsWaitedFor(t *testing.T) {
	s := &server{now: 9, down: errors.New("connection refused")}
	o := watchUntilEnd(t, s)
	caught := make(chan error, 1)
	go func() { caught <- o.CatchUp(t.Context()) }()
	require.Eventually(t, func() bool { return s.reads() > 2 }, hang, time.Millisecond)
	assert.False(t, o.Get().Known)
	s.mu.Lock()
	s.down = nil
	s.mu.Unlock()
	require.NoError(t, <-caught)
	becomes(t, o, "")

	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("given up"))
	s.mu.Lock()
	s.down = errors.New("connection refused")
	s.mu.Unlock()
	require.EqualError(t, o.CatchUp(gone), "given up")
}
