package derived

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

var marked = map[string]string{pullsecret.ManagedByLabel: pullsecret.ManagedByValue}

// kept returns an object that holds a spec, as it was written.
func kept(spec string) stored {
	return stored{uid: "1", version: 5, generation: 2, labels: marked, owned: true, spec: []byte(spec), read: 2}
}

func TestCompare(t *testing.T) {
	owner := &metav1.OwnerReference{UID: "role"}
	one, two := [][]byte{[]byte(`{"a":1}`)}, [][]byte{[]byte(`{"a":1}`), []byte(`{"b":1}`)}
	edited := kept(`{"a":1}`).after(stored{uid: "1", version: 6, generation: 3, labels: marked, owned: true})
	touched := kept(`{"a":1}`).after(stored{uid: "1", version: 6, generation: 2, owned: true})
	reborn := kept(`{"a":1}`).after(stored{uid: "2", version: 6, generation: 2, labels: marked, owned: true})
	orphan := kept(`{"a":1}`)
	orphan.owned = false
	for name, test := range map[string]struct {
		have    map[string]stored
		encoded [][]byte
		steps   []step
		unknown []string
	}{
		"what is as it should be gets nothing": {
			have: map[string]stored{partName(0): kept(`{"a":1}`)}, encoded: one,
		},
		"what is missing is made": {
			encoded: one, steps: []step{{partName(0), 0, creation}},
		},
		"what says something else is changed": {
			have: map[string]stored{partName(0): kept(`{}`)}, encoded: one, steps: []step{{partName(0), 0, modification}},
		},
		"what somebody wrote to is read first": {
			have: map[string]stored{partName(0): edited}, encoded: one, unknown: []string{partName(0)},
		},
		"one of the same name that was made anew is read first": {
			have: map[string]stored{partName(0): reborn}, encoded: one, unknown: []string{partName(0)},
		},
		"one that lost its label gets it back": {
			have: map[string]stored{partName(0): touched}, encoded: one, steps: []step{{partName(0), 0, modification}},
		},
		"one that lost its owner gets it back": {
			have: map[string]stored{partName(0): orphan}, encoded: one, steps: []step{{partName(0), 0, modification}},
		},
		"a further part is made before any is changed": {
			have: map[string]stored{partName(0): kept(`{"a":1,"b":1}`)}, encoded: two, steps: []step{{partName(1), 1, creation}},
		},
		"and what moved there is taken away then": {
			have: map[string]stored{partName(0): kept(`{"a":1,"b":1}`), partName(1): kept(`{"b":1}`)}, encoded: two, steps: []step{{partName(0), 0, modification}},
		},
		"a part too many is deleted only once the others hold what it held": {
			have: map[string]stored{partName(0): kept(`{}`), partName(1): kept(`{"a":1}`)}, encoded: one, steps: []step{{partName(0), 0, modification}},
		},
		"and then it goes, as does what is none of ours": {
			have:    map[string]stored{partName(0): kept(`{"a":1}`), partName(1): kept(`{"a":1}`), "stray": kept(`{}`)},
			encoded: one, steps: []step{{"stray", -1, deletion}, {partName(1), -1, deletion}},
		},
		"nothing is deleted while it is not known what the others hold": {
			have: map[string]stored{partName(0): edited, partName(1): kept(`{"a":1}`)}, encoded: one, unknown: []string{partName(0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps, unknown := compare(test.have, test.encoded, owner)
			assert.Equal(t, test.steps, steps)
			assert.Equal(t, test.unknown, unknown)
		})
	}
	t.Run("without an owner none is missed", func(t *testing.T) {
		steps, _ := compare(map[string]stored{partName(0): orphan}, one, nil)
		assert.Empty(t, steps)
	})
}

func TestAStrangersObjectIsNoPart(t *testing.T) {
	have := map[string]stored{partName(0): kept("{}"), partName(1): kept("{}"), "7": {}, "stray": {}, namePrefix: {}, namePrefix + "01": {}, namePrefix + "x": {}}
	assert.Equal(t, 2, countParts(have))
}

func TestChange(t *testing.T) {
	owner := &metav1.OwnerReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "role", UID: "9"}
	paths := func(now stored, owner *metav1.OwnerReference) (paths []string) {
		patch, err := change(now, []byte(`{"a":1}`), owner)
		require.NoError(t, err)
		var operations []struct {
			Op, Path string
			Value    any
		}
		require.NoError(t, json.Unmarshal(patch, &operations))
		for _, operation := range operations {
			if operation.Path == "/metadata/resourceVersion" {
				require.Equal(t, "5", operation.Value, "it is refused where somebody wrote meanwhile")
				continue
			}
			paths = append(paths, operation.Path)
		}
		require.Len(t, paths, len(operations)-1)
		return paths
	}
	const label = "/metadata/labels/app.kubernetes.io~1managed-by"
	assert.Equal(t, []string{"/spec", label}, paths(kept("{}"), nil))
	assert.Equal(t, []string{"/spec", label}, paths(kept("{}"), owner), "an owner is added where there is none, and takes no other's place")
	assert.Equal(t, []string{"/spec", "/metadata/labels", label, "/metadata/ownerReferences"}, paths(stored{version: 5}, owner))
}
