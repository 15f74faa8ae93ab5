package pullsecret_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

func TestMatchingCases(t *testing.T) {
	cases, err := matchtest.Cases("m")
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			index := pullsecret.NewIndex()
			for _, rule := range c.Rules {
				index.Put(rule)
				require.NotNil(t, index.Rules().Get(rule.Name), "%v", index.Rules().Invalid(rule.Name))
			}
			labels := func() pullsecret.Labels { return pullsecret.PackLabels(c.Labels) }
			wants := map[string][]string{
				"rules":       index.Rules().Secrets(c.Namespace, labels, c.AccountName),
				"attachments": index.Rules().Attachments().Secrets(c.Namespace, labels, c.AccountName),
			}
			for which, wanted := range wants {
				if pullsecret.OptOutOf(c.Labels) == pullsecret.OptedOut || pullsecret.OptOutOf(c.AccountLabels) == pullsecret.OptedOut {
					wanted = nil
				}
				_, missing, _ := pullsecret.Attach(c.Has, c.Has != nil, wanted)
				assert.Equal(t, c.Want, append(slices.Clone(c.Has), missing...), which)
			}
		})
	}
}

func imagePullSecret(name, namespaces string, generation int64) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "1", Generation: generation},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces, Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "s"},
		},
	}
}

// A change is what an observer hears of: whether there was a rule, and whether there is one.
type change struct{ before, after bool }

// record returns the changes that an index tells of from now on.
func record(index *pullsecret.Index) *[]change {
	var changes []change
	index.Observe(func(c pullsecret.Change) {
		changes = append(changes, change{c.Before != nil, c.After != nil})
	})
	return &changes
}

func TestIndexTellsItsObservers(t *testing.T) {
	t.Run("observers hear of what changes, and of nothing else", func(t *testing.T) {
		index := pullsecret.NewIndex()
		changes := record(index)
		index.Put(imagePullSecret("a", "*", 1))
		index.Put(imagePullSecret("a", "*", 1)) // its status was written
		index.Put(imagePullSecret("a", "x", 2))
		index.Remove("a")
		index.Remove("a")
		assert.Equal(t, []change{{false, true}, {true, true}, {true, false}}, *changes)
	})
	t.Run("an observer that has stopped hears nothing", func(t *testing.T) {
		index := pullsecret.NewIndex()
		stop := index.Observe(func(pullsecret.Change) { t.Error("it heard something") })
		stop()
		index.Put(imagePullSecret("a", "*", 1))
	})
	t.Run("the same name with another identity is another one", func(t *testing.T) {
		index := pullsecret.NewIndex()
		changes := record(index)
		index.Put(imagePullSecret("a", "*", 1))
		reborn := imagePullSecret("a", "*", 1)
		reborn.UID = "2"
		index.Put(reborn)
		assert.Len(t, *changes, 2)
		assert.EqualValues(t, "2", index.Rules().Get("a").UID)
	})
}

func TestIndexOfWhatCannotBeRead(t *testing.T) {
	t.Run("one that cannot be read is frozen until it can", func(t *testing.T) {
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "*", 1))
		index.Put(imagePullSecret("a", "x,x", 2))
		assert.Nil(t, index.Rules().Get("a"))
		assert.NotEmpty(t, index.Rules().Invalid("a"))
		assert.True(t, index.Rules().Frozen("tcr.ipsa"))
		assert.False(t, index.Rules().Frozen("tcr.ipsb"))
		assert.False(t, index.Rules().Frozen("a"))
		index.Put(imagePullSecret("a", "x", 3))
		assert.False(t, index.Rules().Frozen("tcr.ipsa"))
	})
	t.Run("what a rule selected before it could not be read is told once it can, or once it is gone", func(t *testing.T) {
		var last pullsecret.Change
		index := pullsecret.NewIndex()
		index.Observe(func(c pullsecret.Change) { last = c })
		index.Put(imagePullSecret("a", "x,y,z", 1))
		index.Put(imagePullSecret("a", "x,x", 2))
		index.Put(imagePullSecret("a", ",", 3))
		index.Put(imagePullSecret("a", "x", 4))
		require.NotNil(t, last.Before)
		assert.Equal(t, []string{"x", "y", "z"}, last.Before.Namespaces.Names())
		assert.Equal(t, []string{"x"}, last.After.Namespaces.Names())
		index.Put(imagePullSecret("a", "x,x", 5))
		index.Remove("a")
		require.NotNil(t, last.Before)
		assert.Equal(t, []string{"x"}, last.Before.Namespaces.Names())
		assert.True(t, last.Unknown, "what was to be removed when it was broken may still stand")
	})
	t.Run("it gives its entries as before, unless it is another one of its name", func(t *testing.T) {
		index := pullsecret.NewIndex()
		gives := func() []string { return index.Secrets("x", nil, "y") }
		index.Put(imagePullSecret("a", "*", 1))
		index.Put(imagePullSecret("a", "x,x", 2))
		assert.Equal(t, []string{"tcr.ipsa"}, gives())
		another := imagePullSecret("a", "x,x", 1)
		another.UID = "2"
		index.Replace([]*v1.ImagePullSecret{another})
		assert.Empty(t, gives(), "the Secrets of the one before are deleted with it")
		another = imagePullSecret("a", "x", 2)
		another.UID = "2"
		index.Put(another)
		assert.Equal(t, []string{"tcr.ipsa"}, gives())
	})
	t.Run("a change costs no more while many cannot be read", func(t *testing.T) {
		index := pullsecret.NewIndex()
		var names []string
		for i := range 200 {
			names = append(names, "team-"+strconv.Itoa(i))
		}
		for i := range 100 {
			index.Put(imagePullSecret(strconv.Itoa(i), strings.Join(names, ","), 1))
			index.Put(imagePullSecret(strconv.Itoa(i), "x,x", 2))
		}
		index.BarExactly(nil)
		bar, generation := false, int64(0)
		assert.Less(t, testing.AllocsPerRun(10, func() {
			bar = !bar
			index.Bar("team-1", "default", bar)
		}), 100.0)
		assert.Less(t, testing.AllocsPerRun(10, func() {
			generation++
			index.Put(imagePullSecret("other", "x", generation))
		}), 1000.0)
	})
	t.Run("what one selected that could not be read when it was first seen is not known", func(t *testing.T) {
		var changes []pullsecret.Change
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "x,x", 1))
		index.Put(imagePullSecret("b", "x,x", 1))
		index.Observe(func(c pullsecret.Change) { changes = append(changes, c) })
		index.Put(imagePullSecret("a", "x", 2))
		index.Remove("b")
		require.Len(t, changes, 2)
		assert.True(t, changes[0].Unknown)
		assert.True(t, changes[1].Unknown)
	})
}

func TestIndexHoldsWhatThereIs(t *testing.T) {
	t.Run("another spec of the same generation, as after a restored backup, is another rule", func(t *testing.T) {
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "x", 3))
		index.Put(imagePullSecret("a", "y", 3))
		assert.Equal(t, []string{"y"}, index.Rules().Get("a").Namespaces.Names())
	})
	t.Run("one that is being deleted counts as gone", func(t *testing.T) {
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "*", 1))
		ending := imagePullSecret("a", "*", 2)
		ending.DeletionTimestamp = &metav1.Time{}
		index.Put(ending)
		assert.Empty(t, index.Rules().Names())
	})
	t.Run("a relist removes what it does not list", func(t *testing.T) {
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "*", 1))
		index.Put(imagePullSecret("b", "x,x", 1))
		index.Replace([]*v1.ImagePullSecret{imagePullSecret("c", "*", 1)})
		assert.Equal(t, []string{"c"}, index.Rules().Names())
	})
	t.Run("rules that are held do not change", func(t *testing.T) {
		index := pullsecret.NewIndex()
		index.Put(imagePullSecret("a", "*", 1))
		held := index.Rules()
		index.Put(imagePullSecret("b", "*", 1))
		index.Remove("a")
		assert.Equal(t, []string{"tcr.ipsa"}, held.Secrets("x", nil, "y"))
		assert.Equal(t, []string{"tcr.ipsb"}, index.Rules().Secrets("x", nil, "y"))
	})
	t.Run("readers and writers do not wait for each other", func(t *testing.T) {
		index := pullsecret.NewIndex()
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range int64(200) {
					index.Put(imagePullSecret(string(rune('a'+i)), "*", n))
					index.Rules().Secrets("x", nil, "y")
				}
			})
		}
		all.Wait()
		assert.Len(t, index.Rules().Names(), 4)
	})
}

// TestIndexAgainstAPlainReading puts random changes to an index and asks it what a loop over all rules says.
func TestIndexAgainstAPlainReading(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	lists := []string{"*", "x", "y,x", "z", "x,x"}
	selectors := []*v1.LabelSelector{
		{}, {MatchLabels: map[string]v1.LabelValue{"a": "1"}},
		{MatchExpressions: []v1.LabelRequirement{{Key: "a", Operator: v1.OperatorIn, Values: []v1.LabelValue{"1", "2"}}}},
		{MatchExpressions: []v1.LabelRequirement{{Key: "a", Operator: v1.OperatorDoesNotExist}}},
	}
	labels := map[string]pullsecret.Labels{
		"x": pullsecret.PackLabels(map[string]string{"a": "1", "b": "2"}), "y": pullsecret.PackLabels(map[string]string{"a": "2"}),
		"z": pullsecret.PackLabels(map[string]string{"a": "1"}), "other": pullsecret.Unlabelled,
	}
	index := pullsecret.NewIndex()
	plain := map[string]*v1.ImagePullSecret{}
	for generation := range int64(2000) {
		name := strconv.Itoa(random.IntN(30))
		switch random.IntN(4) {
		case 0:
			index.Remove(name)
			delete(plain, name)
		case 1:
			index.Replace(slices.Collect(maps.Values(plain)))
		default:
			plain[name] = imagePullSecret(name, lists[random.IntN(len(lists))], generation)
			plain[name].Spec.ServiceAccounts = lists[random.IntN(4)]
			if random.IntN(3) == 0 {
				plain[name].Spec.NamespaceSelector = selectors[random.IntN(len(selectors))]
			}
			if random.IntN(3) == 0 {
				plain[name].Spec.ExcludedNamespaces = []v1.NamespaceName{"z"}
			}
			index.Put(plain[name])
		}
		for _, namespace := range []string{"x", "y", "z", "other"} {
			var want []string
			for _, name := range slices.Sorted(maps.Keys(plain)) {
				rule, errs := pullsecret.Parse(plain[name])
				if len(errs) > 0 || !rule.ServiceAccounts.Matches("x") {
					continue
				}
				selected, known := rule.Namespaces.Selects(namespace, labels[namespace])
				require.True(t, known)
				if selected {
					want = append(want, rule.Secret)
				}
				_, known = rule.Namespaces.Selects(namespace, pullsecret.Labels{})
				require.Equal(t, !known, index.Rules().Undecided(rule.Secret, namespace, pullsecret.Labels{}))
			}
			require.Equal(t, want, index.Rules().Secrets(namespace, func() pullsecret.Labels { return labels[namespace] }, "x"), "in %s after %d changes", namespace, generation+1)
		}
		require.Len(t, index.Rules().Names(), len(plain))
	}
}
