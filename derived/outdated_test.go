package derived

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

var forbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "derivedattachments"}, "", errors.New("no"))

// reasons returns a keeper, and what says why what is stored is outdated.
func reasons() (*Keeper, func() string) {
	k := NewKeeper(slog.New(slog.DiscardHandler), nil, nil, nil, nil)
	return k, func() string {
		if now, _ := k.Outdated(); now != nil {
			return now.Reason
		}
		return ""
	}
}

func TestWhatCannotBeSeenIsTold(t *testing.T) {
	refused := func(k *Keeper, err error) {
		for range 4 {
			k.answered("list", err)
			time.Sleep(patience / 2)
		}
	}
	t.Run("once it is refused for long, until a watch stands", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, reason := reasons()
			k.answered("watch", forbidden)
			assert.Empty(t, reason(), "it may pass")
			refused(k, forbidden)
			assert.Equal(t, "Forbidden", reason())
			k.stands(&pullsecret.Derived{})
			assert.Equal(t, "Forbidden", reason(), "that writes succeed does not show what others write")
			k.answered("list", nil)
			assert.Equal(t, "Forbidden", reason(), "the watch may be refused again in a moment")
			k.answered("watch", nil)
			assert.Empty(t, reason())
		})
	})
	t.Run("with what writes fail of, of which it takes nothing away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, reason := reasons()
			k.stands(&pullsecret.Derived{TooLarge: []string{"long"}})
			refused(k, apierrors.NewInternalError(errors.New("broken")))
			assert.Equal(t, ReasonReadFailed, reason())
			k.answered("watch", nil)
			assert.Equal(t, ReasonTooLarge, reason())
			now, _ := k.Outdated()
			assert.True(t, now.Concerns("long"))
			assert.False(t, now.Concerns("other"))
		})
	})
	t.Run("but not that nobody answers, nor what an API server says that has just come back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, reason := reasons()
			k.answered("watch", forbidden)
			refused(k, errors.New("connection refused"))
			k.answered("watch", forbidden)
			assert.Empty(t, reason())
		})
	})
}
