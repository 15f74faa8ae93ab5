package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	jsonpatchapply "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// rulesOf returns the rules of ImagePullSecrets, given by name as "namespaces".
func rulesOf(t *testing.T, namespaces map[string]string) *pullsecret.Rules {
	t.Helper()
	index := pullsecret.NewIndex()
	for name, list := range namespaces {
		object := &v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Generation: 1},
			Spec: v1.ImagePullSecretSpec{
				Namespaces: list, Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"},
			},
		}
		index.Put(object)
	}
	return index.Rules()
}

// good returns the Secret of a rule as it should be.
func good(t *testing.T, rules *pullsecret.Rules, name string) Secret {
	t.Helper()
	rule := rules.Get(name)
	require.NotNil(t, rule)
	return Secret{Name: rule.Secret, Version: 7, Docker: true, Managed: true, Owners: []types.UID{rule.UID}, Sum: rule.Sum}
}

// entries returns so many names that can be ours.
func entries(prefix string, number int) []string {
	names := make([]string, number)
	for i := range names {
		names[i] = fmt.Sprint(pullsecret.SecretPrefix, prefix, i)
	}
	return names
}

func everywhere(string) bool { return true }
func nowhere(string) bool    { return false }

// A planCase is a namespace, and what is to be done in it. By default the rules are those of planRules, and all is seen.
type planCase struct {
	rules     *pullsecret.Rules
	namespace Namespace
	issued    func(string) bool
	watched   func(string) bool
	changes   []string
	problems  []string
	unknown   []string
}

func planRules(t *testing.T) *pullsecret.Rules {
	return rulesOf(t, map[string]string{"r": "*", "s": "other"})
}

func (test planCase) holds(t *testing.T) {
	if test.rules == nil {
		test.rules = planRules(t)
	}
	if test.issued == nil {
		test.issued = everywhere
	}
	if test.watched == nil {
		test.watched = everywhere
	}
	test.namespace.Name = "ns"
	planned := For(test.rules, test.namespace, Visibility{test.issued, test.watched, nowhere})
	var changes, problems []string
	for _, change := range planned.Changes {
		changes = append(changes, change.String())
		assert.NotContains(t, change.String(), "hidden")
	}
	for _, problem := range planned.Problems {
		problems = append(problems, problem.ImagePullSecret+" "+problem.NamespacedName+" "+problem.Reason)
	}
	assert.Equal(t, test.changes, changes)
	assert.Equal(t, test.problems, problems)
	assert.Equal(t, test.unknown, planned.Unknown)
}

// but returns a Secret that differs from another one.
func but(secret Secret, edit func(*Secret)) []Secret {
	edit(&secret)
	return []Secret{secret}
}

func TestPlanOfSecrets(t *testing.T) {
	current := good(t, planRules(t), "r")
	attached := []Account{{Name: "default", Version: 3, Secrets: []string{"x", "tcr.ipsr"}}}
	for name, test := range map[string]planCase{
		"a new namespace gets its secret": {
			namespace: Namespace{Live: true}, changes: []string{"issuing secret ns/tcr.ipsr"},
		},
		"what is in line gets nothing": {
			namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: attached},
		},
		"a terminating namespace gets nothing": {
			namespace: Namespace{Live: false, Secrets: but(current, func(s *Secret) { s.Sum = [32]byte{} }), Accounts: []Account{{Name: "default"}}},
		},
		"a secret whose watch has not begun is not guessed at": {
			namespace: Namespace{Live: true}, issued: nowhere, watched: nowhere,
		},
		"one of ours is issued where only ours are known": {
			namespace: Namespace{Live: true}, watched: nowhere, changes: []string{"issuing secret ns/tcr.ipsr"},
		},
		"a secret that bears a copied label, of which no rule ever was, stays, and so does its entry": {
			namespace: Namespace{Live: true, Secrets: []Secret{{Name: "tcr.ipscopied", Docker: true, Managed: true}, current}, Accounts: []Account{{Name: "a", Secrets: []string{"tcr.ipscopied", "tcr.ipsr"}}}},
			watched:   nowhere,
		},
		"a secret that an image pull secret owned goes, whether its rule was seen or not": {
			namespace: Namespace{Live: true, Secrets: []Secret{{Name: "tcr.ipsearlier", Version: 4, Docker: true, Managed: true, Owners: []types.UID{"earlier"}}, current}},
			watched:   nowhere, changes: []string{"deleting secret ns/tcr.ipsearlier at 4"},
		},
		"an outdated credential is re-issued": {
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Sum = [32]byte{} })}, changes: []string{"re-issuing secret ns/tcr.ipsr"},
		},
		"a secret without our label is adopted": {
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Managed = false })}, changes: []string{"re-issuing secret ns/tcr.ipsr"},
		},
		"a secret of an earlier object of that name gets the new owner": {
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Owners = []types.UID{"earlier"} })}, changes: []string{"re-issuing secret ns/tcr.ipsr"},
		},
		"a further owner is no harm": {
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Owners = append([]types.UID{"earlier"}, s.Owners...) })},
		},
		"a secret of another type is left alone and reported": {
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Docker, s.Managed = false, false })}, problems: []string{"r ns/tcr.ipsr ForeignSecret"},
		},
		"a secret of ours that no rule wants goes": {
			namespace: Namespace{Live: true, Secrets: []Secret{current, {Name: "tcr.ipss", Version: 9, Docker: true, Managed: true}}},
			changes:   []string{"deleting secret ns/tcr.ipss at 9"},
		},
		"a secret of someone else's that no rule wants stays": {
			namespace: Namespace{Live: true, Secrets: []Secret{current, {Name: "tcr.ipss", Version: 9, Docker: true}}},
		},
	} {
		t.Run(name, test.holds)
	}
}

func TestPlanOfAccounts(t *testing.T) {
	current := good(t, planRules(t), "r")
	for name, test := range map[string]planCase{
		"an account without a list gets one": {
			namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: []Account{{Name: "default", Version: 3}}},
			changes:   []string{`editing service account ns/default at 3: {"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsr"}]}`},
		},
		"a foreign entry keeps its place": {
			namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: []Account{{Name: "default", Version: 3, Secrets: []string{"x"}}}},
			changes:   []string{`editing service account ns/default at 3: {"op":"add","path":"/imagePullSecrets/-","value":{"name":"tcr.ipsr"}}`},
		},
		"an entry that no rule wants goes, by its place, before others come": {
			namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: []Account{{Name: "default", Version: 3, Secrets: []string{"x", "tcr.ipss", "y", "tcr.ipsgone"}}}},
			changes:   []string{`editing service account ns/default at 3: {"op":"remove","path":"/imagePullSecrets/3"} {"op":"remove","path":"/imagePullSecrets/1"} {"op":"add","path":"/imagePullSecrets/-","value":{"name":"tcr.ipsr"}}`},
		},
		"an entry for a secret of someone else's stays": {
			namespace: Namespace{Live: true, Secrets: []Secret{current, {Name: "tcr.ipss", Docker: true}}, Accounts: []Account{{Name: "default", Secrets: []string{"tcr.ipss", "tcr.ipsr"}}}},
		},
		"an entry whose secret is not known is looked up first": {
			namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: []Account{
				{Name: "a", Secrets: []string{"tcr.ipsgone", "tcr.ipsr"}}, {Name: "b", Secrets: []string{"tcr.ipsgone", "tcr.ipsr", "tcr.ipsfar"}},
			}},
			watched: nowhere, unknown: []string{"tcr.ipsfar", "tcr.ipsgone"},
		},
	} {
		t.Run(name, test.holds)
	}
}

func TestPlanOfOtherRules(t *testing.T) {
	current := good(t, planRules(t), "r")
	attached := []Account{{Name: "default", Version: 3, Secrets: []string{"x", "tcr.ipsr"}}}
	for name, test := range map[string]planCase{
		"an object that cannot be read freezes what it has issued": {
			rules: rulesOf(t, map[string]string{"r": "a,a"}),
			namespace: Namespace{Live: true, Secrets: but(current, func(s *Secret) { s.Sum = [32]byte{} }), Accounts: []Account{
				{Name: "a", Secrets: []string{"tcr.ipsr"}}, {Name: "b"},
			}},
		},
		"with no rules left everything of ours goes": {
			rules: rulesOf(t, nil), namespace: Namespace{Live: true, Secrets: []Secret{current}, Accounts: attached},
			changes: []string{"deleting secret ns/tcr.ipsr at 7", `editing service account ns/default at 3: {"op":"remove","path":"/imagePullSecrets/1"}`},
		},
	} {
		t.Run(name, test.holds)
	}
}

func TestAnEditOfManyEntriesIsMadeInPieces(t *testing.T) {
	namespaces := map[string]string{}
	for i := range pullsecret.MaxAdded + 1 {
		namespaces[fmt.Sprintf("r%d", i)] = "a"
	}
	for name, test := range map[string]struct {
		rules   *pullsecret.Rules
		listed  []string
		entries int // of the names that the edit concerns
		left    int // of the entries, once it is made
		rest    bool
	}{
		"as many as one write may remove":   {rulesOf(t, map[string]string{"r": "a"}), entries("x", pullsecret.MaxRemoved), pullsecret.MaxRemoved + 1, 1, false},
		"more than one write may remove":    {rulesOf(t, map[string]string{"r": "a"}), entries("x", 20000), pullsecret.MaxRemoved + 1, 20000 - pullsecret.MaxRemoved + 1, true},
		"one name more often than it may":   {rulesOf(t, map[string]string{"r": "a"}), slices.Repeat([]string{"tcr.ipsx"}, pullsecret.MaxRemoved+1), 1, 2, true},
		"one name as often as it may":       {rulesOf(t, map[string]string{"r": "a"}), slices.Repeat([]string{"tcr.ipsx"}, pullsecret.MaxRemoved), pullsecret.MaxRemoved + 1, 1, false},
		"more than one write may add":       {rulesOf(t, namespaces), []string{"theirs"}, pullsecret.MaxAdded, pullsecret.MaxAdded + 1, true},
		"more than one write may of both":   {rulesOf(t, namespaces), entries("x", 20000), pullsecret.MaxAdded + pullsecret.MaxRemoved, 20000 - pullsecret.MaxRemoved + pullsecret.MaxAdded, true},
		"any number where there is no list": {rulesOf(t, namespaces), nil, pullsecret.MaxAdded + 1, pullsecret.MaxAdded + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			account := Account{Name: "default", Version: 5, Secrets: test.listed}
			planned := For(test.rules, Namespace{Name: "a", Live: true, Accounts: []Account{account}}, Visibility{nowhere, everywhere, nowhere})
			require.Len(t, planned.Changes, 1)
			edit := planned.Changes[0].(EditAccount)
			assert.LessOrEqual(t, len(edit.Patch)+1, 10000, "the API server takes no more, and one operation is the guard")
			assert.Len(t, edit.Secrets, test.entries)
			assert.Equal(t, test.rest, edit.Rest)
			after := edited(t, account, edit)
			assert.Len(t, after, test.left)
			assert.True(t, edit.TookEffect(after), "it is not taken for undone")
			assert.False(t, edit.TookEffect(test.listed))
			assert.Less(t, len(edit.String()), 1000)
			assert.Contains(t, edit.String(), "editing service account a/default at 5: ")
		})
	}
}

// edited returns an account's entries after an edit of it.
func edited(t *testing.T, account Account, edit EditAccount) (names []string) {
	t.Helper()
	var object corev1.ServiceAccount
	for _, name := range account.Secrets {
		object.ImagePullSecrets = append(object.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	before, err := json.Marshal(object)
	require.NoError(t, err)
	encoded, err := json.Marshal(edit.Patch)
	require.NoError(t, err)
	patch, err := jsonpatchapply.DecodePatch(encoded)
	require.NoError(t, err)
	after, err := patch.Apply(before)
	require.NoError(t, err)
	object = corev1.ServiceAccount{}
	require.NoError(t, json.Unmarshal(after, &object))
	for _, entry := range object.ImagePullSecrets {
		names = append(names, entry.Name)
	}
	return names
}
