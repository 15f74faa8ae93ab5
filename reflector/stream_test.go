package reflector

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme)
}()

func encoded(encoding string, object runtime.Object) []byte {
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), encoding)
	raw, err := runtime.Encode(codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), object)
	if err != nil {
		panic(err)
	}
	return raw
}

// framed returns data as a watch in protobuf has it.
func framed(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

// frame returns an event of a watch in protobuf.
func frame(kind string, object runtime.Object) []byte {
	event := metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: encoded(runtime.ContentTypeProtobuf, object)}}
	data, err := event.Marshal()
	if err != nil {
		panic(err)
	}
	return framed(data)
}

// line returns an event of a watch in JSON.
func line(kind string, object runtime.Object) []byte {
	data, err := json.Marshal(metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: encoded(runtime.ContentTypeJSON, object)}})
	if err != nil {
		panic(err)
	}
	return append(data, '\n')
}

// streamer is a server whose watches are streams of bytes.
type streamer struct {
	server
	pipes []*io.PipeWriter
}

func (s *streamer) stream(ctx context.Context, options metav1.ListOptions) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, said("watch from %s %s", options.ResourceVersion, options.FieldSelector))
	if s.refuses != nil {
		return nil, s.refuses
	}
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	s.pipes = append(s.pipes, writer)
	return reader, nil
}

func (s *streamer) source() *StreamSource[*corev1.Secret, *corev1.SecretList] {
	return NewStreamSource[*corev1.Secret](s.list, s.stream, codecs.UniversalDeserializer())
}

func TestRunStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &streamer{server: server{version: "100", items: []corev1.Secret{*secret("x", "90")}}}
		var said, answers []string
		answered := func(verb string, err error) { answers = append(answers, fmt.Sprint(verb, " ", err == nil)) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			RunStream(ctx, s.source(), clientset.ByName("x"), answered, transcript(&said))
		}()
		say := func(watch int, event []byte) {
			t.Helper()
			_, err := s.pipes[watch].Write(event)
			require.NoError(t, err)
			synctest.Wait()
		}
		synctest.Wait()
		assert.Equal(t, []string{"list limit=500 metadata.name=x", "watch from 100 metadata.name=x"}, s.questions())
		assert.Equal(t, []string{"list true", "watch true"}, answers)
		say(0, frame("ADDED", secret("x", "101")))
		say(0, frame("BOOKMARK", secret("", "150")))
		say(0, frame("DELETED", secret("x", "151")))
		assert.Equal(t, []string{"all [x@90] at 100, rewound false", "put x@101", "remove x@151"}, said)

		said = nil
		say(0, frame("BOOKMARK", secret("", "170")))
		time.Sleep(2 * watchPeriod)
		require.NoError(t, s.pipes[0].Close())
		synctest.Wait()
		assert.Equal(t, []string{"watch from 170 metadata.name=x"}, s.questions(), "one that ended in its time is resumed, and nothing is listed")

		s.version, s.items = "160", nil
		require.NoError(t, s.pipes[1].Close())
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"list limit=500 metadata.name=x", "watch from 160 metadata.name=x"}, s.questions(), "one that ended early is not")
		assert.Equal(t, []string{"all [] at 160, rewound true"}, said, "a bookmark told of 170")

		say(2, line("MODIFIED", secret("x", "161")))
		say(2, line("DELETED", secret("x", "162")))
		assert.Equal(t, []string{"put x@161", "remove x@162"}, said[1:], "JSON")
		time.Sleep(2 * watchPeriod)
		require.NoError(t, s.pipes[2].CloseWithError(io.ErrUnexpectedEOF))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"list limit=500 metadata.name=x", "watch from 160 metadata.name=x"}, s.questions(), "nor is one that was cut, whenever that was")

		answers, s.refuses = nil, apierrors.NewForbidden(corev1.Resource("secrets"), "", nil)
		require.NoError(t, s.pipes[3].Close())
		time.Sleep(time.Minute)
		synctest.Wait()
		questions := len(s.questions())
		assert.Less(t, questions, 25, "what is refused is not asked for at full speed")
		assert.Equal(t, strings.Repeat("list false ", questions), strings.Join(answers, " ")+" ")
		cancel()
		<-ended
	})
}

// tally counts what is asked at a time.
type tally struct {
	mu                              sync.Mutex
	asking, most, watching, hanging int
}

// ask takes in a question, and reports whether it is never to be answered.
func (c *tally) ask() (hangs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking++
	c.most = max(c.most, c.asking)
	c.hanging--
	return c.hanging >= 0
}

func (c *tally) answered(verb string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking--
	if verb == "watch" && err == nil {
		c.watching++
	}
}

// watched returns the number of watches, once nothing happens any more.
func (c *tally) watched() int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watching
}

// goroutines returns the number of goroutines of the test.
func goroutines() int {
	stacks := make([]byte, 8<<20)
	return strings.Count(string(stacks[:goruntime.Stack(stacks, true)]), "synctest bubble")
}

func TestThousandsAskInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		s := &streamer{server: server{version: "100"}}
		list := func(ctx context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
			if c.ask() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			time.Sleep(time.Millisecond)
			return s.list(ctx, options)
		}
		stream := func(ctx context.Context, options metav1.ListOptions) (io.ReadCloser, error) {
			c.ask()
			time.Sleep(time.Millisecond)
			return s.stream(ctx, options)
		}
		source := NewStreamSource[*corev1.Secret](list, stream, codecs.UniversalDeserializer())
		ctx, cancel := context.WithCancel(t.Context())
		run := func(n int) {
			for range n {
				go RunStream(ctx, source, Everything, c.answered, transcript(new([]string)))
			}
		}
		before := goroutines()
		run(1000)
		time.Sleep(time.Second)
		assert.Equal(t, 1000, c.watched())
		assert.Equal(t, before+1000, goroutines(), "each is one goroutine while nothing happens")
		assert.Equal(t, turns, c.most)

		c.hanging = turns
		run(turns + 1)
		time.Sleep(turnTime - time.Second)
		assert.Equal(t, 1000, c.watched(), "what is not answered yet has its turn")
		time.Sleep(2 * time.Second)
		assert.Equal(t, 1001, c.watched(), "what is never answered does not have it for ever")
		cancel()
	})
}

// TestThousandsAskOnceForNow holds that of many lists that have come to be needed at once a few are as of now, which the API server has to
// ask its storage for, and the others no older than those.
func TestThousandsAskOnceForNow(t *testing.T) {
	const fresh, later = "list limit=500", "list limit=500 NotOlderThan "
	lists := func(s *streamer) map[string]int {
		counts := map[string]int{}
		for _, question := range s.questions() {
			if strings.HasPrefix(question, "list") {
				counts[question]++
			}
		}
		return counts
	}
	synctest.Test(t, func(t *testing.T) {
		s := &streamer{server: server{version: "100", items: []corev1.Secret{*secret("x", "90")}}}
		source := NewStreamSource[*corev1.Secret](func(ctx context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
			time.Sleep(time.Millisecond)
			return s.list(ctx, options)
		}, s.stream, codecs.UniversalDeserializer())
		ctx, cancel := context.WithCancel(t.Context())
		said := make([][]string, 100)
		for i := range said {
			go RunStream(ctx, source, Everything, func(string, error) {}, transcript(&said[i]))
		}
		time.Sleep(time.Second)
		// Here, where time stands still meanwhile, the first ones are no later than what they are for.
		assert.Equal(t, map[string]int{fresh: 2 * turns, later + "100": 100 - 2*turns}, lists(s))

		var one []string
		s.version = "120"
		go RunStream(ctx, source, Everything, func(string, error) {}, transcript(&one))
		time.Sleep(time.Second)
		assert.Equal(t, map[string]int{fresh: 1}, lists(s), "one that comes later knows nothing of what was written since")

		s.version = "110" // the API server has gone back in time
		for _, pipe := range s.pipes {
			require.NoError(t, pipe.Close())
		}
		time.Sleep(time.Second)
		again := lists(s)
		assert.Equal(t, 101, again[fresh]+again[later+"110"], "%v", again)
		assert.Less(t, again[fresh], 50, "%v", again)
		assert.Equal(t, []string{"all [x@90] at 120, rewound false", "all [x@90] at 110, rewound true"}, one)
		cancel()
	})
}

// TestACacheThatLagsBehind has the API server not get to the version that another list was of: it has gone back in time, or has no way to
// learn how far its storage is.
func TestACacheThatLagsBehind(t *testing.T) {
	for name, refuses := range map[string]time.Duration{"it refuses": catchUpTime / 2, "it waits": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := &streamer{server: server{version: "50", items: []corev1.Secret{*secret("x", "40")}}}
			asked := 0
			list := func(ctx context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
				if options.ResourceVersion == "" {
					return s.list(ctx, options)
				}
				asked++
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(refuses):
					return nil, apierrors.NewTimeoutError("Too large resource version", 1)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				source := NewStreamSource[*corev1.Secret](list, s.stream, codecs.UniversalDeserializer())
				ctx, cancel := context.WithCancel(t.Context())
				begin := func() (said, answers *[]string) {
					source.fresh.Store(&freshList{time.Now().Add(time.Hour), "100"})
					said, answers = new([]string), new([]string)
					go RunStream(ctx, source, Everything, func(verb string, err error) {
						*answers = append(*answers, fmt.Sprint(verb, " ", err == nil))
					}, transcript(said))
					time.Sleep(catchUpTime + time.Millisecond)
					synctest.Wait()
					return said, answers
				}
				for range 2 {
					said, answers := begin()
					assert.Equal(t, 1, asked, "from then on all are as of now")
					assert.Equal(t, []string{"all [x@40] at 50, rewound false"}, *said)
					assert.Equal(t, []string{"list true", "watch true"}, *answers, "it is no refusal")
				}
				cancel()
			})
		})
	}
}

// TestPagesNoOlderThanOneThatWas holds that the first page alone says which version is enough: with both, an API server refuses the second.
func TestPagesNoOlderThanOneThatWas(t *testing.T) {
	s := &streamer{server: server{version: "100"}}
	names := s.fill(pageSize + 1)
	synctest.Test(t, func(t *testing.T) {
		source := s.source()
		source.fresh.Store(&freshList{time.Now().Add(time.Millisecond), "90"})
		ctx, cancel := context.WithCancel(t.Context())
		var all []string
		store := &Store[*corev1.Secret, string]{
			Strip:    func(secret *corev1.Secret) string { return secret.Name },
			Replaced: func(listed []string, _ latest.Relist) { all = listed },
		}
		go RunStream(ctx, source, Everything, func(string, error) {}, store)
		synctest.Wait()
		assert.Equal(t, []string{"list limit=500 NotOlderThan 90", "list limit=500 500@100", "watch from 100"}, s.questions())
		assert.Equal(t, names, all)
		cancel()
	})
}
