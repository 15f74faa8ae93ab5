package pullsecret

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var listPathForTest = field.NewPath("spec", "namespaces")

func TestParseSelector(t *testing.T) {
	for name, test := range map[string]struct {
		list  string
		all   bool
		names []string
		says  []string
	}{
		"a star selects everything":              {list: "*", all: true},
		"blank selects everything":               {list: "", all: true},
		"blanks select everything":               {list: " \t\n", all: true},
		"a star between blanks too":              {list: " * ", all: true},
		"names are trimmed and sorted":           {list: " b,a ,\tc", names: []string{"a", "b", "c"}},
		"one name":                               {list: "a", names: []string{"a"}},
		"an empty entry":                         {list: "a,,b", says: []string{"must not hold an empty entry"}},
		"only commas":                            {list: ",,", says: []string{"empty entry", "empty entry", "empty entry"}},
		"a star among names":                     {list: "a,*", says: []string{`must be "*" alone`}},
		"a pattern":                              {list: "team-*", says: []string{"patterns are not supported"}},
		"a regular expression":                   {list: "^a.+$", says: []string{"patterns are not supported"}},
		"upper case":                             {list: "Team", says: []string{"lower case"}},
		"a duplicate":                            {list: "a,b, a", says: []string{`Duplicate value: "a"`}},
		"each mistake is told":                   {list: "A,,b,b", says: []string{`"A"`, "empty entry", `Duplicate value: "b"`}},
		"a name of 63 characters":                {list: strings.Repeat("a", 63), names: []string{strings.Repeat("a", 63)}},
		"a name of 64 characters":                {list: strings.Repeat("a", 64), says: []string{"no more than 63"}},
		"a line break is a blank":                {list: "a,\nb", names: []string{"a", "b"}},
		"a non-breaking space belongs to a name": {list: "a,\u00a0b", says: []string{"must be an exact namespace name"}},
	} {
		t.Run(name, func(t *testing.T) {
			selector, errs := parseSelector(listPathForTest, test.list, namespaceNames)
			require.Len(t, errs, len(test.says), "%v", errs)
			for i, says := range test.says {
				assert.Contains(t, errs[i].Error(), says)
				assert.Equal(t, "spec.namespaces", errs[i].Field)
			}
			assert.Equal(t, test.all, selector.All())
			assert.Equal(t, test.names, selector.Names())
		})
	}
	t.Run("ten mistakes are enough", func(t *testing.T) {
		_, errs := parseSelector(listPathForTest, strings.Repeat("A,", 1000)+"a", namespaceNames)
		assert.Len(t, errs, maxErrors)
	})
}

func TestSelectorIntersects(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"*", "*", true}, {"*", "a", true}, {"a", "*", true}, {"a,b", "b,c", true}, {"a", "b", false},
	} {
		a, _ := parseSelector(listPathForTest, test.a, namespaceNames)
		b, _ := parseSelector(listPathForTest, test.b, namespaceNames)
		assert.Equal(t, test.want, a.Intersects(b), "%s and %s", test.a, test.b)
		assert.Equal(t, test.want, b.Intersects(a), "%s and %s", test.b, test.a)
	}
	everything, _ := parseSelector(listPathForTest, "*", namespaceNames)
	assert.False(t, Selector{}.Intersects(everything), "the zero selector selects nothing")
}

// FuzzParseSelector holds the laws of a list whatever is written in it: no panic, errors or a selector but not both, and
// what is selected is what is written.
func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"", "*", "a", " a , b ", "a,,b", "*,a", "team-*", "a,a", "A", "\x00", "a\u00a0,b",
		strings.Repeat("a,", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		for _, kind := range []nameKind{namespaceNames, serviceAccountNames} {
			selector, errs := parseSelector(listPathForTest, list, kind)
			if len(errs) > 0 {
				assert.Equal(t, Selector{}, selector, "a bad list selects nothing")
				continue
			}
			if selector.All() {
				assert.Contains(t, []string{"", "*"}, strings.Trim(list, blanks))
				continue
			}
			for _, name := range selector.Names() {
				assert.Contains(t, list, name)
				assert.True(t, selector.Matches(name))
				assert.Empty(t, kind.check(name))
			}
			again, errs := parseSelector(listPathForTest, strings.Join(selector.Names(), ","), kind)
			assert.Empty(t, errs)
			assert.Equal(t, selector, again, "a selector that is written out means the same")
		}
	})
}
