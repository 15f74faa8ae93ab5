package pullsecret

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Namespaces are the namespaces that a rule selects: those that it names, and those that it matches, except those that it excludes.
type Namespaces struct {
	// named are the names, without the excluded ones; or every name, if none is excluded.
	named Selector
	// matching is nil where the rule selects only by names.
	matching *matching
}

// matching selects the namespaces whose labels meet all requirements and that are not excluded. There may be no requirements.
type matching struct {
	requirements []v1.DerivedRequirement
	excluded     []string // sorted
	// pairs are labels, each as "key=value": every namespace that is selected has one of them. They are nil if there are no such labels.
	pairs []string
}

// Named returns the namespaces that a selector selects by their names.
func Named(names Selector) Namespaces { return Namespaces{named: names} }

// Names returns the names that are given, in alphabetical order. They must not be changed.
func (n Namespaces) Names() []string { return n.named.names }

// OnlyNames returns the names that are given, and whether no other namespace can be selected.
func (n Namespaces) OnlyNames() (names []string, only bool) {
	return n.named.names, n.matching == nil && !n.named.all
}

// All reports whether every namespace is selected, whatever its name and labels are.
func (n Namespaces) All() bool { return n.named.All() }

// Labelled reports whether labels decide.
func (n Namespaces) Labelled() bool { return n.matching != nil && len(n.matching.requirements) > 0 }

// Selects reports whether a namespace with these labels is selected, and whether that is known: it is not if labels decide and they are
// not known.
func (n Namespaces) Selects(namespace string, labels Labels) (selected, known bool) {
	switch {
	case n.named.Matches(namespace):
		return true, true
	case n.matching == nil || n.excludes(namespace):
		return false, true
	case len(n.matching.requirements) == 0:
		return true, true
	case !labels.Known():
		return false, false
	}
	return labels.meet(n.matching.requirements), true
}

func (n Namespaces) excludes(namespace string) bool {
	if n.matching == nil {
		return false
	}
	_, excluded := slices.BinarySearch(n.matching.excluded, namespace)
	return excluded
}

// matches reports whether a namespace is known to be selected by something other than its name.
func (n Namespaces) matches(namespace string, labels Labels) bool {
	selected, _ := Namespaces{matching: n.matching}.Selects(namespace, labels)
	return selected
}

// Intersects reports whether some namespace could be selected by both. Since labels change, they could select any namespace that is
// not excluded.
func (n Namespaces) Intersects(other Namespaces) bool {
	if n.matching != nil && (other.matching != nil || other.named.reaches(n)) || other.matching != nil && n.named.reaches(other) {
		return true
	}
	return n.named.Intersects(other.named)
}

// always returns what is selected whatever the labels are.
func (n Namespaces) always() Namespaces {
	if n.Labelled() {
		return Named(n.named)
	}
	return n
}

// reaches reports whether the names include one that could be matched.
func (s Selector) reaches(by Namespaces) bool {
	return s.all || slices.ContainsFunc(s.names, func(name string) bool { return !by.excludes(name) })
}

// filed returns the keys under which a rule is filed: the names of namespaces, and the labels in pairs.
func (n Namespaces) filed() []string {
	if n.matching == nil || len(n.matching.pairs) == 0 {
		return n.named.names
	}
	return slices.Concat(n.named.names, n.matching.pairs)
}

// Where these keys do not lead to a rule, it is also in a list: everywhere, of the rules that select every namespace; or selecting, of
// the rules that must be evaluated for each namespace.
func (n Namespaces) everywhere() bool { return n.named.All() }
func (n Namespaces) selecting() bool  { return n.matching != nil && len(n.matching.pairs) == 0 }
func (n Namespaces) listed() bool     { return n.everywhere() || n.selecting() }

// asked returns the conditions for a namespace that is not named.
func (n Namespaces) asked() (requirements []v1.DerivedRequirement, excluded []string) {
	if n.matching == nil {
		return nil, nil
	}
	return n.matching.requirements, n.matching.excluded
}

// equalAsked reports whether both have the same conditions for a namespace that is not named.
func (n Namespaces) equalAsked(other Namespaces) bool {
	requirements, excluded := n.asked()
	others, otherwise := other.asked()
	return slices.Equal(excluded, otherwise) && slices.EqualFunc(requirements, others, func(a, b v1.DerivedRequirement) bool {
		return a.Key == b.Key && a.Operator == b.Operator && slices.Equal(a.Values, b.Values)
	})
}

// How long the lists of a selection may be. The CRD has the same bounds.
const (
	MaxExcluded         = 1024 // of excludedNamespaces
	MaxMatchLabels      = 64
	MaxMatchExpressions = 32
	MaxValues           = 256 // of one expression
)

// parseNamespaces parses which namespaces a spec selects. Every mistake is an error of its own.
func parseNamespaces(path *field.Path, spec *v1.ImagePullSecretSpec) (Namespaces, field.ErrorList) {
	named, errs := parseSelector(path.Child("namespaces"), spec.Namespaces, namespaceNames)
	selector := spec.NamespaceSelector
	if selector != nil && strings.Trim(spec.Namespaces, blanks) == everything {
		errs = append(errs, field.Invalid(path.Child("namespaces"), everything,
			`must not be "*" beside spec.namespaceSelector, which would select nothing more: leave it blank for what the selector selects, or `+
				`write the exact names of further namespaces`))
	}
	excluded, more := parseExcluded(path.Child("excludedNamespaces"), spec.ExcludedNamespaces)
	errs = append(errs, more...)
	requirements, more := parseRequirements(path.Child("namespaceSelector"), selector)
	errs = append(errs, more...)
	switch {
	case len(errs) > 0:
		return Namespaces{}, errs
	case selector == nil && len(excluded) == 0, selector != nil && len(requirements) == 0 && len(excluded) == 0:
		if selector != nil {
			named = Everything
		}
		return Named(named), nil
	case selector == nil && !named.all:
		return Named(named.without(excluded)), nil
	}
	if named.all {
		named = Selector{} // blank with a selector; or all except some, which matching expresses
	}
	return Namespaces{named.without(excluded), &matching{requirements, excluded, pairsOf(requirements)}}, nil
}

func (s Selector) without(names []string) Selector {
	excluded := Among(names)
	s.names = slices.DeleteFunc(s.names, excluded)
	return s
}

func parseExcluded(path *field.Path, names []v1.NamespaceName) ([]string, field.ErrorList) {
	if len(names) > MaxExcluded {
		return nil, field.ErrorList{field.TooMany(path, len(names), MaxExcluded)}
	}
	var errs field.ErrorList
	excluded := map[string]bool{}
	for i, name := range names {
		name := string(name)
		if problem := namespaceNames.problem(name); problem != "" {
			if name == "" || name == everything {
				problem = "must be an exact namespace name: patterns are not supported"
			}
			errs = append(errs, field.Invalid(path.Index(i), quoted(name), problem))
		} else if excluded[name] {
			errs = append(errs, field.Duplicate(path.Index(i), name))
		}
		excluded[name] = true
		if len(errs) == maxErrors {
			break
		}
	}
	return slices.Sorted(maps.Keys(excluded)), errs
}

// parseRequirements parses a selector. Equal selectors give equal requirements, in whatever order they are written.
func parseRequirements(path *field.Path, selector *v1.LabelSelector) ([]v1.DerivedRequirement, field.ErrorList) {
	if selector == nil {
		return nil, nil
	}
	var requirements []v1.DerivedRequirement
	var errs field.ErrorList
	labels, expressions := path.Child("matchLabels"), path.Child("matchExpressions")
	if len(selector.MatchLabels) > MaxMatchLabels {
		return nil, field.ErrorList{field.TooMany(labels, len(selector.MatchLabels), MaxMatchLabels)}
	}
	if len(selector.MatchExpressions) > MaxMatchExpressions {
		return nil, field.ErrorList{field.TooMany(expressions, len(selector.MatchExpressions), MaxMatchExpressions)}
	}
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		value := selector.MatchLabels[key]
		errs = append(errs, checkLabelKey(labels, key)...)
		errs = append(errs, checkLabelValue(labels.Key(quoted(key)), value)...)
		requirements = append(requirements, v1.DerivedRequirement{
			Key: key, Operator: string(v1.OperatorIn), Values: []string{string(value)},
		})
	}
	for i, expression := range selector.MatchExpressions {
		requirement, more := parseRequirement(expressions.Index(i), expression)
		requirements, errs = append(requirements, requirement), append(errs, more...)
	}
	slices.SortStableFunc(requirements, func(a, b v1.DerivedRequirement) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Operator, b.Operator), slices.Compare(a.Values, b.Values))
	})
	return requirements, errs[:min(len(errs), maxErrors)]
}

func parseRequirement(path *field.Path, expression v1.LabelRequirement) (v1.DerivedRequirement, field.ErrorList) {
	requirement := v1.DerivedRequirement{Key: string(expression.Key), Operator: string(expression.Operator)}
	errs := checkLabelKey(path.Child("key"), requirement.Key)
	values := path.Child("values")
	switch expression.Operator {
	case v1.OperatorIn, v1.OperatorNotIn, v1.OperatorExists, v1.OperatorDoesNotExist:
		compares := expression.Operator == v1.OperatorIn || expression.Operator == v1.OperatorNotIn
		if compares != (len(expression.Values) > 0) {
			errs = append(errs, field.Invalid(values, len(expression.Values),
				"must have values for the operators In and NotIn, and none for Exists and DoesNotExist"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("operator"), v1.LabelOperator(quoted(requirement.Operator)),
			[]v1.LabelOperator{v1.OperatorIn, v1.OperatorNotIn, v1.OperatorExists, v1.OperatorDoesNotExist}))
	}
	if len(expression.Values) > MaxValues {
		return requirement, append(errs, field.TooMany(values, len(expression.Values), MaxValues))
	}
	for i, value := range expression.Values {
		errs = append(errs, checkLabelValue(values.Index(i), value)...)
		requirement.Values = append(requirement.Values, string(value))
	}
	slices.Sort(requirement.Values)
	requirement.Values = slices.Compact(requirement.Values)
	return requirement, errs
}

func checkLabelKey(path *field.Path, key string) field.ErrorList {
	if problems := validation.IsQualifiedName(key); len(problems) > 0 {
		return field.ErrorList{field.Invalid(path, quoted(key), "must be the key of a label: "+strings.Join(problems, "; "))}
	}
	return nil
}

func checkLabelValue(path *field.Path, value v1.LabelValue) field.ErrorList {
	if problems := validation.IsValidLabelValue(string(value)); len(problems) > 0 {
		return field.ErrorList{field.Invalid(path, quoted(string(value)),
			fmt.Sprintf("must be the value of a label: %s", strings.Join(problems, "; ")))}
	}
	return nil
}

// pairsOf returns the labels, each as "key=value", under which a rule with these requirements is filed: every namespace that meets
// them has one of these labels. They come from the requirement with the fewest values and, among equals, with the longest value. It
// is likely to apply to the fewest namespaces: team=payments-europe rather than env=prod.
func pairsOf(requirements []v1.DerivedRequirement) (pairs []string) {
	var best *v1.DerivedRequirement
	for i := range requirements {
		one := &requirements[i]
		if one.Operator != string(v1.OperatorIn) {
			continue
		}
		if best == nil || len(one.Values) < len(best.Values) ||
			len(one.Values) == len(best.Values) && longest(one.Values) > longest(best.Values) {
			best = one
		}
	}
	if best == nil {
		return nil
	}
	for _, value := range best.Values {
		pairs = append(pairs, pair(best.Key, value))
	}
	return pairs
}

func longest(values []string) (length int) {
	for _, value := range values {
		length = max(length, len(value))
	}
	return length
}
