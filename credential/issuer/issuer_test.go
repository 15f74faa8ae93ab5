package issuer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
)

// TestWhatWasAskedForBeforeACreationDoesNotCount has a list come late that was asked for before a token was created, perhaps for
// another object of the same registry.
func TestWhatWasAskedForBeforeACreationDoesNotCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	here, there := rotation.Instance{Region: "a", ID: "x"}, rotation.Instance{Region: "a", ID: "y"}
	i := &Issuer{Now: func() time.Time { return now }}
	before := rotation.Listing{At: now.Add(-time.Second)}
	i.keep(here, before)
	i.keep(there, before)
	assert.Len(t, i.known(), 2)
	i.forget(here)
	assert.NotContains(t, i.known(), here)
	assert.Contains(t, i.known(), there)
	i.keep(here, before)
	assert.NotContains(t, i.known(), here)
	i.keep(here, rotation.Listing{At: now.Add(time.Second)})
	assert.Contains(t, i.known(), here)
}
