package pullsecret

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// edited returns what the API server makes of a part.
func edited(t *testing.T, part v1.DerivedAttachmentsSpec, edits any) (made v1.DerivedAttachmentsSpec) {
	t.Helper()
	encoded, err := json.Marshal(edits)
	require.NoError(t, err)
	patch, err := jsonpatch.DecodePatch(encoded)
	require.NoError(t, err)
	before, err := json.Marshal(part)
	require.NoError(t, err)
	after, err := patch.Apply(before)
	require.NoError(t, err, "%s\nof\n%s", encoded, before)
	require.NoError(t, json.Unmarshal(after, &made))
	return made
}

// at returns what is derived in so many parts.
func at(rules *Rules, number int) *Derived { return &Derived{Number: number, rules: rules} }

func TestEdits(t *testing.T) {
	object := func(name string, namespaces, accounts string, generation int64) *v1.ImagePullSecret {
		return &v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation},
			Spec: v1.ImagePullSecretSpec{Namespaces: namespaces, ServiceAccounts: accounts,
				Docker: v1.DockerCredential{Username: "u", Password: fmt.Sprint(generation), Server: "s"}},
		}
	}
	t.Run("make of each part what is derived anew, whatever was changed, however many parts there are", func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 8))
		pick := func(options ...string) string { return options[random.IntN(len(options))] }
		index, valid := NewIndex(), NewIndex() // the second one never hears of what is invalid
		both := func(change func(*Index)) { change(index); change(valid) }
		both(func(i *Index) { i.BarExactly(nil) })
		serving := object("serving", "n1", "*", 1) // that pods are served at all has every part made anew
		serving.Spec.Pods = v1.PodsAll
		both(func(i *Index) { i.Put(serving) })
		for generation := range int64(100) {
			before := index.Rules().Attaching()
			for range 1 + random.IntN(3) {
				name := pick("a", "b", "c", "d", strings.Repeat("long", 20), strings.Repeat("long", 20)+"er")
				switch random.IntN(6) {
				case 5:
					namespace, account, bar := pick("n1", "n2", "n3"), pick("x", "y"), random.IntN(2) == 0
					both(func(i *Index) { i.Bar(namespace, account, bar) })
				case 0:
					both(func(i *Index) { i.Remove(name) })
				case 1:
					index.Put(object(name, "not/a/name", "*", generation))
				default:
					changed := object(name, pick("*", "n1", "n1,n2", "n2,n3,n4"), pick("*", "x", "x,y"), generation)
					changed.Spec.Docker.AdditionalServers = strings.Fields(pick("", "t", "t u"))
					changed.Spec.Pods = pick("", v1.PodsNever, v1.PodsAll, v1.PodsMatchingImages)
					someSelection(random, &changed.Spec)
					both(func(i *Index) { i.Put(changed) })
				}
			}
			attaching, want := index.Rules().Attaching(), valid.Rules()
			require.Equal(t, at(want, 1).Parts(), at(attaching, 1).Parts(), "what is invalid counts as it was last")
			require.Equal(t, []int{want.size, want.labelled, want.asking}, []int{attaching.size, attaching.labelled, attaching.asking})
			for number := 1; number <= maxParts; number *= 2 {
				earlier, derived := at(before, number), at(index.Rules().Attaching(), number)
				were := earlier.Parts()
				for part, want := range derived.Parts() {
					edits, known := derived.Edits(part, earlier)
					require.True(t, known)
					made := edited(t, were[part], edits)
					require.True(t, equality.Semantic.DeepEqual(want, made), "%v\nis not\n%v", made, want)
					require.Equal(t, equality.Semantic.DeepEqual(want, were[part]), len(edits) == 0, "%v", edits)
				}
			}
		}
	})
	t.Run("are few where there are many rules and one is changed, and none where its password is", func(t *testing.T) {
		index := NewIndex()
		for i := range 1000 {
			index.Put(object(fmt.Sprint("team", i), fmt.Sprintf("n%d,m%d", i, i), "*", 1))
		}
		before := Derive(index.Rules(), 1)
		index.Put(object("team7", "n7,m7", "*", 2))
		edits, known := Derive(index.Rules(), 1).Edits(0, before)
		assert.True(t, known)
		assert.Empty(t, edits)
		index.Put(object("team7", "n7", "*", 3))
		edits, known = Derive(index.Rules(), 1).Edits(0, before)
		assert.True(t, known)
		require.Len(t, edits, 1)
		assert.Equal(t, "/namespaces/m7", edits[0].Path)
	})
	t.Run("are none where an object turns invalid, nor where it turns valid again", func(t *testing.T) {
		index := NewIndex()
		index.Put(object("team", "n,m", "*", 1))
		index.Put(object("all", "*", "x", 1))
		before := Derive(index.Rules().Attaching(), 1)
		for generation := int64(2); generation < 6; generation += 2 {
			index.Put(object("team", "n,n", "*", generation))
			index.Put(object("all", "all of them", "x", generation))
			assert.Equal(t, []string{"tcr.ipsall", "tcr.ipsteam"}, index.Secrets("m", nil, "x"))
			for _, valid := range []bool{false, true} {
				if valid {
					index.Put(object("team", "n,m", "*", generation+1))
					index.Put(object("all", "*", "x", generation+1))
				}
				edits, known := Derive(index.Rules().Attaching(), 1).Edits(0, before)
				assert.True(t, known)
				assert.Empty(t, edits)
			}
		}
		index.Put(object("team", "n,n", "*", 8))
		index.Remove("team")
		assert.Equal(t, []string{"tcr.ipsall"}, index.Secrets("m", nil, "x"), "what is gone gives nothing, whatever it was last")
	})
	t.Run("find a label whose key holds a slash, and a rule whose key holds a tilde", func(t *testing.T) {
		long := strings.Repeat("long", 20)
		labelled := object(long, "", "*", 1)
		labelled.Spec.NamespaceSelector = &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"example.com/team": "blue"}}
		index := NewIndex()
		index.Put(object("other", "n", "*", 1))
		empty := at(index.Rules(), 1)
		index.Put(labelled)
		full := at(index.Rules(), 1)
		for _, change := range [][2]*Derived{{empty, full}, {full, empty}} {
			edits, known := change[1].Edits(0, change[0])
			require.True(t, known)
			want, made := change[1].Parts()[0], edited(t, change[0].Parts()[0], edits)
			assert.True(t, equality.Semantic.DeepEqual(want, made), "%v\nis not\n%v", made, want)
		}
		assert.Equal(t, []string{derivedKey(long)}, full.Parts()[0].Labelled["example.com/team=blue"])
	})
	t.Run("are not known where a part is to be made anew", func(t *testing.T) {
		rules := rulesOf(map[string][2]string{"a": {"n1", "*"}})
		for name, earlier := range map[string]*Derived{
			"nothing was there": nil, "there were more parts": at(rules, 2),
			"rules were left out": {Number: 1, rules: rules, TooLarge: []string{"b"}},
		} {
			_, known := at(rules, 1).Edits(0, earlier)
			assert.False(t, known, name)
		}
		many := map[string][2]string{}
		for i := range maxEdits {
			many[fmt.Sprint(i)] = [2]string{fmt.Sprint("n", i), "*"}
		}
		_, known := at(rulesOf(many), 1).Edits(0, at(rules, 1))
		assert.False(t, known, "there would be too many edits")
	})
}
