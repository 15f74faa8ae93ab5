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
	known := func() map[rotation.Instance]rotation.Listing {
		return i.known(rotation.Record{Places: []rotation.Place{{Instance: here}, {Instance: there}}}, nil)
	}
	before := rotation.Listing{At: now.Add(-time.Second)}
	i.keep(view{Instance: here}, before)
	i.keep(view{Instance: there}, before)
	assert.Len(t, known(), 2)
	i.forget(here)
	assert.NotContains(t, known(), here)
	assert.Contains(t, known(), there)
	i.keep(view{Instance: here}, before)
	assert.NotContains(t, known(), here)
	i.keep(view{Instance: here}, rotation.Listing{At: now.Add(time.Second)})
	assert.Contains(t, known(), here)
}
