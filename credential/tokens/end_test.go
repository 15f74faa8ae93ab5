package tokens

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
)

func TestTheEndRevokesWhatIsLeft(t *testing.T) {
	t.Parallel()
	left := []rotation.Record{{UID: "a"}, {UID: "b"}}
	failing := 2
	config := Config{
		Records: func(context.Context) ([]rotation.Record, error) { return left, nil },
		Sync: func(_ context.Context, uid string, policy *rotation.Policy, _ func(rotation.Record) int) (issuer.Outcome, error) {
			assert.Nil(t, policy)
			if failing > 0 {
				failing--
				return issuer.Outcome{}, errors.New("the cloud is away")
			}
			for i := range left {
				if left[i].UID == uid {
					left = append(append([]rotation.Record{}, left[:i]...), left[i+1:]...)
					break
				}
			}
			return issuer.Outcome{}, nil
		},
	}
	require.NoError(t, config.End(t.Context()))
	assert.Empty(t, left)
}

func TestTheEndDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	config := Config{
		Records: func(context.Context) ([]rotation.Record, error) { return []rotation.Record{{UID: "a"}}, nil },
		Sync: func(context.Context, string, *rotation.Policy, func(rotation.Record) int) (issuer.Outcome, error) {
			return issuer.Outcome{}, errors.New("the cloud is away")
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := config.End(ctx)
	require.ErrorContains(t, err, "revoking the tokens of 1 image pull secrets")
	require.ErrorContains(t, err, "the cloud is away")

	config.Records = func(context.Context) ([]rotation.Record, error) {
		return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "x", nil)
	}
	require.True(t, apierrors.IsForbidden(config.End(t.Context())))
}
