package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	// maxBody is more than twice the 3 MiB that the API server accepts for an object: a review holds the object and the old object.
	maxBody = 7 << 20
	// smallBody is up to what size reviews are always read, and answers always written. Nearly all are smaller. Their bytes are not
	// counted: the connections and streams of the server bound how many there are at a time.
	smallBody = 64 << 10
	// maxLarge is how many bytes larger reviews and answers may take up together.
	maxLarge = 24 << 20
	// maxTurns is how many of the larger ones are decoded and answered at a time, which takes a few times their size.
	maxTurns = 2
)

// errBusy refuses a review for which there is no room. The API server then applies the webhook's failure policy.
var errBusy = errors.New("too many large admission reviews are under way")

// intake bounds the memory of reviews that are being read, and of answers that are being written. Callers are not
// authenticated: they may send a review slowly, and never read its answer. So bytes are counted when they arrive, not when they
// are announced, and a small review never waits for room that large ones have taken.
type intake struct {
	buffers sync.Pool     // of *body, no larger than smallBody
	large   atomic.Int64  // bytes that larger ones and their answers hold
	turns   chan struct{} // has an element for each large review that is being answered
}

func newIntake() *intake {
	return &intake{
		buffers: sync.Pool{New: func() any { return &body{data: make([]byte, 0, 4<<10)} }},
		turns:   make(chan struct{}, maxTurns),
	}
}

// body is a review as it was read, and then its answer. What outlives the review is copied out of it.
type body struct {
	data    []byte
	counted int64 // its share of intake.large
	turn    bool  // it has one of intake.turns
	// lent says that somebody else may read the data: while it is being written, and forever once a write has failed, since HTTP/2
	// may still be sending it.
	lent bool
}

// open returns an empty body, which must be closed.
func (i *intake) open() *body {
	return i.buffers.Get().(*body)
}

// read reads all of a review, and waits for a turn if it is a large one.
func (i *intake) read(w http.ResponseWriter, r *http.Request, b *body) error {
	from := http.MaxBytesReader(w, r.Body, maxBody)
	for {
		if len(b.data) == cap(b.data) {
			if err := i.grow(b); err != nil {
				return err
			}
		}
		n, err := from.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return err
		case b.counted > 0:
			return i.await(r.Context(), b)
		default:
			return nil
		}
	}
}

// grow doubles the room of a body.
func (i *intake) grow(b *body) error {
	size := min(2*cap(b.data), maxBody+1)
	if size > smallBody {
		if i.large.Add(int64(size)) > maxLarge {
			i.large.Add(-int64(size))
			return errBusy
		}
	}
	before := b.data
	b.data = append(make([]byte, 0, size), before...)
	clear(before)
	i.large.Add(-b.counted)
	if b.counted = 0; size > smallBody {
		b.counted = int64(size)
	}
	return nil
}

func (i *intake) await(ctx context.Context, b *body) error {
	select {
	case i.turns <- struct{}{}:
		b.turn = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exchange replaces a review by its answer, and counts the bytes of the answer until b is closed. The turn is given back: a caller
// that does not read its answer would keep it.
func (i *intake) exchange(b *body, write func(room []byte) ([]byte, error)) error {
	i.empty(b)
	answer, err := write(b.data)
	if b.turn {
		<-i.turns
		b.turn = false
	}
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	if size := int64(cap(answer)); size > smallBody {
		if i.large.Add(size) > maxLarge {
			i.large.Add(-size)
			return errBusy
		}
		b.counted = size
	}
	b.data = answer
	return nil
}

// empty overwrites what a body holds, since it may be a credential. The buffer of a large one is left to the garbage collector.
func (i *intake) empty(b *body) {
	clear(b.data)
	b.data = b.data[:0]
	if b.counted > 0 {
		b.data = nil
		i.large.Add(-b.counted)
		b.counted = 0
	}
}

// close gives back what a body holds, and the body itself. Nobody may use it after that.
func (i *intake) close(b *body) {
	if b.turn {
		<-i.turns
		b.turn = false
	}
	if b.lent {
		i.large.Add(-b.counted)
		return
	}
	if i.empty(b); b.data != nil {
		i.buffers.Put(b)
	}
}
