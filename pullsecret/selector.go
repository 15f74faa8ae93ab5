package pullsecret

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// everything is the list that selects every name. A blank list means the same.
const everything = "*"

// blanks is what may surround an entry of a list; it is what \s means in the CRD's rules.
const blanks = " \t\n\f\r"

// maxList is how long a list may be, in characters. The CRD has the same bound.
const maxList = 262144

// maxErrors is how many bad entries of one list are reported.
const maxErrors = 10

// maxQuoted is how many bytes of a value an error repeats. A single entry may be as long as its list, and escaping makes it several
// times as long.
const maxQuoted = 100

// Selector is a parsed list of names: every name, or just those listed. Its zero value selects nothing.
type Selector struct {
	all   bool
	names []string // sorted: a set of a list's tens of thousands would take three times the memory
}

// Everything selects every name.
var Everything = Selector{all: true}

// Matches reports whether the selector selects name.
func (s Selector) Matches(name string) bool {
	if s.all {
		return true
	}
	_, listed := slices.BinarySearch(s.names, name)
	return listed
}

// All reports whether the selector selects every name.
func (s Selector) All() bool { return s.all }

// Names returns the listed names in alphabetical order; nil for a selector that selects every name. They must not be changed.
func (s Selector) Names() []string { return s.names }

// Intersects reports whether some name could be selected by both.
func (s Selector) Intersects(other Selector) bool {
	if s.all || other.all {
		return (s.all || len(s.names) > 0) && (other.all || len(other.names) > 0)
	}
	for _, name := range s.names {
		if other.Matches(name) {
			return true
		}
	}
	return false
}

// nameKind is what a list's entries name, and the check that the names must pass.
type nameKind struct {
	noun  string
	check func(string) []string
}

var (
	namespaceNames      = nameKind{noun: "namespace", check: validation.IsDNS1123Label}
	serviceAccountNames = nameKind{noun: "service account", check: validation.IsDNS1123Subdomain}
)

// parseSelector parses a comma-separated list. Every bad entry is an error of its own, at path.
func parseSelector(path *field.Path, list string, kind nameKind) (Selector, field.ErrorList) {
	if tooLong(list, maxList) {
		return Selector{}, field.ErrorList{field.TooLong(path, "", maxList)}
	}
	list = strings.Trim(list, blanks)
	if list == "" || list == everything {
		return Selector{all: true}, nil
	}
	names := make(map[string]struct{}, strings.Count(list, ",")+1)
	var errs field.ErrorList
	for entry := range strings.SplitSeq(list, ",") {
		if len(errs) == maxErrors {
			break
		}
		entry = strings.Trim(entry, blanks)
		if problem := kind.problem(entry); problem != "" {
			errs = append(errs, field.Invalid(path, quoted(entry), problem))
			continue
		}
		if _, again := names[entry]; again {
			errs = append(errs, field.Duplicate(path, quoted(entry)))
			continue
		}
		names[entry] = struct{}{}
	}
	if len(errs) > 0 {
		return Selector{}, errs
	}
	return Selector{names: slices.Sorted(maps.Keys(names))}, nil
}

// tooLong reports whether a text has more than most characters.
func tooLong(text string, most int) bool {
	return len(text) > most && utf8.RuneCountInString(text) > most
}

// quoted cuts a value to the length that an error may repeat.
func quoted(value string) string {
	if len(value) <= maxQuoted {
		return value
	}
	end := maxQuoted
	for !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end] + "…"
}

// problem says what is wrong with an entry and what to write instead; "" when nothing is.
func (k nameKind) problem(entry string) string {
	switch {
	case entry == "":
		return fmt.Sprintf("must not hold an empty entry: write exact %s names separated by single \",\"", k.noun)
	case entry == everything:
		return fmt.Sprintf("must be \"*\" alone, or exact %s names: \"*\" cannot stand among names", k.noun)
	case strings.ContainsAny(entry, `*?[](){}^$|+\`):
		return fmt.Sprintf("must be an exact %s name: patterns are not supported; list the names, or write \"*\" alone for all", k.noun)
	}
	if problems := k.check(entry); len(problems) > 0 {
		return fmt.Sprintf("must be an exact %s name: %s", k.noun, strings.Join(problems, "; "))
	}
	return ""
}
