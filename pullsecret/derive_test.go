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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// labelsOf returns the labels of a namespace of the tests: some have none, some are like others.
func labelsOf(namespace string) map[string]string {
	labels := map[string]string{}
	number := len(namespace) * int(namespace[len(namespace)-1])
	if number%3 > 0 {
		labels["env"] = fmt.Sprint("e", number%2)
	}
	if number%5 > 1 {
		labels["team"] = fmt.Sprint("t", number%4)
	}
	return labels
}

func packedLabelsOf(namespace string) func() Labels {
	return func() Labels { return PackLabels(labelsOf(namespace)) }
}

// attached returns what parts attach to an account, read as the admission policy reads them.
func attached(parts []v1.DerivedAttachmentsSpec, namespace, serviceAccount string) []string {
	var secrets []string
	for _, part := range parts {
		keys := slices.Concat(part.Everywhere, part.Namespaces[namespace])
		candidates := slices.Clone(part.Selecting)
		for key, value := range labelsOf(namespace) {
			candidates = append(candidates, part.Labelled[key+"="+value]...)
		}
		for _, key := range candidates {
			if rule := part.Rules[key]; required(rule, labelsOf(namespace)) && !slices.Contains(rule.Excluded, namespace) {
				keys = append(keys, key)
			}
		}
		for _, key := range keys {
			rule := part.Rules[key]
			if (rule.ServiceAccounts == nil || slices.Contains(rule.ServiceAccounts, serviceAccount)) && !slices.Contains(secrets, rule.Secret) {
				secrets = append(secrets, rule.Secret)
			}
		}
	}
	slices.Sort(secrets)
	return secrets
}

// required reports whether labels are what a rule requires, by what Kubernetes makes of it.
func required(rule v1.DerivedRule, given map[string]string) bool {
	for _, requirement := range rule.Requirements {
		operators := map[string]selection.Operator{
			"In": selection.In, "NotIn": selection.NotIn, "Exists": selection.Exists, "DoesNotExist": selection.DoesNotExist,
		}
		theirs, err := labels.NewRequirement(requirement.Key, operators[requirement.Operator], requirement.Values)
		if err != nil || !theirs.Matches(labels.Set(given)) {
			return false
		}
	}
	return true
}

// rulesOf returns rules from lists: the namespaces and service accounts of each name.
func rulesOf(lists map[string][2]string) *Rules {
	index := NewIndex()
	for name, list := range lists {
		index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1.ImagePullSecretSpec{Namespaces: list[0], ServiceAccounts: list[1],
				Docker: v1.DockerCredential{Username: "u", Password: "secret-password", Server: "s"}},
		})
	}
	return index.Rules()
}

// some returns random rules for namespaces n0 to n19 and accounts a0 to a4, some with long names.
func some(random *rand.Rand, count int) *Rules {
	list := func(prefix string, of int) string {
		if random.IntN(4) == 0 {
			return "*"
		}
		names := map[string]bool{}
		for range 1 + random.IntN(4) {
			names[fmt.Sprintf("%s%d", prefix, random.IntN(of))] = true
		}
		return strings.Join(sortedKeys(names), ",")
	}
	index := NewIndex()
	for i := range count {
		object := &v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%d-%s", i, strings.Repeat("x", random.IntN(90)))},
			Spec: v1.ImagePullSecretSpec{Namespaces: list("n", 20), ServiceAccounts: list("a", 5),
				Docker: v1.DockerCredential{Username: "u", Password: "secret-password", Server: "s"}},
		}
		someSelection(random, &object.Spec)
		index.Put(object)
		if index.Rules().Get(object.Name) == nil {
			panic(index.Rules().Invalid(object.Name))
		}
	}
	return index.Rules()
}

// someSelection has a spec select by random labels, too, or exclude some of n0 to n4, or neither.
func someSelection(random *rand.Rand, spec *v1.ImagePullSecretSpec) {
	if random.IntN(2) == 0 {
		selector := &v1.LabelSelector{}
		if random.IntN(2) == 0 {
			selector.MatchLabels = map[string]v1.LabelValue{"env": v1.LabelValue(fmt.Sprint("e", random.IntN(3)))}
		}
		for range random.IntN(3) {
			operator := []v1.LabelOperator{v1.OperatorIn, v1.OperatorNotIn, v1.OperatorExists, v1.OperatorDoesNotExist}[random.IntN(4)]
			expression := v1.LabelRequirement{Key: []v1.LabelKey{"env", "team"}[random.IntN(2)], Operator: operator}
			if operator == v1.OperatorIn || operator == v1.OperatorNotIn {
				for range 1 + random.IntN(2) {
					expression.Values = append(expression.Values, v1.LabelValue(fmt.Sprint(string(expression.Key[0]), random.IntN(4))))
				}
			}
			selector.MatchExpressions = append(selector.MatchExpressions, expression)
		}
		spec.NamespaceSelector = selector
		if spec.Namespaces == "*" {
			spec.Namespaces = ""
		}
	}
	for _, n := range random.Perm(5)[:max(0, random.IntN(5)-2)] {
		spec.ExcludedNamespaces = append(spec.ExcludedNamespaces, v1.NamespaceName(fmt.Sprint("n", n)))
	}
}

func sortedKeys(set map[string]bool) (keys []string) {
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// agree checks that the parts attach what the rules say.
func agree(t *testing.T, rules *Rules, parts []v1.DerivedAttachmentsSpec) {
	t.Helper()
	for n := range 21 {
		for a := range 6 {
			namespace, account := fmt.Sprintf("n%d", n), fmt.Sprintf("a%d", a)
			want := rules.Secrets(namespace, packedLabelsOf(namespace), account)
			slices.Sort(want)
			require.Equal(t, want, attached(parts, namespace, account), "%s/%s", namespace, account)
		}
	}
}

func TestDerive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	t.Run("the parts attach what the rules say, however many there are", func(t *testing.T) {
		for range 50 {
			rules := some(random, 40)
			for number := 1; number <= maxParts; number *= 2 {
				agree(t, rules, divide(rules, number, nil))
			}
		}
	})
	t.Run("they are as small as promised", func(t *testing.T) {
		derived := derive(some(random, 100), 1, 9000)
		require.Greater(t, len(derived.Parts()), 1)
		require.Empty(t, derived.TooLarge)
		for _, part := range derived.Parts() {
			encoded, err := json.Marshal(part)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(encoded), 9000+len(`{"rules":{},"everywhere":[],"namespaces":{},"labelled":{},"selecting":[]}`))
		}
	})
	t.Run("nothing is lost at any moment in which parts are divided or joined: made, then changed, then deleted", func(t *testing.T) {
		rules := some(random, 60)
		few, many := divide(rules, 1, nil), divide(rules, maxParts, nil)
		stored := slices.Clone(few)
		for _, made := range many[1:] {
			stored = append(stored, made)
			agree(t, rules, stored)
		}
		stored[0] = many[0]
		agree(t, rules, stored)
		stored[0] = few[0]
		for i := len(stored) - 1; i > 0; i-- {
			stored = stored[:i]
			agree(t, rules, stored)
		}
	})
	t.Run("parts are joined only when they fit well into fewer", func(t *testing.T) {
		rules := some(random, 60)
		whole := rules.size
		assert.Equal(t, 1, derive(rules, 1, whole).Number)
		assert.Equal(t, 2, derive(rules, 2, whole).Number)
		assert.Equal(t, 1, derive(rules, 2, 2*whole).Number)
	})
	t.Run("each part says how many there are, and the only one nothing of it", func(t *testing.T) {
		rules := some(random, 60)
		assert.Zero(t, derive(rules, 1, rules.size).Parts()[0].Parts)
		for _, part := range derive(rules, 2, rules.size).Parts() {
			assert.Equal(t, 2, part.Parts)
		}
	})
	t.Run("only what cannot be stored is left out, and named", func(t *testing.T) {
		derived := derive(rulesOf(map[string][2]string{"long": {"n1", strings.Repeat("a", 200)}, "short": {"n2", "a"}, "other": {"n1", "a"}}), 1,
			180)
		assert.Equal(t, []string{"long"}, derived.TooLarge)
		assert.Equal(t, []string{"tcr.ipsother"}, attached(derived.Parts(), "n1", "a"))
		assert.Equal(t, []string{"tcr.ipsshort"}, attached(derived.Parts(), "n2", "a"))
		assert.Len(t, derived.Parts(), 1, "more would help nobody")
	})
	t.Run("equal rules are encoded alike", func(t *testing.T) {
		lists := map[string][2]string{"a": {"*", "*"}, "b": {"*", "y,x"}, "c": {"n2,n1", "*"}, "d": {"n1", "*"}}
		first, err := json.Marshal(Derive(rulesOf(lists), 1).Parts())
		require.NoError(t, err)
		for range 20 {
			again, err := json.Marshal(Derive(rulesOf(lists), 1).Parts())
			require.NoError(t, err)
			require.JSONEq(t, string(first), string(again))
			require.Equal(t, string(first), string(again))
		}
		assert.NotContains(t, string(first), "secret-password")
	})
	t.Run("long names have short keys that no name has", func(t *testing.T) {
		long := strings.Repeat("x", 200)
		assert.Len(t, derivedKey(long), maxKey)
		assert.Contains(t, derivedKey(long), "~")
		assert.NotEqual(t, derivedKey(long), derivedKey(long+"x"))
		assert.Equal(t, "short", derivedKey("short"))
	})
}

func BenchmarkDerive(b *testing.B) {
	for _, count := range []int{1, 100, 1000, 5000} {
		lists := map[string][2]string{"all": {"*", "*"}}
		for i := range count {
			lists[fmt.Sprintf("team-%05d", i)] = [2]string{fmt.Sprintf("team-%05d-a,team-%05d-b", i, i), "*"}
		}
		rules := rulesOf(lists)
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			for b.Loop() {
				Derive(rules, 1).Parts()
			}
		})
	}
}
