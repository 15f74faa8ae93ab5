package registry_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
)

// TestWhoIsLetInIsAskedAtEachLogin pushes and pulls by both names of a registry, and then changes the password.
func TestWhoIsLetInIsAskedAtEachLogin(t *testing.T) {
	t.Parallel()
	var password atomic.Value
	password.Store("one")
	r := start(t, registry.Options{
		Hosts: []string{"r.example.com", "r-vpc.example.com"},
		Grants: func(user, given string) (registry.Grant, bool) {
			return registry.Grant{User: user, Repositories: []string{registry.Everything}}, user == "robot" && given == password.Load()
		},
	})
	image, err := random.Image(1000, 2)
	require.NoError(t, err)
	err = r.Push(t.Context(), "r.example.com/team/app:1", image, "robot", "two")
	require.True(t, registry.Refused(err), err)
	require.NoError(t, r.Push(t.Context(), "r.example.com/team/app:1", image, "robot", "one"))
	require.NoError(t, r.Pull(t.Context(), "r-vpc.example.com/team/app:1", "robot", "one"))
	password.Store("two")
	assert.True(t, registry.Refused(r.Pull(t.Context(), "r.example.com/team/app:1", "robot", "one")))
	assert.NoError(t, r.Pull(t.Context(), "r.example.com/team/app:1", "robot", "two"))
	err = r.Pull(t.Context(), "r.example.com/team/other:1", "robot", "two")
	assert.Error(t, err)
	assert.False(t, registry.Refused(err), "there is no such image")
}

// TestATokenIsForWhatIsGranted pulls one image from a registry that has those of another, as users who may have more and less.
func TestATokenIsForWhatIsGranted(t *testing.T) {
	t.Parallel()
	passwords := start(t, registry.Options{Passwords: map[string]string{"robot": "one"}})
	image, err := random.Image(1000, 2)
	require.NoError(t, err)
	require.NoError(t, passwords.Push(t.Context(), passwords.Host+"/team/app:1", image, "robot", "one"))
	users := map[string]registry.Grant{
		"any":   {User: "any", Repositories: []string{registry.Everything}},
		"this":  {User: "this", Repositories: []string{"team/app"}},
		"other": {User: "other", Repositories: []string{"team/other"}},
		"late":  {User: "late", Repositories: []string{registry.Everything}, Stale: true},
	}
	tokened := start(t, registry.Options{
		Hosts: []string{"r.example.com"}, ImagesOf: passwords,
		Grants: func(user, _ string) (registry.Grant, bool) {
			grant, letIn := users[user]
			return grant, letIn
		},
	})
	assert.Equal(t, "tokens.r.example.com", tokened.Realm)
	for user, refused := range map[string]bool{"any": false, "this": false, "other": true, "late": true, "nobody": true} {
		err := tokened.Pull(t.Context(), "r.example.com/team/app:1", user, "x")
		assert.Equal(t, refused, err != nil, "%s: %v", user, err)
		assert.Equal(t, refused, registry.Refused(err), "%s: %v", user, err)
	}
	before := tokened.Logins()
	require.NoError(t, tokened.Pull(t.Context(), "r.example.com/team/app:1", "any", "x"))
	assert.Equal(t, before+1, tokened.Logins())
}

func TestPasswordsAreReplaced(t *testing.T) {
	t.Parallel()
	r := start(t, registry.Options{Passwords: map[string]string{"robot": "one", "gone": "one"}})
	for user, want := range map[string]int{"robot": http.StatusOK, "gone": http.StatusOK, "": http.StatusUnauthorized} {
		says(t, r, want, user, "one")
	}
	require.NoError(t, r.SetPasswords(map[string]string{"robot": "two"}))
	for user, want := range map[string]int{"robot": http.StatusOK, "gone": http.StatusUnauthorized} {
		says(t, r, want, user, "two")
	}
	says(t, r, http.StatusUnauthorized, "robot", "one")
}

func start(t *testing.T, options registry.Options) *registry.Registry {
	t.Helper()
	options.Dir = t.TempDir()
	r, err := registry.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Stop()) })
	return r
}

func says(t *testing.T, r *registry.Registry, want int, user, password string) {
	t.Helper()
	status, err := r.Login(t.Context(), r.Host, user, password)
	require.NoError(t, err)
	assert.Equal(t, want, status, user)
}
