package derived

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// holding returns an object that attaches one Secret everywhere.
func holding(name, imagePullSecret string) *v1.DerivedAttachments {
	object := &v1.DerivedAttachments{Spec: v1.DerivedAttachmentsSpec{
		Rules:      map[string]v1.DerivedRule{imagePullSecret: {Secret: pullsecret.SecretName(imagePullSecret)}},
		Everywhere: []string{imagePullSecret},
	}}
	object.Name = name
	return object
}

func TestFollower(t *testing.T) {
	follower := NewFollower(slog.New(slog.DiscardHandler), nil)
	list := func(all ...*v1.DerivedAttachments) {
		follower.change(func() {
			follower.replace(all)
			follower.listed = true
		})
	}
	attached := func() []string {
		require.NotNil(t, follower.Get())
		return follower.Get().Secrets("n", nil, "a")
	}
	require.ErrorContains(t, follower.Known(), "are not yet known")
	list()
	require.ErrorContains(t, follower.Known(), "the leader has not stored any yet", "of none, nothing follows")
	list(holding("stray", "stray"))
	require.Error(t, follower.Known(), "nor of somebody else's")

	list(holding(partName(0), "zero"), holding("stray", "stray"))
	require.NoError(t, follower.Known())
	assert.Equal(t, []string{"tcr.ipszero"}, attached())
	follower.change(func() { follower.put(holding(partName(1), "one")) })
	assert.Equal(t, []string{"tcr.ipsone", "tcr.ipszero"}, attached())
	follower.change(func() { follower.remove(partName(1)) })
	assert.Equal(t, []string{"tcr.ipszero"}, attached())

	follower.change(func() { follower.remove(partName(0)) })
	assert.Equal(t, []string{"tcr.ipszero"}, attached(), "the leader makes it anew")
	list()
	assert.Equal(t, []string{"tcr.ipszero"}, attached())
	list(holding(partName(0), "other"))
	assert.Equal(t, []string{"tcr.ipsother"}, attached())
}
