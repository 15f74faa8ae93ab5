package reflector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

// relists are the ways to list and watch a server.
func relists() map[string]func(context.Context, *streamer, *Store[*corev1.Secret, string]) {
	deaf := func(string, error) {}
	return map[string]func(context.Context, *streamer, *Store[*corev1.Secret, string]){
		"Run": func(ctx context.Context, s *streamer, store *Store[*corev1.Secret, string]) {
			Run(ctx, "secrets", ListWatch(deaf, Everything, s.list, s.watch), &corev1.Secret{}, store)
		},
		"RunStream": func(ctx context.Context, s *streamer, store *Store[*corev1.Secret, string]) {
			RunStream(ctx, s.source(), Everything, deaf, store)
		},
	}
}

// store returns a store that keeps what it was told last. That it strips is noted among the questions.
func (s *streamer) store(all *[]string, at *latest.Relist) *Store[*corev1.Secret, string] {
	return &Store[*corev1.Secret, string]{
		Strip: func(object *corev1.Secret) string {
			s.mu.Lock()
			defer s.mu.Unlock()
			if last := s.asked[len(s.asked)-1]; !strings.HasPrefix(last, "strip") {
				s.asked = append(s.asked, "strip from "+object.Name)
			}
			return object.Name
		},
		Replaced: func(listed []string, as latest.Relist) { *all, *at = listed, as },
	}
}

// fail ends the watch in a way that says nothing of the version to resume it from.
func (s *streamer) fail() {
	status := apierrors.NewServiceUnavailable("not now").Status()
	for _, watch := range s.streams {
		watch.Error(&status)
	}
	for _, pipe := range s.pipes {
		_, _ = pipe.Write(frame("ERROR", &status))
	}
}

// fill has the server hold that many Secrets. It returns their names.
func (s *streamer) fill(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("s%04d", i))
		s.items = append(s.items, *secret(names[i], "90"))
	}
	return names
}

func TestNoMoreThanAPageIsHeldWhole(t *testing.T) {
	for name, run := range relists() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &streamer{server: server{version: "100"}}
				names := s.fill(2*pageSize + 1)
				var all []string
				var at latest.Relist
				ctx, cancel := context.WithCancel(t.Context())
				go run(ctx, s, s.store(&all, &at))
				synctest.Wait()
				inPages := []string{
					"list limit=500", "strip from s0000",
					"list limit=500 500@100", "strip from s0500",
					"list limit=500 1000@100", "strip from s1000",
					"watch from 100",
				}
				assert.Equal(t, inPages, s.questions())
				assert.Equal(t, names, all)
				assert.Equal(t, latest.Relist{Version: 100}, at)

				s.fail()
				time.Sleep(time.Second)
				assert.Equal(t, inPages, s.questions(), "once more")
				cancel()
			})
		})
	}
}

func TestWhereTheVersionOfTheFirstPageIsCompactedAllAreListedAnew(t *testing.T) {
	for name, run := range relists() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &streamer{server: server{version: "100", compacted: "100"}}
				names := s.fill(pageSize + 1)
				var all []string
				var at latest.Relist
				store := s.store(&all, &at)
				strip := store.Strip
				store.Strip = func(object *corev1.Secret) string {
					defer s.at("120")
					return strip(object)
				}
				ctx, cancel := context.WithCancel(t.Context())
				go run(ctx, s, store)
				time.Sleep(time.Second)
				asked := s.questions()
				assert.Equal(t, []string{"list limit=500", "strip from s0000", "list limit=500 500@100"}, asked[:3])
				assert.Equal(t, "watch from 120", asked[len(asked)-1])
				assert.Equal(t, names, all)
				assert.Equal(t, latest.Relist{Version: 120}, at)
				cancel()
			})
		})
	}
}

// at has the server be at a version.
func (s *server) at(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// large answers lists of Secrets of a mebibyte each.
type large struct {
	number int
	pages  []int // how many were in each that was answered
	asked  []string
}

func (l *large) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	l.asked = append(l.asked, query.Get("limit"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	from, _ := strconv.Atoi(query.Get("continue"))
	list := corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: metav1.ListMeta{ResourceVersion: "100"}}
	for i := from; i < min(from+limit, l.number); i++ {
		one := secret(fmt.Sprint(i), "1")
		one.Annotations = map[string]string{"a": strings.Repeat("a", 1<<20)}
		list.Items = append(list.Items, *one)
	}
	if from+limit < l.number {
		list.Continue = fmt.Sprint(from + limit)
	}
	l.pages = append(l.pages, len(list.Items))
	text, err := json.Marshal(list)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: request}, err
}

func TestLargeObjectsAreListedInSmallPages(t *testing.T) {
	server := &large{number: 12}
	clients, err := clientset.New(&rest.Config{Host: "http://api"}, &http.Client{Transport: server})
	require.NoError(t, err)
	secrets := clients.Secrets("")
	source := ListWatch(func(string, error) {}, Everything, secrets.List, secrets.Watch)
	list := &pages[*corev1.Secret, string]{ListWatch: source, store: &Store[*corev1.Secret, string]{Strip: func(s *corev1.Secret) string { return s.Name }}}
	all := 0
	for options := (metav1.ListOptions{Limit: pageSize}); ; {
		page, err := list.ListWithContext(t.Context(), options)
		require.NoError(t, err)
		listed := page.(*metainternalversion.List)
		all += len(listed.Items)
		if options.Continue = listed.Continue; options.Continue == "" {
			break
		}
	}
	assert.Equal(t, 12, all)
	assert.Equal(t, []string{"500", "250", "125", "62", "31", "15", "7", "7"}, server.asked)
	assert.Equal(t, []int{7, 5}, server.pages[len(server.pages)-2:])
}
