package registry_test

import (
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
	r, err := registry.Start(t.Context(), registry.Options{
		Dir: t.TempDir(), Hosts: []string{"r.example.com", "r-vpc.example.com"},
		LetsIn: func(user, given string) bool { return user == "robot" && given == password.Load() },
	})
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Stop()) }()
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
