package plan

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatIsNoLongerListedIsForgotten(t *testing.T) {
	var lookups Lookups
	namespace := Namespace{Name: "a"}
	for round := range 10 {
		names := entries(fmt.Sprintf("x%d-", round), 20)
		namespace.Accounts = []Account{{Name: "default", Version: uint64(5 + round), Secrets: names}}
		for _, name := range names {
			lookups.Remember("a", name, Lookup{})
		}
		assert.Len(t, lookups.In(namespace), 20)
	}
	assert.Len(t, lookups.found["a"], 20, "an account that is edited in a loop must not fill the memory")
	namespace.Accounts[0].Secrets = nil
	assert.Empty(t, lookups.In(namespace))
	assert.Empty(t, lookups.found)
}
