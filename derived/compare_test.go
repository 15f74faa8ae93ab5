package derived

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

var marked = map[string]string{v1.ManagedByLabel: v1.ManagedByValue}

// attaching returns what is derived where these ImagePullSecrets select everything.
func attaching(names ...string) *pullsecret.Derived {
	index := pullsecret.NewIndex()
	for _, name := range names {
		index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "s"}},
		})
	}
	return pullsecret.Derive(index.Rules(), 1)
}

// serving is attaching where they serve pods, too.
func serving(names ...string) *pullsecret.Derived {
	index := pullsecret.NewIndex()
	for _, name := range names {
		index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "s"}, Pods: v1.PodsAll},
		})
	}
	index.BarExactly(nil)
	return pullsecret.Derive(index.Rules(), 1)
}

// kept returns an object that holds what was derived, as it was written; nil for something else.
func kept(holds *pullsecret.Derived) stored {
	return stored{uid: "1", version: 5, generation: 2, labels: marked, owned: true, holds: holds, read: 2}
}

func TestCompare(t *testing.T) {
	owner := &metav1.OwnerReference{UID: "role"}
	before, now := attaching("a"), attaching("b")
	edited := kept(now).after(stored{uid: "1", version: 6, generation: 3, labels: marked, owned: true})
	touched := kept(now).after(stored{uid: "1", version: 6, generation: 2, owned: true})
	reborn := kept(now).after(stored{uid: "2", version: 6, generation: 2, labels: marked, owned: true})
	labelled := kept(now)
	labelled.labels = map[string]string{v1.ManagedByLabel: v1.ManagedByValue, v1.ServesPodsLabel: v1.ServesPodsValue}
	orphan := kept(now)
	orphan.owned = false
	same := func(_ int, holds *pullsecret.Derived) bool { return holds == now }
	for name, test := range map[string]struct {
		have    map[string]stored
		number  int
		steps   []step
		unknown []string
	}{
		"what is as it should be gets nothing": {
			have: map[string]stored{partName(0): kept(now)}, number: 1,
		},
		"what is missing is made": {
			number: 1, steps: []step{{partName(0), 0, creation}},
		},
		"what says something else is changed": {
			have: map[string]stored{partName(0): kept(before)}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"what nobody derived is changed": {
			have: map[string]stored{partName(0): kept(nil)}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"what somebody wrote to is read first": {
			have: map[string]stored{partName(0): edited}, number: 1, unknown: []string{partName(0)},
		},
		"one of the same name that was made anew is read first": {
			have: map[string]stored{partName(0): reborn}, number: 1, unknown: []string{partName(0)},
		},
		"one that lost its label gets it back": {
			have: map[string]stored{partName(0): touched}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"one that has the label of those that serve pods loses it": {
			have: map[string]stored{partName(0): labelled}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"one that lost its owner gets it back": {
			have: map[string]stored{partName(0): orphan}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"a further part is made before any is changed": {
			have: map[string]stored{partName(0): kept(before)}, number: 2, steps: []step{{partName(1), 1, creation}},
		},
		"and what moved there is taken away then": {
			have: map[string]stored{partName(0): kept(before), partName(1): kept(now)}, number: 2, steps: []step{{partName(0), 0, modification}},
		},
		"a part too many is deleted only once the others hold what it held": {
			have: map[string]stored{partName(0): kept(before), partName(1): kept(now)}, number: 1, steps: []step{{partName(0), 0, modification}},
		},
		"and then it goes, as does what is none of ours": {
			have:   map[string]stored{partName(0): kept(now), partName(1): kept(now), "stray": kept(before)},
			number: 1, steps: []step{{"stray", -1, deletion}, {partName(1), -1, deletion}},
		},
		"nothing is deleted while it is not known what the others hold": {
			have: map[string]stored{partName(0): edited, partName(1): kept(now)}, number: 1, unknown: []string{partName(0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps, unknown := compare(test.have, test.number, same, marked, owner)
			assert.Equal(t, test.steps, steps)
			assert.Equal(t, test.unknown, unknown)
		})
	}
	t.Run("without an owner none is missed", func(t *testing.T) {
		steps, _ := compare(map[string]stored{partName(0): orphan}, 1, same, marked, nil)
		assert.Empty(t, steps)
	})
}

func TestPartsSayByALabelWhetherTheyServePods(t *testing.T) {
	const path = "/metadata/labels/tcr.tencentcloudcr.com~1serves-pods"
	never, pods := attaching("a"), serving("a")
	both := map[string]string{v1.ManagedByLabel: v1.ManagedByValue, v1.ServesPodsLabel: v1.ServesPodsValue}
	odd := map[string]string{v1.ManagedByLabel: v1.ManagedByValue, v1.ServesPodsLabel: "false"}
	for name, test := range map[string]struct {
		have    map[string]string
		derived *pullsecret.Derived
		marked  bool
		want    string // what is done with the label
	}{
		"where nothing serves pods there is none":    {marked, never, true, ""},
		"where something does it is added":           {marked, pods, false, "add"},
		"and stays":                                  {both, pods, true, "add"},
		"until nothing does any more":                {both, never, false, "remove"},
		"another value is none of ours":              {odd, pods, false, "add"},
		"and does not stay where nothing serves any": {odd, never, false, "remove"},
	} {
		t.Run(name, func(t *testing.T) {
			now := kept(test.derived)
			now.labels = test.have
			assert.Equal(t, test.marked, now.marked(labelsOf(test.derived), nil))
			patch, _, err := change(now, test.derived, 0, nil, func(part int) v1.DerivedAttachmentsSpec { return test.derived.Parts()[part] })
			require.NoError(t, err)
			var operations []struct{ Op, Path string }
			require.NoError(t, json.Unmarshal(patch, &operations))
			var did string
			for _, operation := range operations {
				if operation.Path == path {
					did = operation.Op
				}
			}
			assert.Equal(t, test.want, did)
			assert.Equal(t, labelsOf(test.derived), newObject(0, v1.DerivedAttachmentsSpec{}, labelsOf(test.derived), nil).Labels)
		})
	}
}

func TestAStrangersObjectIsNoPart(t *testing.T) {
	have := map[string]stored{partName(0): kept(nil), partName(1): kept(nil), "7": {}, "stray": {}, namePrefix: {}, namePrefix + "01": {}, namePrefix + "x": {}}
	assert.Equal(t, 2, countParts(have))
}

func TestChange(t *testing.T) {
	owner := &metav1.OwnerReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "role", UID: "9"}
	was, is := attaching("a"), attaching("a", "b")
	whole := func(part int) v1.DerivedAttachmentsSpec { return is.Parts()[part] }
	paths := func(now stored, owner *metav1.OwnerReference) (paths []string, edits bool) {
		patch, edits, err := change(now, is, 0, owner, whole)
		require.NoError(t, err)
		var operations []struct {
			Op, Path string
			Value    any
		}
		require.NoError(t, json.Unmarshal(patch, &operations))
		require.Equal(t, "/metadata/resourceVersion", operations[0].Path)
		require.Equal(t, "5", operations[0].Value, "it is refused where somebody wrote meanwhile")
		for _, operation := range operations[1:] {
			paths = append(paths, operation.Path)
		}
		return paths, edits
	}
	const label = "/metadata/labels/app.kubernetes.io~1managed-by"
	for name, test := range map[string]struct {
		now   stored
		owner *metav1.OwnerReference
		paths []string
		edits bool
	}{
		"what was derived earlier is edited":      {kept(was), nil, []string{label, "/spec/rules/b", "/spec/everywhere"}, true},
		"what nobody derived is made anew":        {kept(nil), nil, []string{label, "/spec"}, false},
		"what is as it should be is marked alone": {kept(is), nil, []string{label}, true},
		"an owner is added where there is none":   {stored{version: 5}, owner, []string{"/metadata/labels", label, "/metadata/ownerReferences", "/spec"}, false},
		"and takes no other's place":              {kept(is), owner, []string{label}, true},
	} {
		t.Run(name, func(t *testing.T) {
			paths, edits := paths(test.now, test.owner)
			assert.Equal(t, test.paths, paths)
			assert.Equal(t, test.edits, edits)
		})
	}
}

func TestEqual(t *testing.T) {
	one, again, two, parts := attaching("a"), attaching("a"), attaching("a", "b"), made{}
	assert.True(t, parts.equal(one, 0, one))
	assert.True(t, parts.equal(one, 0, again))
	assert.False(t, parts.equal(one, 0, two))
	assert.False(t, parts.equal(one, 0, nil))
	left := *two
	left.TooLarge = []string{"c"}
	assert.True(t, parts.equal(two, 0, &left), "where rules are left out, the parts tell")
	assert.False(t, parts.equal(one, 0, &left))
}

func TestPartsAreMadeOnceInALook(t *testing.T) {
	index := pullsecret.NewIndex()
	put := func(name string) *pullsecret.Derived {
		namespaces := make([]string, 5_000)
		for i := range namespaces {
			namespaces[i] = fmt.Sprintf("%s-%048d", name, i)
		}
		index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: name + strings.Repeat("-long", 7)}, Spec: v1.ImagePullSecretSpec{
			Namespaces: strings.Join(namespaces, ","), Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "s"},
		}})
		return pullsecret.Derive(index.Rules(), 1)
	}
	for i := range 5 {
		put(fmt.Sprint("r", i))
	}
	was, is := put("x"), put("y")
	require.GreaterOrEqual(t, is.Number, 4)
	require.Equal(t, was.Number, is.Number)
	_, known := is.Edits(0, was)
	require.False(t, known, "too many edits")
	both := testing.AllocsPerRun(1, func() { was.Parts(); is.Parts() })
	all := testing.AllocsPerRun(1, func() {
		parts := made{}
		for part := range is.Number {
			assert.False(t, parts.equal(is, part, was))
		}
	})
	edits := testing.AllocsPerRun(1, func() {
		for part := range is.Number {
			is.Edits(part, was)
		}
	})
	assert.Less(t, all-edits, 1.5*both)
}
