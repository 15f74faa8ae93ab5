package reflector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

func secret(name, version string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}}
}

// transcript is a store that writes down what it passes on.
func transcript(said *[]string) *Store[*corev1.Secret, string] {
	return &Store[*corev1.Secret, string]{
		Strip:  func(s *corev1.Secret) string { return s.Name + "@" + s.ResourceVersion },
		Put:    func(s string) { *said = append(*said, "put "+s) },
		Remove: func(s string) { *said = append(*said, "remove "+s) },
		Replaced: func(all []string, at latest.Relist) {
			*said = append(*said, fmt.Sprintf("all [%s] at %d, rewound %v", strings.Join(all, " "), at.Version, at.Rewound))
		},
	}
}

func TestFeed(t *testing.T) {
	var said []string
	f := transcript(&said)
	require.NoError(t, f.Replace([]any{secret("a", "5"), &strippedObject[string]{"b@6"}}, "10"))
	require.NoError(t, f.Update(secret("a", "11")))
	require.NoError(t, f.Delete(secret("a", "12")))
	require.NoError(t, f.Replace(nil, "12"))
	require.NoError(t, f.Bookmark("20"))
	require.NoError(t, f.Replace(nil, "19"))
	require.NoError(t, f.Replace(nil, "19"))
	assert.Equal(t, []string{
		"all [a@5 b@6] at 10, rewound false", "put a@11", "remove a@12",
		"all [] at 12, rewound false",
		"all [] at 19, rewound true", // it was at 20
		"all [] at 19, rewound false",
	}, said)
}

func TestRelistOverrules(t *testing.T) {
	assert.True(t, latest.Relist{Version: 10}.Overrules(10))
	assert.False(t, latest.Relist{Version: 10}.Overrules(11), "it was written since")
	assert.True(t, latest.Relist{Version: 10, Rewound: true}.Overrules(11), "in a past that never was")
}

// server is an API server at a version. Its watches end when it says so.
type server struct {
	mu      sync.Mutex
	version string
	items   []corev1.Secret
	asked   []string
	streams []*watch.FakeWatcher
	refuses error
	// compacted is a version of which no further pages can be had.
	compacted string
}

// said is a question, without what it leaves out.
func said(format string, a ...any) string {
	return strings.Join(strings.Fields(fmt.Sprintf(format, a...)), " ")
}

func (s *server) list(_ context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, said("list limit=%d %s %s %s %s", options.Limit, options.FieldSelector, options.Continue, options.ResourceVersionMatch, options.ResourceVersion))
	if s.refuses != nil {
		return nil, s.refuses
	}
	page, version := s.items, s.version
	if options.Continue != "" {
		var from int
		if _, err := fmt.Sscanf(options.Continue, "%d@%s", &from, &version); err != nil {
			return nil, err
		}
		if version == s.compacted {
			return nil, apierrors.NewResourceExpired("the version of the first page is compacted")
		}
		page = page[from:]
	}
	list := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: slices.Clone(page)}
	if limit := int(options.Limit); limit > 0 && len(page) > limit {
		list.Continue = fmt.Sprintf("%d@%s", len(s.items)-len(page)+limit, version)
		list.Items = list.Items[:limit]
	}
	return list, nil
}

func (s *server) watch(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, said("watch from %s %s", options.ResourceVersion, options.FieldSelector))
	if s.refuses != nil {
		return nil, s.refuses
	}
	stream := watch.NewFake()
	s.streams = append(s.streams, stream)
	return stream, nil
}

func (s *server) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func TestAWatchThatEndedEarlyIsResumedOnlyAfterALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{version: "100"}
		var answers []string
		source := ListWatch(func(verb string, err error) { answers = append(answers, fmt.Sprint(verb, " ", err == nil)) }, clientset.ByName("x"), s.list, s.watch)
		resume := func(version string) error {
			seconds := int64(300)
			_, err := source.WatchFuncWithContext(t.Context(), metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &seconds})
			return err
		}
		require.NoError(t, resume("90"))
		assert.Equal(t, []string{"watch from 90 metadata.name=x"}, s.questions(), "the first one")

		time.Sleep(time.Second)
		require.NoError(t, resume("95"))
		assert.Equal(t, []string{"list limit=1 metadata.name=x", "watch from 95 metadata.name=x"}, s.questions())

		time.Sleep(300 * time.Second)
		require.NoError(t, resume("96"))
		assert.Equal(t, []string{"watch from 96 metadata.name=x"}, s.questions(), "one that ended in its time")

		time.Sleep(time.Second)
		s.version = "50"
		err := resume("96")
		assert.True(t, apierrors.IsResourceExpired(err), "the API server went back: %v", err)
		assert.Equal(t, []string{"list limit=1 metadata.name=x"}, s.questions())

		s.refuses = errors.New("not now")
		time.Sleep(time.Second)
		require.ErrorContains(t, resume("96"), "not now")
		assert.Equal(t, []string{"watch true", "watch true", "watch true", "list false", "list false"}, answers, "what is refused is told, whatever it was asked for")
	})
}

// errorLog is a log that counts errors.
type errorLog struct{ errors *atomic.Int32 }

func (errorLog) Init(klog.RuntimeInfo)            {}
func (errorLog) Enabled(int) bool                 { return true }
func (errorLog) Info(int, string, ...any)         {}
func (l errorLog) WithName(string) klog.LogSink   { return l }
func (l errorLog) WithValues(...any) klog.LogSink { return l }
func (l errorLog) Error(error, string, ...any)    { l.errors.Add(1) }

// TestAMissingPermissionIsNotLoggedAtEachTry runs by the clock: client-go spaces errors by one that it has read before a bubble begins.
func TestAMissingPermissionIsNotLoggedAtEachTry(t *testing.T) {
	for _, c := range []struct {
		err    error
		logged bool
	}{
		{apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", errors.New("no")), false},
		{apierrors.NewServiceUnavailable("not now"), true},
	} {
		var tries, logged atomic.Int32
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), klog.New(errorLog{&logged})))
		source := ListWatch(func(string, error) {
			if tries.Add(1) == 3 { // those before have been logged, or not
				cancel()
			}
		}, Everything, func(context.Context, metav1.ListOptions) (*corev1.SecretList, error) { return nil, c.err }, nil)
		Run(ctx, "secrets", source, &corev1.Secret{}, &Store[*corev1.Secret, string]{})
		assert.GreaterOrEqual(t, tries.Load(), int32(3), "answered is told of each")
		assert.Equal(t, c.logged, logged.Load() > 0, "%v", c.err)
	}
}
