package pullsecret_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

// TestParseAgreesWithTheCRD puts the cases to Go that the CRD has to agree on.
func TestParseAgreesWithTheCRD(t *testing.T) {
	specs, err := matchtest.Specs("sample")
	require.NoError(t, err)
	for _, spec := range specs {
		if spec.Untyped {
			continue
		}
		t.Run(spec.Name, func(t *testing.T) {
			object, err := spec.Object()
			require.NoError(t, err)
			rule, errs := pullsecret.Parse(object)
			if !spec.Refused {
				require.Empty(t, errs)
				assert.NotNil(t, rule)
				return
			}
			require.NotEmpty(t, errs)
			assert.Nil(t, rule)
			assert.Contains(t, errs[0].Field, spec.Path)
			assert.Contains(t, errs.ToAggregate().Error(), spec.Says)
			assert.NotContains(t, errs.ToAggregate().Error(), "hidden")
		})
	}
}
