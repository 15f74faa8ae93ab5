package secretsrole

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// hang is how long anything may take before it counts as never.
const hang = 30 * time.Second

// server is an API server with one role. Its authorizer goes by what the role was some time ago.
type server struct {
	t       *testing.T
	clients *clientset.Clientset
	log     bytes.Buffer

	mu      sync.Mutex
	role    *rbacv1.ClusterRole // nil where there is none
	version int
	changed chan struct{}
	turned  time.Time // when it was written last
	hidden  bool      // nobody may read it
	writes  int
	asked   []string                // of which names it was asked whether they are in force
	allows  func(name string) bool  // what it answers
	refuse  func(write int) *status // how it answers a write instead of making it
}

type status struct {
	code   int
	reason metav1.StatusReason
}

func newServer(t *testing.T) (*server, *Keeper) {
	t.Helper()
	s := &server{
		t: t, version: 1, changed: make(chan struct{}), role: &rbacv1.ClusterRole{},
		allows: func(string) bool { return true }, refuse: func(int) *status { return nil },
	}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	var err error
	s.clients, err = clientset.New(&rest.Config{Host: listener.URL, QPS: -1}, listener.Client())
	require.NoError(t, err)
	return s, NewKeeper(slog.New(slog.NewTextHandler(&s.log, nil)), s.clients, Manager)
}

// run runs a keeper until the test ends.
func (s *server) run(k *Keeper) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done })
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodPost:
		s.review(w, r)
	case r.Method == http.MethodPatch:
		s.patch(w, r)
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hidden {
			s.refused(w, status{http.StatusForbidden, metav1.StatusReasonForbidden})
			return
		}
		list := &rbacv1.ClusterRoleList{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleList"}}
		list.ResourceVersion = strconv.Itoa(s.version)
		if s.role != nil {
			list.Items = []rbacv1.ClusterRole{*s.stored()}
		}
		s.say(w, list)
	}
}

func (s *server) say(w io.Writer, object any) { assert.NoError(s.t, json.NewEncoder(w).Encode(object)) }

func (s *server) refused(w http.ResponseWriter, with status) {
	w.WriteHeader(with.code)
	s.say(w, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(with.code), Reason: with.reason, Message: string(with.reason)})
}

// stored returns the role as it is stored. s.mu is held.
func (s *server) stored() *rbacv1.ClusterRole {
	role := s.role.DeepCopy()
	role.TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}
	role.Name, role.ResourceVersion = Manager.Name, strconv.Itoa(s.version)
	return role
}

func (s *server) review(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(s.t, err)
	review := &authorizationv1.SelfSubjectAccessReview{}
	_, _, err = s.clients.Decoder().Decode(body, nil, review)
	assert.NoError(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	name := review.Spec.ResourceAttributes.Name
	s.asked = append(s.asked, name)
	review.TypeMeta = metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}
	review.Status.Allowed = s.allows(name)
	s.say(w, review)
}

func (s *server) patch(w http.ResponseWriter, r *http.Request) {
	var patch struct {
		Metadata struct{ ResourceVersion string }
		Rules    []rbacv1.PolicyRule
	}
	assert.NoError(s.t, json.NewDecoder(r.Body).Decode(&patch))
	assert.Equal(s.t, "application/merge-patch+json", r.Header.Get("Content-Type"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	with := s.refuse(s.writes)
	switch {
	case with != nil:
	case s.role == nil:
		with = &status{http.StatusNotFound, metav1.StatusReasonNotFound}
	case patch.Metadata.ResourceVersion != strconv.Itoa(s.version):
		with = &status{http.StatusConflict, metav1.StatusReasonConflict}
	default:
		s.role.Rules = patch.Rules
		s.turn()
		s.say(w, s.stored())
		return
	}
	s.refused(w, *with)
}

// turn notes that the role has changed. s.mu is held.
func (s *server) turn() {
	s.version++
	s.turned = time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
}

// set has somebody else write the role.
func (s *server) set(role *rbacv1.ClusterRole) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.role = role
	s.turn()
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	assert.NoError(s.t, err)
	for {
		s.mu.Lock()
		changed := s.changed
		if s.version > from {
			from = s.version
			kind, role := "MODIFIED", &rbacv1.ClusterRole{}
			if s.role != nil {
				role = s.stored()
			} else {
				kind = "DELETED"
				role.TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}
				role.Name, role.ResourceVersion = Manager.Name, strconv.Itoa(s.version)
			}
			s.say(w, map[string]any{"type": kind, "object": role})
		}
		s.mu.Unlock()
		if flusher, is := w.(http.Flusher); is {
			flusher.Flush()
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// lists waits until the role lists exactly these names.
func (s *server) lists(names ...string) {
	s.t.Helper()
	if !assert.Eventually(s.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.role != nil && fmt.Sprint(s.role.Rules) == fmt.Sprint(Manager.Rules(names))
	}, hang, time.Millisecond) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Fatalf("it lists %v; %s", s.role, s.log.String())
	}
}

// granted waits until a name is granted, or why it is not is known.
func granted(t *testing.T, k *Keeper, name string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	return k.await(ctx, name)
}

func TestAThousandNamesAreOneWrite(t *testing.T) {
	s, k := newServer(t)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("tcr.ips%04d", i))
	}
	s.run(k)
	k.Want(names[:500]...)
	for _, name := range names[500:] {
		k.Want(name)
	}
	for _, name := range names {
		require.NoError(t, granted(t, k, name))
	}
	s.mu.Lock()
	assert.LessOrEqual(t, s.writes, 3)
	assert.LessOrEqual(t, len(s.asked), 3)
	s.mu.Unlock()
	for _, name := range names {
		k.Drop(name)
	}
	s.lists()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Nil(t, s.role.Rules, "it ends as it began")
	assert.LessOrEqual(t, s.writes, 6)
}

func TestNothingIsWrittenBeforeItIsKnownWhatIsWanted(t *testing.T) {
	s, k := newServer(t)
	s.role.Rules = Manager.Rules([]string{"tcr.ipsa", "tcr.ipsold"})
	s.run(k)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, k.Borrow(ctx, "tcr.ipsb"), context.DeadlineExceeded)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.lists("tcr.ipsa", "tcr.ipsb", "tcr.ipsold") // of what there was something may be left
	wanted, borrowed, _, _ := k.wanted(time.Now().Add(2 * lease))
	assert.Equal(t, []string{"tcr.ipsa"}, wanted)
	assert.Empty(t, borrowed, "not for ever")
}

func TestAnEmptyClusterIsNotWrittenTo(t *testing.T) {
	s, k := newServer(t)
	s.run(k)
	k.Want()
	require.NoError(t, k.Borrow(t.Context(), "tcr.ipsx")) // it has begun
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, 1, s.writes)
}

func TestANameIsGrantedOnceTheAPIServerSaysSo(t *testing.T) {
	s, k := newServer(t)
	asked := 0
	s.allows = func(string) bool { asked++; return asked > 3 }
	s.run(k)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.mu.Lock()
	assert.Equal(t, []string{"tcr.ipsa", "tcr.ipsa", "tcr.ipsa", "tcr.ipsa"}, s.asked)
	s.allows = func(string) bool { asked++; return asked > 6 }
	s.mu.Unlock()

	k.Doubt("tcr.ipsa")
	now, _, _ := k.Granted("tcr.ipsa")
	assert.False(t, now)
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	k.Want("tcr.ipsb")
	require.NoError(t, granted(t, k, "tcr.ipsb"))
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, "tcr.ipsb", s.asked[len(s.asked)-1], "the newest is asked about")
	assert.Empty(t, s.log.String())
}

func TestWhatOthersWriteIsTakenBack(t *testing.T) {
	s, k := newServer(t)
	s.run(k)
	k.Want("tcr.ipsa", "tcr.ipsb")
	s.lists("tcr.ipsa", "tcr.ipsb")
	for _, rules := range [][]rbacv1.PolicyRule{
		nil, Manager.Rules([]string{"tcr.ipsb"}), Manager.Rules([]string{"database"}), rule([]string{"tcr.ipsa"}, func(r *rbacv1.PolicyRule) { r.ResourceNames = nil }),
	} {
		s.set(&rbacv1.ClusterRole{Rules: rules})
		s.lists("tcr.ipsa", "tcr.ipsb")
	}
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.set(nil)
	require.Eventually(t, func() bool { now, _, _ := k.Granted("tcr.ipsa"); return !now }, hang, time.Millisecond)
	s.set(&rbacv1.ClusterRole{})
	s.lists("tcr.ipsa", "tcr.ipsb")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
}

func TestAWriteThatFailsIsMadeAgain(t *testing.T) {
	s, k := newServer(t)
	s.refuse = func(write int) *status {
		switch write {
		case 1:
			return &status{http.StatusConflict, metav1.StatusReasonConflict}
		case 2:
			return &status{http.StatusForbidden, metav1.StatusReasonForbidden}
		case 3:
			return &status{http.StatusInternalServerError, metav1.StatusReasonInternalError}
		}
		return nil
	}
	s.run(k)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	assert.Empty(t, s.log.String(), "what passes is not told")
}

func TestWhatLastsIsToldToThoseWhoWait(t *testing.T) {
	s, k := newServer(t)
	now := time.Now()
	lasting := errors.New("no")
	k.failed(lasting, now)
	_, _, problem := k.Granted("tcr.ipsa")
	require.NoError(t, problem)
	k.failed(lasting, now.Add(patience))
	k.failed(lasting, now.Add(2*patience))
	_, _, problem = k.Granted("tcr.ipsa")
	require.ErrorIs(t, problem, lasting)
	assert.Equal(t, 1, bytes.Count(s.log.Bytes(), []byte("secrets role was not kept")))
	k.recovered()
	_, _, problem = k.Granted("tcr.ipsa")
	require.NoError(t, problem)
}

func TestAMissingRoleIsAProblemOnlyWhereItIsNeeded(t *testing.T) {
	s, k := newServer(t)
	s.role = nil
	require.NoError(t, k.object.Read(t.Context()))
	k.Want()
	_, err := k.keep(t.Context(), k.object.Get())
	require.NoError(t, err)
	k.Want("tcr.ipsa")
	_, err = k.keep(t.Context(), k.object.Get())
	require.ErrorContains(t, err, "keeping cluster role tcr-assistant-secrets-role: it does not exist: apply the manifests of this release once more")
}

func TestThoseThatHaveNoRoomAreTold(t *testing.T) {
	_, k := newServer(t)
	k.listed([]string{"tcr.ipsa"}, []string{"tcr.ipsb"})
	_, _, problem := k.Granted("tcr.ipsb")
	require.ErrorContains(t, problem, "has no room for tcr.ipsb")
	_, _, problem = k.Granted("tcr.ipsa")
	require.NoError(t, problem)
}

func TestDemand(t *testing.T) {
	d, now := newDemand("role"), time.Now()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.Borrow(ended, "tcr.ipsa", "tcr.ipsb"), context.Canceled)
	_, _, _, known := d.wanted(now)
	assert.False(t, known)
	d.Want("tcr.ipsb")
	names, borrowed, fewer, known := d.wanted(now)
	assert.True(t, known)
	assert.Equal(t, []string{"tcr.ipsb"}, names)
	assert.Equal(t, []string{"tcr.ipsa"}, borrowed)
	assert.InDelta(t, lease.Seconds(), fewer.Seconds(), 9)
	require.ErrorIs(t, d.Borrow(ended, "tcr.ipsb"), context.Canceled)
	names, borrowed, fewer, _ = d.wanted(now.Add(2 * lease))
	assert.Equal(t, []string{"tcr.ipsb"}, names, "what is borrowed does not end what is wanted")
	assert.Empty(t, borrowed)
	assert.Zero(t, fewer)
	d.Drop("tcr.ipsb")
	names, _, _, _ = d.wanted(now)
	assert.Empty(t, names)
}

func TestARoleThatCannotBeReadIsToldToThoseWhoWait(t *testing.T) {
	s, k := newServer(t)
	s.hidden = true
	k.failing = time.Now().Add(-patience) // it has lasted
	s.run(k)
	k.Want("tcr.ipsa")
	require.ErrorContains(t, granted(t, k, "tcr.ipsa"), "reading tcr-assistant-secrets-role")
	s.mu.Lock()
	s.hidden = false
	s.mu.Unlock()
	require.Eventually(t, func() bool { now, _, _ := k.Granted("tcr.ipsa"); return now }, hang, time.Millisecond, "it passes")
}

func TestOthersThatComeDoNotKeepANameFromBeingGranted(t *testing.T) {
	s, k := newServer(t)
	s.allows = func(string) bool { return time.Since(s.turned) >= 200*time.Millisecond } // it hears of the role a moment later
	s.run(k)
	k.Want("tcr.ipsa")
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			k.Want(fmt.Sprintf("tcr.ips%d", i))
			sleep(ctx, 5*time.Millisecond)
		}
	}()
	require.NoError(t, k.await(ctx, "tcr.ipsa"), "as long as others come nobody is granted anything")
	cancel()
	<-done
}

func TestWhatIsDoubtedWakesNobodyWhoWaits(t *testing.T) {
	const waiting = 2000
	d := newDemand("role")
	names := make([]string, waiting)
	for i := range names {
		names[i] = fmt.Sprint("tcr.ips", i)
	}
	d.grant(names)
	looks := 0
	_, changed, _ := d.Granted("tcr.ipsx")
	for _, name := range names { // a role that somebody emptied: each is refused at the same moment, and waits from then on
		d.Doubt(name)
		select {
		case <-changed:
			_, changed, _ = d.Granted("tcr.ipsx")
			looks++
		default:
		}
	}
	assert.Zero(t, looks, "thousands would be woken thousands of times")
	d.grant([]string{"tcr.ipsx"})
	<-changed
}
