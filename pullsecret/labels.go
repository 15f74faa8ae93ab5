package pullsecret

import (
	"iter"
	"slices"
	"strings"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// OptOut is what an object's label says about keeping it out.
type OptOut uint8

// What the label may say.
const (
	NotOptedOut OptOut = iota
	OptedOut
	OddOptOut // neither "true" nor "false": it keeps nothing out, and was probably meant to
)

// OptOutOf returns what an object's labels say.
func OptOutOf(labels map[string]string) OptOut {
	switch value, found := labels[v1.OptOutLabel]; {
	case value == v1.OptOutValue:
		return OptedOut
	case found && value != v1.OptInValue:
		return OddOptOut
	}
	return NotOptedOut
}

// Labels are the labels of a namespace, packed: ten thousand namespaces may have twenty each. The zero value means that they are not
// known, which is not the same as none.
type Labels struct {
	lines string // "\n", and then "key=value\n" for each, in order. No label holds "\n" or a second "="
}

// Unlabelled are the labels of a namespace that has none.
var Unlabelled = Labels{"\n"}

// PackLabels packs labels that are known.
func PackLabels(labels map[string]string) Labels {
	if len(labels) == 0 {
		return Unlabelled
	}
	lines, size := make([]string, 0, len(labels)), 1
	for key, value := range labels {
		lines = append(lines, pair(key, value))
		size += len(key) + len(value) + 2
	}
	slices.Sort(lines)
	var packed strings.Builder
	packed.Grow(size)
	packed.WriteByte('\n')
	for _, line := range lines {
		packed.WriteString(line)
		packed.WriteByte('\n')
	}
	return Labels{packed.String()}
}

// pair returns a label in the form under which rules are filed.
func pair(key, value string) string { return key + "=" + value }

// isPair tells a label from the name of a namespace, which holds no "=".
func isPair(key string) bool { return strings.Contains(key, "=") }

// Known reports whether the labels are known.
func (l Labels) Known() bool { return l.lines != "" }

// Get returns the value of the label with that key, and whether there is one.
func (l Labels) Get(key string) (value string, found bool) {
	for line := range l.pairs() {
		if name, value, _ := strings.Cut(line, "="); name == key {
			return value, true
		}
	}
	return "", false
}

// pairs yields each label as "key=value".
func (l Labels) pairs() iter.Seq[string] {
	return func(yield func(string) bool) {
		rest := strings.TrimPrefix(l.lines, "\n")
		for rest != "" {
			line, more, _ := strings.Cut(rest, "\n")
			if !yield(line) {
				return
			}
			rest = more
		}
	}
}

// meet reports whether labels meet all requirements. A requirement with an unknown operator is never met.
func (l Labels) meet(requirements []v1.DerivedRequirement) bool {
	for i := range requirements {
		requirement := &requirements[i]
		value, found := l.Get(requirement.Key)
		holds := false
		switch v1.LabelOperator(requirement.Operator) {
		case v1.OperatorIn:
			holds = found && slices.Contains(requirement.Values, value)
		case v1.OperatorNotIn:
			holds = !found || !slices.Contains(requirement.Values, value)
		case v1.OperatorExists:
			holds = found
		case v1.OperatorDoesNotExist:
			holds = !found
		}
		if !holds {
			return false
		}
	}
	return true
}
