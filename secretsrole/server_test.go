package secretsrole

import (
	"bytes"
	"context"
	"encoding/json"
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
	s.say(w, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(with.code),
		Reason: with.reason, Message: string(with.reason)})
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
