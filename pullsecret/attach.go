package pullsecret

import (
	"slices"
	"strconv"

	"gomodules.xyz/jsonpatch/v2"
)

// listPath is where a ServiceAccount lists its pull secrets. That list is atomic: to apply or to merge it is to claim
// every entry in it, so it is only ever edited entry by entry, by JSON patch (RFC 6902).
const listPath = "/imagePullSecrets"

// reference is an entry of that list.
type reference struct {
	Name string `json:"name"`
}

// Among returns a function that reports whether a name is one of these, at a cost that does not depend on how many they are:
// a list may be as long as an object is large.
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

// Attach returns the JSON patch that appends the names of wanted that a list lacks, and those names; nil where it lacks
// none. Entries that are there keep their place. present tells a list, even an empty one, from no list at all.
func Attach(list []string, present bool, wanted []string) (patch []jsonpatch.Operation, missing []string) {
	var entries []reference
	contains := func(name string) bool { return slices.Contains(list, name) }
	if len(wanted) > 8 { // for a few names a set is not worth its making
		contains = Among(list)
	}
	for _, name := range wanted {
		if !contains(name) {
			missing = append(missing, name)
			entries = append(entries, reference{Name: name})
		}
	}
	if !present && len(entries) > 0 {
		return []jsonpatch.Operation{{Operation: "add", Path: listPath, Value: entries}}, missing
	}
	for _, entry := range entries {
		patch = append(patch, jsonpatch.Operation{Operation: "add", Path: listPath + "/-", Value: entry})
	}
	return patch, missing
}

// Detach returns the JSON patch that removes every entry that unwanted names, and the list that is left. It removes the
// last one first, so that each index still means what it meant when the patch was planned.
func Detach(list []string, unwanted func(name string) bool) (patch []jsonpatch.Operation, left []string) {
	for i, name := range slices.Backward(list) {
		if unwanted(name) {
			patch = append(patch, jsonpatch.Operation{Operation: "remove", Path: listPath + "/" + strconv.Itoa(i)})
			continue
		}
		left = append(left, name)
	}
	slices.Reverse(left)
	return patch, left
}
