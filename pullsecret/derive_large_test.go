package pullsecret

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// numbered returns a list of so many names.
func numbered(prefix string, number int) string {
	names := make([]string, number)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return strings.Join(names, ",")
}

// fit checks that each part can be stored.
func fit(t *testing.T, derived *Derived, limit int) {
	t.Helper()
	for _, part := range derived.Parts() {
		encoded, err := json.Marshal(part)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(encoded), limit+len(`{"rules":{},"everywhere":[],"namespaces":{}}`))
	}
}

func TestAFewLongListsLeaveTheOthersTheirAttachments(t *testing.T) {
	lists := map[string][2]string{}
	for i := range 4000 {
		lists[fmt.Sprintf("team%d", i)] = [2]string{fmt.Sprintf("n%d", i), "*"}
	}
	var long []string
	for i := range 5 { // the definition allows for more: 262,144 characters
		name := fmt.Sprintf("long%d", i)
		lists[name], long = [2]string{numbered("n", 200), numbered("a", 38000)}, append(long, name)
	}
	derived := Derive(rulesOf(lists), 1)
	parts := derived.Parts()
	fit(t, derived, maxPart)
	assert.Len(t, parts, 1, "their lists of accounts would be repeated in every further one")
	assert.NotEmpty(t, derived.TooLarge)
	assert.Subset(t, long, derived.TooLarge)
	for i := range 4000 {
		require.Contains(t, attached(parts, fmt.Sprintf("n%d", i), "default"), fmt.Sprintf("tcr.ipsteam%d", i))
	}
}

func TestLongListsOfNamespacesLeaveTheOthersTheirAttachments(t *testing.T) {
	lists := map[string][2]string{"team": {"mine", "*"}, "all": {"*", "*"}}
	for i := range 40 {
		lists[fmt.Sprintf("%s%d", strings.Repeat("x", 40), i)] = [2]string{numbered(fmt.Sprintf("n%d-", i), 2000), "*"}
	}
	derived := derive(rulesOf(lists), 1, 100000)
	fit(t, derived, 100000)
	assert.NotContains(t, derived.TooLarge, "team")
	assert.NotContains(t, derived.TooLarge, "all")
	assert.Less(t, len(derived.TooLarge), 40, "some fit")
	assert.Equal(t, []string{"tcr.ipsall", "tcr.ipsteam"}, attached(derived.Parts(), "mine", "default"))
}

// What one rule is given up for must not go on to be attached because another is too large, with nobody told.
func TestWhatIsAttachedIsWhatTheRulesSayButForThoseThatAreTold(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 30 {
		lists := map[string][2]string{"huge": {"n0,n1,n2", numbered("a", 500)}, "wide": {"*", numbered("a", 100+random.IntN(1000))}}
		for i := range 40 {
			lists[fmt.Sprintf("team%d", i)] = [2]string{fmt.Sprintf("n%d,n%d", i%20, 20+random.IntN(20)), "*"}
		}
		limit := 1000 + random.IntN(3000)
		rules := rulesOf(lists)
		derived := derive(rules, 1<<random.IntN(5), limit)
		fit(t, derived, limit)
		parts := derived.Parts()
		require.True(t, slices.IsSorted(derived.TooLarge))
		for n := range 40 {
			namespace := fmt.Sprintf("n%d", n)
			have, want := attached(parts, namespace, "a0"), rules.Secrets(namespace, nil, "a0")
			require.Subset(t, want, have)
			for _, secret := range want {
				if !slices.Contains(have, secret) {
					require.Contains(t, derived.TooLarge, strings.TrimPrefix(secret, SecretPrefix), "round %d", round)
				}
			}
		}
	}
}

func TestWhatIsWeighedIsWhatIsStored(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		rules := some(random, 60)
		weighed := weigh(rules)
		for number := 1; number <= maxParts; number *= 2 {
			for i, part := range divide(rules, number, nil) {
				encoded, err := json.Marshal(part)
				require.NoError(t, err)
				size := 0
				for at := i; at < maxParts; at += number {
					size += weighed.lists[at]
				}
				for at := range weighed.rules {
					own, _ := weighed.rules[at].in(i, number)
					size += own
				}
				if number == 1 {
					require.Equal(t, rules.size, size)
				}
				// One comma of each list is not there, and braces and names of fields are.
				commas := len(part.Namespaces) + len(part.Labelled) + 5
				for _, rule := range part.Rules {
					commas += 2 + len(rule.Requirements)*(1+len(`,"values":[]`))
					if rule.ServiceAccounts != nil {
						commas++
					}
				}
				assert.InDelta(t, len(encoded), size, float64(commas+len(`{"rules":{},"everywhere":[],"namespaces":{},"labelled":{},"selecting":[]}`)))
			}
		}
	}
}

func BenchmarkDeriveLongLists(b *testing.B) {
	lists := map[string][2]string{}
	for i := range 5000 {
		lists[fmt.Sprintf("team%d", i)] = [2]string{fmt.Sprintf("n%d", i), "*"}
	}
	for i := range 5 {
		lists[fmt.Sprintf("long%d", i)] = [2]string{numbered("n", 200), numbered("a", 38000)}
	}
	rules := rulesOf(lists)
	for b.Loop() {
		Derive(rules, 1).Parts()
	}
}
