package derived

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// holds returns an object that attaches one Secret everywhere.
func holds(name, imagePullSecret string) *v1.DerivedAttachments {
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
	list(holds("stray", "stray"))
	require.Error(t, follower.Known(), "nor of somebody else's")

	list(holds(partName(0), "zero"), holds("stray", "stray"))
	require.NoError(t, follower.Known())
	assert.Equal(t, []string{"tcr.ipszero"}, attached())
	follower.change(func() { follower.put(holds(partName(1), "one")) })
	assert.Equal(t, []string{"tcr.ipsone", "tcr.ipszero"}, attached())
	follower.change(func() { follower.remove(partName(0)) })
	assert.Equal(t, []string{"tcr.ipsone", "tcr.ipszero"}, attached(), "the leader makes it anew")
	list(holds(partName(1), "one"))
	assert.Equal(t, []string{"tcr.ipsone", "tcr.ipszero"}, attached())
	list(holds(partName(0), "other"), holds(partName(1), "one"))
	assert.Equal(t, []string{"tcr.ipsone", "tcr.ipsother"}, attached())
}

func TestAFollowerHoldsOnToAPartThatIsDeleted(t *testing.T) {
	both := []string{"tcr.ipsone", "tcr.ipszero"}
	for name, deleted := range map[string]func(f *Follower){
		"as it is told":       func(f *Follower) { f.remove(partName(1)) },
		"as it lists them":    func(f *Follower) { f.replace([]*v1.DerivedAttachments{holds(partName(0), "zero")}) },
		"as it lists nothing": func(f *Follower) { f.replace(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				follower := NewFollower(slog.New(slog.DiscardHandler), nil)
				attached := func() []string { return follower.Get().Secrets("n", nil, "a") }
				follower.change(func() {
					follower.put(holds(partName(0), "zero"))
					follower.put(holds(partName(1), "one"))
				})
				follower.change(func() { deleted(follower) })
				time.Sleep(holding / 2)
				follower.change(func() { deleted(follower) })
				assert.Equal(t, both, attached(), "the leader makes anew what somebody else deleted")
				follower.change(func() { follower.put(holds(partName(1), "one")) })
				time.Sleep(holding)
				assert.Equal(t, both, attached(), "it has")

				follower.change(func() { deleted(follower) })
				time.Sleep(holding + 1)
				assert.Equal(t, []string{"tcr.ipszero"}, attached(), "it was the leader, who had moved what it held")

				follower.change(func() { follower.put(holds(partName(1), "one")) })
				follower.change(func() { deleted(follower) })
				follower.reset() // this replica leads meanwhile
				follower.Assume(pullsecret.NewAttachments(attaching("later").Parts()...))
				time.Sleep(holding + 1)
				assert.Equal(t, []string{"tcr.ipslater"}, attached(), "nothing of before comes back")
			})
		})
	}
}
