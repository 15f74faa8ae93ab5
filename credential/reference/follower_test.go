package reference

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// rig is a Follower whose watch the test plays, and the log that it writes. Its API server answers lists of a name only.
type rig struct {
	*Follower
	log bytes.Buffer

	answer func() *corev1.SecretList
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		list := r.answer()
		list.APIVersion, list.Kind = "v1", "SecretList"
		w.Header().Set("Content-Type", "application/json")
		assert.NoError(t, json.NewEncoder(w).Encode(list))
	}))
	t.Cleanup(server.Close)
	clients, err := clientset.New(&rest.Config{Host: server.URL, QPS: -1}, server.Client())
	require.NoError(t, err)
	r.Follower = NewFollower(slog.New(slog.NewTextHandler(&r.log, nil)), clients, "system", pullsecret.NewIndex())
	t.Cleanup(r.index.Observe(r.observe))
	return r
}

// refers has an ImagePullSecret refer to a Secret.
func (r *rig) refers(name, secret string) {
	object := &v1.ImagePullSecret{}
	object.Name = name
	object.Spec.Docker = v1.DockerCredential{SecretRef: &v1.SecretReference{Name: secret}, Server: "r"}
	r.index.Put(object)
}

// secret is one of type basic-auth.
func secret(name, version, password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version},
		Type:       corev1.SecretTypeBasicAuth,
		Data:       map[string][]byte{"username": []byte("u"), "password": []byte(password)},
	}
}

// listed plays a relist.
func (r *rig) listed(version uint64, rewound bool, secrets ...*corev1.Secret) {
	var all []found
	for _, one := range secrets {
		all = append(all, r.strip(one))
	}
	r.replace(all, latest.Relist{Version: version, Rewound: rewound})
}

// looksUp makes the next look-up that is due, which finds these Secrets at a version.
func (r *rig) looksUp(t *testing.T, version string, secrets ...corev1.Secret) error {
	t.Helper()
	require.Positive(t, r.queue.Len(), "none is due")
	name, _ := r.queue.Get()
	defer r.queue.Done(name)
	r.answer = func() *corev1.SecretList {
		return &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: secrets}
	}
	return r.lookUp(t.Context(), name)
}

// has returns an error where a rule does not have that credential; a blank one is none, with the reason behind a "!".
func (r *rig) has(t *testing.T, name, password string) {
	t.Helper()
	rule := r.index.Rules().Get(name)
	require.NotNil(t, rule)
	if password[0] == '!' {
		assert.False(t, rule.Known())
		require.NotNil(t, rule.Unread)
		assert.Equal(t, password[1:], rule.Unread.Reason)
		return
	}
	assert.Nil(t, rule.Unread)
	assert.Equal(t, string(pullsecret.Render(v1.DockerCredential{Username: "u", Password: password, Server: "r"})), string(rule.Config))
}

func TestWhatComesLate(t *testing.T) {
	start := func(t *testing.T) *rig {
		r := newRig(t)
		r.refers("a", "ref")
		assert.Equal(t, 1, r.queue.Len())
		r.listed(10, false, secret("ref", "5", "one"))
		require.NoError(t, r.looksUp(t, "10", *secret("ref", "5", "one")))
		r.has(t, "a", "one")
		return r
	}
	t.Run("a look-up is left to the watch until that has told what there is", func(t *testing.T) {
		r := newRig(t)
		r.refers("a", "ref")
		require.NoError(t, r.looksUp(t, "10"))
		assert.False(t, r.index.Rules().Get("a").Known())
		assert.Nil(t, r.index.Rules().Get("a").Unread, "it is not known to be missing")
	})
	t.Run("an event that a relist has overtaken undoes nothing", func(t *testing.T) {
		r := start(t)
		r.put(r.strip(secret("ref", "9", "old")))
		r.remove(r.strip(secret("ref", "10", "old")))
		r.has(t, "a", "one")
	})
	t.Run("one that goes and comes", func(t *testing.T) {
		r := start(t)
		r.remove(r.strip(secret("ref", "11", "one")))
		r.has(t, "a", "!SecretMissing")
		r.put(r.strip(secret("ref", "12", "two")))
		r.has(t, "a", "two")
		r.remove(r.strip(secret("ref", "11", "one")))
		r.has(t, "a", "two")
	})
	t.Run("who begins to refer to one that the watch has told of has it looked up", func(t *testing.T) {
		r := start(t)
		r.put(r.strip(secret("other", "11", "other")))
		r.refers("b", "other")
		assert.False(t, r.index.Rules().Get("b").Known())
		require.NoError(t, r.looksUp(t, "11", *secret("other", "11", "other")))
		r.has(t, "b", "other")
		r.refers("c", "ref")
		require.NoError(t, r.looksUp(t, "11", *secret("ref", "5", "one")), "at the version that is known already")
		r.has(t, "c", "one")
	})
	t.Run("what was looked up is not undone by what the watch tells of before", func(t *testing.T) {
		r := start(t)
		r.refers("b", "other")
		require.NoError(t, r.looksUp(t, "20"))
		r.has(t, "b", "!SecretMissing")
		r.put(r.strip(secret("other", "15", "old")))
		r.has(t, "b", "!SecretMissing")
		r.listed(18, false, secret("ref", "5", "one"), secret("other", "15", "old"))
		r.has(t, "b", "!SecretMissing")
		r.put(r.strip(secret("other", "21", "new")))
		r.has(t, "b", "new")
	})
	t.Run("a look-up that the watch has overtaken is made anew", func(t *testing.T) {
		r := start(t)
		r.refers("b", "other")
		r.put(r.strip(secret("other", "21", "new")))
		require.ErrorIs(t, r.looksUp(t, "20"), errOvertaken)
		r.has(t, "b", "new")
	})
	t.Run("one that the watch told of before anybody referred to it, and not after, is looked up", func(t *testing.T) {
		r := start(t)
		told, listed := r.strip(secret("other", "21", "new")), r.strip(secret("other", "21", "new"))
		r.refers("b", "other")
		require.NoError(t, r.looksUp(t, "20"))
		r.put(told)
		require.NoError(t, r.looksUp(t, "21", *secret("other", "21", "new")))
		r.has(t, "b", "new")
		r.refers("c", "other")
		require.NoError(t, r.looksUp(t, "21", *secret("other", "21", "new")))
		r.replace([]found{listed, r.strip(secret("ref", "5", "one"))}, latest.Relist{Version: 30})
		require.NoError(t, r.looksUp(t, "30", *secret("other", "21", "new")))
		r.has(t, "b", "new")
	})
	t.Run("after a restoration of etcd older versions are news", func(t *testing.T) {
		r := start(t)
		r.put(r.strip(secret("ref", "100", "late")))
		r.listed(8, true, secret("ref", "5", "one"))
		r.has(t, "a", "one")
		r.put(r.strip(secret("ref", "9", "two")))
		r.has(t, "a", "two")
	})
	t.Run("what was looked up before the watch ended says nothing", func(t *testing.T) {
		r := start(t)
		r.refers("b", "other")
		name, _ := r.queue.Get()
		r.answer = func() *corev1.SecretList {
			r.unwatch()
			return &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "20"}}
		}
		require.NoError(t, r.lookUp(t.Context(), name))
		assert.Nil(t, r.index.Rules().Get("b").Unread)
	})
}

func TestForbidden(t *testing.T) {
	forbidden := apierrors.NewForbidden(corev1.Resource("secrets"), "", nil)
	r := newRig(t)
	r.refers("a", "ref")
	r.listed(10, false, secret("ref", "5", "one"))
	r.answered("watch", forbidden)
	r.has(t, "a", "one")
	r.since = time.Now().Add(-time.Minute)
	r.answered("watch", forbidden)
	rule := r.index.Rules().Get("a")
	assert.True(t, rule.Known(), "what is known is issued on")
	require.NotNil(t, rule.Unread)
	assert.Equal(t, "Forbidden", rule.Unread.Reason)
	assert.Contains(t, rule.Unread.Message, "grant it the verbs list and watch on them there, by the Role tcr-assistant-credentials-role")
	r.refers("b", "other")
	for r.queue.Len() > 0 {
		require.NoError(t, r.looksUp(t, "10"))
	}
	r.has(t, "b", "!Forbidden")
	r.listed(12, false, secret("ref", "5", "one"), secret("other", "5", "other"))
	assert.NotNil(t, r.index.Rules().Get("a").Unread, "a list is not enough")
	r.answered("watch", nil)
	r.has(t, "a", "one")
	r.has(t, "b", "other")
	assert.NotContains(t, r.log.String(), "one")
}

func TestForbiddenAgainAndAgain(t *testing.T) {
	forbidden := apierrors.NewForbidden(corev1.Resource("secrets"), "", nil)
	r := newRig(t)
	r.refers("a", "ref")
	r.listed(10, false, secret("ref", "5", "one"))
	for range 2 { // nobody refers to a Secret between them
		r.since = time.Now().Add(-time.Minute)
		r.answered("watch", forbidden)
		require.NotNil(t, r.index.Rules().Get("a").Unread)
		r.unwatch()
	}
	r.since = time.Now().Add(-time.Minute)
	r.answered("watch", forbidden)
	r.listed(12, false, secret("ref", "5", "one"))
	r.answered("watch", nil)
	r.has(t, "a", "one")
}
