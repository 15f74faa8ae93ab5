package reconcile

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// grants are Grants that note what is asked of them.
type grants struct {
	mu                             sync.Mutex
	wanted, dropped, lent, doubted []string
	borrowed, granted              error
	changed                        chan struct{}
}

func (g *grants) note(list *[]string, names ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*list = append(*list, names...)
}

func (g *grants) Want(names ...string) { g.note(&g.wanted, names...) }
func (g *grants) Drop(name string)     { g.note(&g.dropped, name) }
func (g *grants) Doubt(name string)    { g.note(&g.doubted, name) }
func (g *grants) Borrow(_ context.Context, names ...string) error {
	g.note(&g.lent, names...)
	return g.borrowed
}

func (g *grants) Granted(string) (bool, <-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.granted == nil, g.changed, g.granted
}

// newGrantedRig returns a rig whose Secrets are listed in a role.
func newGrantedRig(t *testing.T, answer func(*http.Request) any) (*rig, *grants) {
	r, g := newWatchedRig(t, answer), &grants{changed: make(chan struct{})}
	r.Grants, r.writer.grants = g, g
	r.status = &deniedStatus{r.status, plan.NewDeniedWatches()}
	return r, g
}

// deniedStatus keeps what the status would say of watches.
type deniedStatus struct {
	statusWriter
	denied *plan.DeniedWatches
}

func (s *deniedStatus) Answered(request plan.WatchRequest, err error) {
	s.denied.Answered(request, err, time.Now())
}

func (s *deniedStatus) Withheld(secret string, err error) { s.denied.Withheld(secret, err, time.Now()) }

func (r *rig) failures() []v1.Failure {
	return r.status.(*deniedStatus).denied.Failures("tcr.ipsr")
}

func TestAWriteWhosePermissionIsNotInForceYetIsMadeAgain(t *testing.T) {
	r, g := newGrantedRig(t, nil)
	refusals := 0
	r.answers(func(request *http.Request) any {
		if refusals++; refusals == 1 {
			return unauthorized("patch", "secrets", "a")
		}
		return r.issued(request)
	})
	r.state.PutNamespace(plan.NamespaceMeta{Name: "a", UID: "uid", Live: true})
	r.state.PutSecret("a", plan.Secret{Name: "tcr.ipsr", Version: 3, Docker: true, Managed: true})
	r.queue.Add("a")
	r.drain()
	assert.Len(t, r.requests(), 2)
	assert.Equal(t, []string{"tcr.ipsr"}, g.doubted)
	assert.Empty(t, r.problems("a"))
	assert.Empty(t, r.lines())
}

func TestAWriteThatIsNotPermittedAfterAllIsToldOnce(t *testing.T) {
	r, g := newGrantedRig(t, func(*http.Request) any { return unauthorized("patch", "secrets", "a") })
	g.borrowed = errors.New("it takes too long")
	r.state.PutNamespace(plan.NamespaceMeta{Name: "a", UID: "uid", Live: true})
	r.state.PutSecret("a", plan.Secret{Name: "tcr.ipsr", Version: 3, Docker: true, Managed: true})
	for range 3 {
		r.handle(t.Context(), "a")
	}
	assert.Len(t, r.requests(), 1)
	require.Len(t, r.problems("a"), 1)
	assert.Equal(t, plan.ReasonForbidden, r.problems("a")[0].Reason)
}

func TestASecretIsLookedUpOnceThatIsPermitted(t *testing.T) {
	r, g := newGrantedRig(t, func(request *http.Request) any {
		if request.Method == http.MethodGet {
			return answerWith(http.StatusNotFound, metav1.StatusReasonNotFound, "")
		}
		return attached(request)
	})
	r.namespace("a")
	r.state.PutAccount("a", plan.Account{Name: "default", Version: 5, Secrets: []string{"tcr.ipsstray", "tcr.ips no name", "tcr.ipsr"}})
	g.borrowed = errors.New("not now")
	r.handle(t.Context(), "a")
	assert.Empty(t, r.requests(), "nothing is tried before")
	g.borrowed = nil
	r.handle(t.Context(), "a")
	assert.Equal(t, []string{"GET /api/v1/namespaces/a/secrets/tcr.ipsstray", "PATCH /api/v1/namespaces/a/serviceaccounts/default"},
		r.requests())
	assert.Equal(t, []string{"tcr.ipsstray", "tcr.ipsstray"}, g.lent, "what no Secret can be named is not asked for")
}

func TestALookUpThatIsRefusedAfterAllIsMadeAgain(t *testing.T) {
	r, _ := newGrantedRig(t, func(*http.Request) any { return unauthorized("get", "secrets", "a") })
	r.namespace("a")
	r.state.PutAccount("a", plan.Account{Name: "default", Version: 5, Secrets: []string{"tcr.ipsstray", "tcr.ipsr"}})
	r.handle(t.Context(), "a")
	r.handle(t.Context(), "a")
	assert.Len(t, r.requests(), 2)
}

// watching answers lists and watches of Secrets: those before so many are refused, and then there is none.
func (r *rig) watching(refused int) {
	var asked atomic.Int64
	r.answers(func(request *http.Request) any {
		if asked.Add(1) <= int64(refused) {
			return unauthorized("list", "secrets", "a")
		}
		if request.URL.Query().Get("watch") != "" {
			<-request.Context().Done()
		}
		return &corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "9"}}
	})
}

func TestAWatchWhosePermissionIsNotInForceYetIsBegunAgainAtOnce(t *testing.T) {
	for name, refused := range map[string]int{"moments later": 3, "much later": refusedBefore + 1} {
		t.Run(name, func(t *testing.T) {
			r, g := newGrantedRig(t, nil)
			r.state.ForgetSecrets("tcr.ipsr")
			r.watching(refused)
			ctx, cancel := context.WithCancel(t.Context())
			r.secrets.run(ctx, func() {})
			assert.Eventually(t, func() bool { return r.state.Watched("tcr.ipsr") }, time.Minute, time.Millisecond)
			assert.Eventually(t, func() bool { return len(r.failures()) == 0 }, time.Minute, time.Millisecond, "it passes")
			cancel()
			r.watchers.Wait()
			assert.Len(t, g.doubted, refused)
			assert.Equal(t, refused > refusedBefore, strings.Contains(r.log.String(), "permission is missing"), "what lasts is told")
		})
	}
}

func TestOneThatIsRefusedAtFirstSeesThatTheAPIServerWentBackAlsoAfterOthersDid(t *testing.T) {
	r, _ := newGrantedRig(t, nil)
	r.state.ForgetSecrets("tcr.ipsr")
	r.state.PutSecret("a", plan.Secret{Name: "tcr.ipsr", Version: 600}) // in a past that never was
	r.watching(1)
	answer := r.answer
	r.answers(func(request *http.Request) any {
		r.state.ReplaceSecrets("tcr.ipsother", nil, latest.Relist{Version: 5, Rewound: true})
		return answer(request)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.secrets.run(ctx, func() {})
	assert.Eventually(t, func() bool { return r.state.Watched("tcr.ipsr") }, time.Minute, time.Millisecond)
	cancel()
	r.watchers.Wait()
	view, _ := r.state.View("a")
	assert.Empty(t, view.Secrets)
}

func TestANameIsWatchedFromItsGrantOnAndGivenBackWithTheLastOfIt(t *testing.T) {
	r, g := newGrantedRig(t, nil)
	r.state.ForgetSecrets("tcr.ipsr")
	r.watching(0)
	g.granted = errors.New("the role is full")
	ctx, cancel := context.WithCancel(t.Context())
	r.secrets.run(ctx, func() {})
	require.Eventually(t, func() bool { return len(r.failures()) == 1 }, time.Minute, time.Millisecond)
	failure := r.failures()[0]
	assert.Equal(t, "*/tcr.ipsr the role is full", failure.NamespacedName+" "+failure.Message)
	assert.Empty(t, r.requests())

	g.mu.Lock()
	g.granted = nil
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	require.Eventually(t, func() bool { return r.state.Watched("tcr.ipsr") }, time.Minute, time.Millisecond)
	assert.Empty(t, r.failures())

	r.Index.Put(readable("x,x", 3)) // it cannot be read
	r.Index.Remove("other")
	assert.Empty(t, g.dropped)
	r.Index.Remove("r")
	r.state.PutNamespace(plan.NamespaceMeta{Name: "a", UID: "uid", Live: true})
	r.state.PutAccount("a", plan.Account{Name: "default", Version: 5, Secrets: []string{"tcr.ipsr"}})
	r.retire("r")
	assert.Empty(t, g.dropped, "something of it is left")
	r.state.RemoveAccount("a", "default", 6)
	r.retire("r")
	assert.Equal(t, []string{"tcr.ipsr"}, g.dropped)
	cancel()
	r.watchers.Wait()
	assert.Equal(t, "tcr.ipsr", g.wanted[0])
}
