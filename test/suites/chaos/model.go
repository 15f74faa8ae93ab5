package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// What the user has names for. That of a namespace begins with the seed's, so that the next seed does not wait for its end.
var (
	namespaceLetters = []string{"a", "b", "c", "d", "e", "f"}
	accountNames     = []string{"default", "builder", "runner"}
	objectNames      = []string{"red", "green", "blue"} // of ImagePullSecrets
	foreignSecrets   = []string{"theirs", "other"}
	foreignEntries   = []string{"theirs", "other", "zz-absent"}
)

// alien is a Secret that bears a name like ours and that no ImagePullSecret accounts for: its entries stay.
const alien = prefix + "alien"

// prefix begins the names of the Secrets that the product issues.
const prefix = "tcr.ips"

// unreadable marks what no ImagePullSecret may hold.
const unreadable = "*,not_a_name"

// model is what the user has made and what must be left of it.
type model struct {
	seed       uint64
	namespaces map[string]*namespaceModel // those that are not being deleted
	invalid    map[string]bool            // ImagePullSecrets, and whether they are invalid now
	selected   map[string]string          // the namespaces that they select, or did while they were valid
	passwords  int
	undone     map[string]int // how often the user undid what was written, by object
	ended      map[string]int // when a namespace was deleted, in steps
}

type namespaceModel struct {
	accounts map[string][]string // their foreign entries, in their order
	foreign  map[string]string   // Secrets of other names than ours, by name: their content
	squatted map[string]bool     // names of ours under which the user wrote, or took the mark from, a Secret
}

func newModel(seed uint64) *model {
	return &model{seed: seed, namespaces: map[string]*namespaceModel{}, invalid: map[string]bool{}, selected: map[string]string{},
		undone: map[string]int{}, ended: map[string]int{}}
}

func (m *model) namespace(letter string) string { return fmt.Sprintf("chaos-%d-%s", m.seed, letter) }

// one returns one of several.
func one[T any](random *rand.Rand, of []T) T { return of[random.IntN(len(of))] }

// some returns several of several in some order, at least one.
func some(random *rand.Rand, of []string) []string {
	all := slices.Clone(of)
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+random.IntN(len(all))]
}

func sorted[T any](of map[string]T) []string { return slices.Sorted(maps.Keys(of)) }

// namespaceList draws the namespaces that an ImagePullSecret selects, as users write them.
func (m *model) namespaceList(random *rand.Rand) string {
	switch random.IntN(12) {
	case 0:
		return "*"
	case 1:
		return " "
	default:
		var names []string
		for _, letter := range some(random, append([]string{"never"}, namespaceLetters...)) {
			names = append(names, m.namespace(letter))
		}
		return strings.Join(names, one(random, []string{",", " , ", ",\t"}))
	}
}

func (m *model) accountList(random *rand.Rand) string {
	if random.IntN(2) == 0 {
		return one(random, []string{"*", ""})
	}
	return strings.Join(some(random, accountNames), ", ")
}

// password draws nothing, and returns one that was never there before.
func (m *model) password() string {
	m.passwords++
	return fmt.Sprintf("chaos-secret-%d-%d", m.seed, m.passwords)
}

// mayUndo counts, and reports whether the user may still undo what is written to an object: who does it too often is slowed
// down, which is another test's business.
func (m *model) mayUndo(object string) bool {
	m.undone[object]++
	return m.undone[object] <= 5
}
