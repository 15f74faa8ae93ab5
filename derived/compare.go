package derived

import (
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// namePrefix is the prefix of the name of each part.
const namePrefix = "written-by-tcr-assistant-"

func partName(number int) string { return namePrefix + strconv.Itoa(number) }

// countParts returns how many objects are parts by their name. Others of this kind may exist; they are deleted.
func countParts(have map[string]stored) (parts int) {
	for name := range have {
		if number, err := strconv.Atoi(strings.TrimPrefix(name, namePrefix)); err == nil && name == partName(number) {
			parts++
		}
	}
	return parts
}

// stored is what is known of one object: its metadata and, where it was read or written, what it holds.
type stored struct {
	uid        types.UID
	version    uint64
	generation int64
	labels     map[string]string
	owned      bool
	// read is the generation for which it is known what the object holds; 0 where that was never known.
	read int64
	// holds is what the object's spec was derived from, at that generation; nil where the spec is something that was not derived.
	holds *pullsecret.Derived
}

func storedAs(object metav1.Object) stored {
	return stored{
		uid: object.GetUID(), version: latest.Version(object.GetResourceVersion()), generation: object.GetGeneration(),
		labels: object.GetLabels(), owned: len(object.GetOwnerReferences()) > 0,
	}
}

// after returns what is known once the object was seen as seen. What its spec holds stays known as long as its generation is the same.
func (s stored) after(seen stored) stored {
	if seen.uid == s.uid && seen.generation == s.read {
		seen.holds, seen.read = s.holds, s.read
	}
	return seen
}

// known reports whether it is known what the object holds now.
func (s stored) known() bool { return s.read > 0 && s.read == s.generation }

// marked reports whether an object has the right metadata: these labels, and an owner where there is one. (An object whose owner is gone,
// or was replaced, is garbage-collected, and then created again.)
func (s stored) marked(labels map[string]string, owner *metav1.OwnerReference) bool {
	for _, key := range ourLabels {
		have, labelled := s.labels[key]
		if want, wanted := labels[key]; have != want || labelled != wanted {
			return false
		}
	}
	return owner == nil || s.owned
}

// ourLabels are the keys of the labels that the manager alone sets.
var ourLabels = []string{v1.ManagedByLabel, v1.ServesPodsLabel}

// labelsOf returns the labels of each part.
func labelsOf(derived *pullsecret.Derived) map[string]string {
	labels := v1.ManagedLabels()
	if derived.ServesPods() {
		labels[v1.ServesPodsLabel] = v1.ServesPodsValue
	}
	return labels
}

// step is one write.
type step struct {
	name string
	// part is the number of the part; -1 for an object that is not a part, and is deleted.
	part int
	verb verb
}

// verb is what a write does to an object.
type verb string

const (
	creation     verb = "create"
	modification verb = "patch"
	deletion     verb = "delete"
)

// compare returns what to write for this number of parts with these labels, and what to read first. same reports whether a part holds
// what is derived now. Where parts are divided differently, creations come before changes, and changes before deletions, so that nothing
// is missing in between.
func compare(
	have map[string]stored, number int, same func(part int, holds *pullsecret.Derived) bool, labels map[string]string,
	owner *metav1.OwnerReference,
) (steps []step, unknown []string) {
	var changes, deletions []step
	wanted := map[string]bool{}
	for i := range number {
		name := partName(i)
		wanted[name] = true
		switch now, exists := have[name]; {
		case !exists:
			steps = append(steps, step{name, i, creation})
		case !now.known():
			unknown = append(unknown, name)
		case !same(i, now.holds) || !now.marked(labels, owner):
			changes = append(changes, step{name, i, modification})
		}
	}
	for name := range have {
		if !wanted[name] {
			deletions = append(deletions, step{name, -1, deletion})
		}
	}
	slices.SortFunc(deletions, func(a, b step) int { return strings.Compare(a.name, b.name) })
	if len(steps) == 0 {
		steps = append(steps, changes...)
	}
	if len(steps) == 0 && len(unknown) == 0 {
		steps = deletions
	}
	return steps, unknown
}

// made computes the parts of what is derived, and caches them for its own lifetime: computing them takes time and memory in proportion to
// what is stored.
type made map[*pullsecret.Derived][]v1.DerivedAttachmentsSpec

func (m made) part(derived *pullsecret.Derived, part int) v1.DerivedAttachmentsSpec {
	parts, known := m[derived]
	if !known {
		parts = derived.Parts()
		m[derived] = parts
	}
	return parts[part]
}

// equal reports whether a part is the same as it was derived earlier.
func (m made) equal(derived *pullsecret.Derived, part int, earlier *pullsecret.Derived) bool {
	if earlier == nil || earlier == derived {
		return earlier == derived
	}
	if edits, known := derived.Edits(part, earlier); known {
		return len(edits) == 0
	}
	return earlier.Number == derived.Number && equality.Semantic.DeepEqual(m.part(earlier, part), m.part(derived, part))
}

// change returns the JSON patch that makes an object what it should be, provided it is still at the known version, and whether the patch
// edits the existing spec. It does where few edits are enough; otherwise the patch replaces the spec with what whole returns.
func change(
	now stored, derived *pullsecret.Derived, part int, owner *metav1.OwnerReference, whole func(int) v1.DerivedAttachmentsSpec,
) (encoded []byte, edits bool, err error) {
	var patch []jsonpatch.Operation
	if now.labels == nil {
		patch = append(patch, jsonpatch.Operation{Operation: "add", Path: "/metadata/labels", Value: map[string]string{}})
	}
	patch = append(patch, relabelling(now.labels, labelsOf(derived))...)
	if owner != nil && !now.owned {
		patch = append(patch, jsonpatch.Operation{Operation: "add", Path: "/metadata/ownerReferences", Value: []metav1.OwnerReference{*owner}})
	}
	changes, edits := derived.Edits(part, now.holds)
	if !edits {
		changes = []jsonpatch.Operation{{Operation: "add", Value: whole(part)}}
	}
	for _, change := range changes {
		change.Path = "/spec" + change.Path
		patch = append(patch, change)
	}
	encoded, err = pullsecret.Guarded(strconv.FormatUint(now.version, 10), patch)
	return encoded, edits, err
}

// relabelling returns the operations that change our labels from have to want.
func relabelling(have, want map[string]string) (patch []jsonpatch.Operation) {
	for _, key := range ourLabels {
		path := "/metadata/labels/" + strings.ReplaceAll(key, "/", "~1") // RFC 6901
		_, labelled := have[key]
		switch value, wanted := want[key]; {
		case wanted:
			patch = append(patch, jsonpatch.Operation{Operation: "add", Path: path, Value: value})
		case labelled:
			patch = append(patch, jsonpatch.Operation{Operation: "remove", Path: path})
		}
	}
	return patch
}

// newObject returns the object of a part.
func newObject(number int, spec v1.DerivedAttachmentsSpec, labels map[string]string, owner *metav1.OwnerReference) *v1.DerivedAttachments {
	object := &v1.DerivedAttachments{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: "DerivedAttachments"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   partName(number),
			Labels: labels,
		},
		Spec: spec,
	}
	if owner != nil {
		object.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return object
}
