package pullsecret

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"gomodules.xyz/jsonpatch/v2"
)

// listPath is where a ServiceAccount lists its pull secrets, and podListPath where a pod does. That list is atomic: whoever applies or
// merges it claims every entry in it. So it is only ever edited entry by entry, by JSON patch (RFC 6902).
const (
	listPath    = "/imagePullSecrets"
	podListPath = "/spec/imagePullSecrets"
)

// reference is an entry of that list.
type reference struct {
	Name string `json:"name"`
}

// Among returns a function that reports whether a name is one of these, at a cost that does not depend on how many there are:
// a list may take up a whole object.
func Among(names []string) func(name string) bool {
	if len(names) <= 8 {
		return func(name string) bool { return slices.Contains(names, name) }
	}
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return func(name string) bool {
		_, found := set[name]
		return found
	}
}

// MaxAdded and MaxRemoved bound how many entries one patch adds and removes, each by an operation of its own: the API server
// takes a JSON patch of at most 10,000 operations, and of at most 3 MB. What is left waits for the next patch.
const (
	MaxAdded   = 5000
	MaxRemoved = 1000
)

// Attach returns the JSON patch that appends those names of wanted that the list lacks, and those names; nil where it lacks
// none. Existing entries keep their place. present is whether there is a list, even an empty one. rest is whether the list lacks
// more than one patch may add.
func Attach(list []string, present bool, wanted []string) (patch []jsonpatch.Operation, added []string, rest bool) {
	return attach(listPath, list, present, wanted)
}

// AttachToPod returns the JSON patch that appends those names of wanted that a pod's list lacks, and those names. The list is not empty.
func AttachToPod(list, wanted []string) (patch []jsonpatch.Operation, added []string) {
	patch, added, _ = attach(podListPath, list, true, wanted)
	return patch, added
}

func attach(path string, list []string, present bool, wanted []string) (patch []jsonpatch.Operation, added []string, rest bool) {
	var entries []reference
	contains := func(name string) bool { return slices.Contains(list, name) }
	if len(wanted) > 8 { // for fewer names, building a set does not pay
		contains = Among(list)
	}
	for _, name := range wanted {
		if contains(name) {
			continue
		}
		if present && len(added) == MaxAdded {
			rest = true
			break
		}
		added = append(added, name)
		entries = append(entries, reference{Name: name})
	}
	if !present && len(entries) > 0 {
		return []jsonpatch.Operation{{Operation: "add", Path: path, Value: entries}}, added, false
	}
	for _, entry := range entries {
		patch = append(patch, jsonpatch.Operation{Operation: "add", Path: path + "/-", Value: entry})
	}
	return patch, added, rest
}

// Detach returns the JSON patch that removes every unwanted entry, and the list that is left. It removes the last one first, so that
// each index still means what it meant when the patch was planned. rest is whether more entries are unwanted than one patch may
// remove: left still holds those.
func Detach(list []string, unwanted func(name string) bool) (patch []jsonpatch.Operation, left []string, rest bool) {
	for i, name := range slices.Backward(list) {
		switch {
		case !unwanted(name):
			left = append(left, name)
		case len(patch) == MaxRemoved:
			left, rest = append(left, name), true
		default:
			patch = append(patch, jsonpatch.Operation{Operation: "remove", Path: listPath + "/" + strconv.Itoa(i)})
		}
	}
	slices.Reverse(left)
	return patch, left, rest
}

// Guarded encodes a patch that applies only to that version of the object. It replaces the resourceVersion: if the object has
// changed since then, the API server refuses the patch with 409 Conflict. (A failed "test" operation would be refused with 422, as
// any bad patch is.)
func Guarded(version string, patch []jsonpatch.Operation) ([]byte, error) {
	guard := jsonpatch.Operation{Operation: "replace", Path: "/metadata/resourceVersion", Value: version}
	return AppendPatch(nil, append([]jsonpatch.Operation{guard}, patch...))
}

// AppendPatch appends the JSON of a patch. It allocates nothing for the entries that Attach adds: admission answers with them.
func AppendPatch(to []byte, patch []jsonpatch.Operation) ([]byte, error) {
	to = append(to, '[')
	for i := range patch {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(to, `{"op":`...)
		to = appendText(to, patch[i].Operation)
		to = append(to, `,"path":`...)
		to = appendText(to, patch[i].Path)
		if patch[i].Operation != "remove" {
			to = append(to, `,"value":`...)
			var err error
			if to, err = appendValue(to, patch[i].Value); err != nil {
				return nil, err
			}
		}
		to = append(to, '}')
	}
	return append(to, ']'), nil
}

func appendValue(to []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case reference:
		return appendReference(to, value), nil
	case []reference:
		to = append(to, '[')
		for i, entry := range value {
			if i > 0 {
				to = append(to, ',')
			}
			to = appendReference(to, entry)
		}
		return append(to, ']'), nil
	default:
		encoded, err := json.Marshal(value)
		return append(to, encoded...), err
	}
}

func appendReference(to []byte, entry reference) []byte {
	to = append(to, `{"name":`...)
	to = appendText(to, entry.Name)
	return append(to, '}')
}

// appendText appends a string. Invalid UTF-8 in it is replaced, as encoding/json does.
func appendText(to []byte, text string) []byte {
	to, _ = jsontext.AppendQuote(to, text)
	return to
}
