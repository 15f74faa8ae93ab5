package secretsrole

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
)

// rule returns the rule of these names, changed by edit.
func rule(names []string, edit ...func(*rbacv1.PolicyRule)) []rbacv1.PolicyRule {
	rules := Manager.Rules(names)
	for _, e := range edit {
		e(&rules[0])
	}
	return rules
}

func TestDecide(t *testing.T) {
	a, ab := []string{"tcr.ipsa"}, []string{"tcr.ipsa", "tcr.ipsb"}
	for _, test := range []struct {
		name     string
		wanted   []string
		borrowed []string
		rules    []rbacv1.PolicyRule
		want     decision
	}{
		{"nothing is wanted of an empty role", nil, nil, nil, decision{}},
		{"an empty list of rules is none", nil, nil, []rbacv1.PolicyRule{}, decision{}},
		{"the first name", a, nil, nil, decision{names: a, added: a, write: true}},
		{"as it is", ab, nil, rule(ab), decision{names: ab}},
		{"one more", ab, nil, rule(a), decision{names: ab, added: []string{"tcr.ipsb"}, write: true}},
		{"one less", a, nil, rule(ab), decision{names: a, write: true}},
		{"the last name takes the rule along", nil, nil, rule(a), decision{write: true}},
		{"one that is borrowed", a, []string{"tcr.ips0"}, rule(a),
			decision{names: []string{"tcr.ips0", "tcr.ipsa"}, added: []string{"tcr.ips0"}, write: true}},
		{"borrowed as it is", nil, a, rule(a), decision{names: a}},
		{"in another order", ab, nil, rule([]string{"tcr.ipsb", "tcr.ipsa"}), decision{names: ab, write: true}},
		{"a foreign name", a, nil, rule([]string{"tcr.ipsa", "database"}), decision{names: a, strange: true, write: true}},
		{"a rule without names", a, nil, rule(a, func(r *rbacv1.PolicyRule) { r.ResourceNames = nil }),
			decision{names: a, added: a, strange: true, write: true}},
		{"another verb", a, nil, rule(a, func(r *rbacv1.PolicyRule) { r.Verbs = append(r.Verbs, "create") }),
			decision{names: a, added: a, strange: true, write: true}},
		{"a verb less", a, nil, rule(a, func(r *rbacv1.PolicyRule) { r.Verbs = r.Verbs[1:] }),
			decision{names: a, added: a, strange: true, write: true}},
		{"another resource", a, nil, rule(a, func(r *rbacv1.PolicyRule) { r.Resources = []string{"pods"} }),
			decision{names: a, added: a, strange: true, write: true}},
		{"another rule beside it", a, nil, append(rule(a), rule([]string{"tcr.ipsb"})...), decision{names: a, strange: true, write: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := Manager.decide(test.wanted, test.borrowed, test.rules)
			assert.Equal(t, test.want, have)
			again := Manager.decide(test.wanted, test.borrowed, Manager.Rules(have.names))
			assert.False(t, again.write, "once written it stays")
		})
	}
}

func TestARoleHasRoomForAsMuchAsEtcdTakes(t *testing.T) {
	var short, long []string
	for i := range 40_000 {
		short = append(short, fmt.Sprintf("tcr.ips%05d", i))
		long = append(long, fmt.Sprintf("tcr.ips%05d%s", i, strings.Repeat("x", 241)))
	}
	ten := Manager.decide(short[:10_000], nil, nil)
	assert.Empty(t, ten.left)
	require.Len(t, long[0], 253)
	full := Manager.decide(long, nil, nil)
	assert.Len(t, full.names, limit/(253+overhead))
	assert.Equal(t, long, append(slices.Clone(full.names), full.left...), "none is forgotten")
	body, err := (&rbacv1.ClusterRole{Rules: Manager.Rules(full.names)}).Marshal()
	require.NoError(t, err)
	assert.Less(t, len(body), 3<<19)

	more := Manager.decide(append([]string{"tcr.ips"}, long...), nil, Manager.Rules(full.names))
	assert.Subset(t, more.names, full.names, "what it lists keeps its room")
	assert.Equal(t, []string{"tcr.ips"}, more.added)
	less := Manager.decide(long[100:], nil, Manager.Rules(full.names))
	assert.Len(t, less.added, 100, "what goes makes room")

	lent := Manager.decide(nil, long, nil)
	assert.Equal(t, full.names, lent.names)
	assert.Empty(t, lent.left, "who borrows waits")
	staying := Manager.decide(short[:100], long, Manager.Rules(lent.names))
	assert.Equal(t, short[:100], staying.added, "what stays comes first")
	assert.Empty(t, staying.left)
	assert.Less(t, len(staying.names), len(lent.names)+100)
}
