package namespaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// api is an API server that answers reads of one namespace, when it is let to.
type api struct {
	asked   atomic.Int32
	release chan struct{}
	labels  map[string]string // nil for a namespace that is not there
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	select {
	case <-a.release:
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if a.labels == nil {
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 404,
			Reason: metav1.StatusReasonNotFound})
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	_ = json.NewEncoder(w).Encode(corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "7", Labels: a.labels},
	})
}

func newCache(t *testing.T, labels map[string]string) (*Cache, *api) {
	t.Helper()
	server := &api{release: make(chan struct{}), labels: labels}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	clients, err := clientset.New(&rest.Config{Host: listener.URL, QPS: -1}, listener.Client())
	require.NoError(t, err)
	cache := NewCache(slog.New(slog.DiscardHandler), clients.Namespaces())
	cache.Need(t, true)
	return cache, server
}

// heard has a watch tell of a namespace.
func heard(c *Cache, version uint64, labels map[string]string) {
	c.tell(func() News { return c.put(labelled{"n", version, pullsecret.PackLabels(labels)}) })
}

func red() map[string]string { return map[string]string{"color": "red"} }

func TestAsk(t *testing.T) {
	t.Run("what is known asks nobody", func(t *testing.T) {
		cache, server := newCache(t, red())
		heard(cache, 5, red())
		assert.Equal(t, pullsecret.PackLabels(red()), cache.Ask(t.Context(), "n"))
		assert.Zero(t, server.asked.Load())
	})
	t.Run("what is not known is asked once for all, and known from then on", func(t *testing.T) {
		cache, server := newCache(t, red())
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() { assert.Equal(t, pullsecret.PackLabels(red()), cache.Ask(t.Context(), "n")) })
		}
		require.Eventually(t, func() bool { return server.asked.Load() > 0 }, time.Minute, time.Millisecond)
		close(server.release)
		asking.Wait()
		assert.Equal(t, int32(1), server.asked.Load())
		assert.Equal(t, pullsecret.PackLabels(red()), cache.Labels("n"))
	})
	t.Run("the watch may tell first", func(t *testing.T) {
		cache, server := newCache(t, nil)
		answered := make(chan pullsecret.Labels)
		go func() { answered <- cache.Ask(context.Background(), "n") }()
		require.Eventually(t, func() bool { return server.asked.Load() > 0 }, time.Minute, time.Millisecond)
		heard(cache, 5, red())
		assert.Equal(t, pullsecret.PackLabels(red()), <-answered)
		close(server.release)
	})
	t.Run("who asks about what is not there, or can't wait, is told that it is not known", func(t *testing.T) {
		cache, server := newCache(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.False(t, cache.Ask(ctx, "n").Known())
		close(server.release)
		assert.False(t, cache.Ask(t.Context(), "m").Known())
	})
	t.Run("nobody who names namespaces at random has more than a few asked at a time", func(t *testing.T) {
		cache, server := newCache(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for i := range 10 * maxAsked {
			asking.Go(func() { assert.False(t, cache.Ask(ctx, fmt.Sprint("n", i)).Known()) })
		}
		require.Eventually(t, func() bool { return server.asked.Load() == maxAsked }, time.Minute, time.Millisecond)
		cancel()
		asking.Wait()
		assert.LessOrEqual(t, server.asked.Load(), int32(maxAsked))
		close(server.release)
	})
	t.Run("nobody is asked while no labels are needed", func(t *testing.T) {
		cache, server := newCache(t, red())
		cache.Need(t, false)
		assert.False(t, cache.Ask(t.Context(), "n").Known())
		assert.Zero(t, server.asked.Load())
	})
}

func TestNews(t *testing.T) {
	cache, _ := newCache(t, nil)
	var news []News
	defer cache.Observe(func(heard News) { news = append(news, heard) })()
	told := func() (all []News) { all, news = news, nil; return all }
	labels := pullsecret.PackLabels

	heard(cache, 5, red())
	assert.Equal(t, []News{{Changes: []Change{{"n", pullsecret.Labels{}, labels(red())}}}}, told())
	heard(cache, 6, red())
	assert.Empty(t, told(), "something else has changed")
	heard(cache, 4, nil)
	assert.Empty(t, told(), "it is older than what is known")
	heard(cache, 7, nil)
	assert.Equal(t, []News{{Changes: []Change{{"n", labels(red()), pullsecret.Unlabelled}}}}, told())
	assert.False(t, cache.Complete())
	cache.tell(func() News { return cache.replace([]labelled{{"m", 3, labels(red())}}) })
	assert.Equal(t, []News{{Relisted: true, Changes: []Change{
		{"m", pullsecret.Labels{}, labels(red())}, {"n", pullsecret.Unlabelled, pullsecret.Labels{}},
	}}}, told())
	assert.True(t, cache.Complete())
	cache.tell(func() News { return cache.remove(labelled{"m", 8, labels(red())}) })
	assert.Equal(t, []News{{Changes: []Change{{"m", labels(red()), pullsecret.Labels{}}}}}, told())
	assert.False(t, cache.Labels("m").Known())
}

func TestAnAnswerThatAnEndHasOvertakenBringsNothingBack(t *testing.T) {
	for name, test := range map[string]struct {
		told  func(*Cache) // while the answer, of version 7, is on its way
		known bool
	}{
		"it was heard of, and that it is gone": {func(c *Cache) {
			c.replaced(nil, latest.Relist{Version: 5})
			c.heard(labelled{"n", 7, pullsecret.PackLabels(red())})
			c.tell(func() News { return c.remove(labelled{"n", 9, pullsecret.PackLabels(red())}) })
		}, false},
		"another list does not have it": {func(c *Cache) { c.replaced(nil, latest.Relist{Version: 8}) }, false},
		"the list is older than it":     {func(c *Cache) { c.replaced(nil, latest.Relist{Version: 6}) }, true},
		"other news are older than it": {func(c *Cache) {
			c.replaced(nil, latest.Relist{Version: 5})
			c.heard(labelled{"m", 6, pullsecret.Unlabelled})
		}, true},
		"the list is of after a restoration of backup": {func(c *Cache) {
			c.replaced(nil, latest.Relist{Version: 90})
			c.replaced(nil, latest.Relist{Version: 4, Rewound: true})
		}, true},
		"nothing was listed yet": {func(*Cache) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			cache, server := newCache(t, red())
			close(server.release)
			test.told(cache)
			cache.read(t.Context(), "n", &question{done: make(chan struct{})})
			assert.Equal(t, test.known, cache.Labels("n").Known())
			assert.Equal(t, pullsecret.PackLabels(red()), cache.Ask(t.Context(), "n"), "who asks anew is answered")
		})
	}
}

func TestItIsWatchedOnlyWhileSomebodyNeedsIt(t *testing.T) {
	cache, server := newCache(t, nil)
	cache.Need(t, false)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { cache.Run(ctx); ended <- errors.New("it ended") }()
	close(server.release)
	cache.Need("a", true)
	require.Eventually(t, func() bool { return server.asked.Load() > 0 }, time.Minute, time.Millisecond)
	heard(cache, 5, red())
	cache.Need("b", true)
	cache.Need("a", false)
	assert.True(t, cache.Labels("n").Known(), "another one still does")
	cache.Need("b", false)
	require.Eventually(t, func() bool { return !cache.Labels("n").Known() }, time.Minute, time.Millisecond)
	end()
	require.Error(t, <-ended)
}
