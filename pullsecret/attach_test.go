package pullsecret

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gomodules.xyz/jsonpatch/v2"
	jsonpatchapply "gopkg.in/evanphx/json-patch.v4"
)

func TestAttach(t *testing.T) {
	for name, test := range map[string]struct {
		account string
		wanted  []string
		patch   string
	}{
		"no list":                         {`{}`, []string{"a"}, `[{"op":"add","path":"/imagePullSecrets","value":[{"name":"a"}]}]`},
		"an empty list":                   {`{"imagePullSecrets":[]}`, []string{"a"}, `[{"op":"add","path":"/imagePullSecrets/-","value":{"name":"a"}}]`},
		"no list, several entries":        {`{}`, []string{"a", "b"}, `[{"op":"add","path":"/imagePullSecrets","value":[{"name":"a"},{"name":"b"}]}]`},
		"a foreign entry keeps its place": {`{"imagePullSecrets":[{"name":"x"}]}`, []string{"a", "b"}, `[{"op":"add","path":"/imagePullSecrets/-","value":{"name":"a"}},{"op":"add","path":"/imagePullSecrets/-","value":{"name":"b"}}]`},
		"one of two is there":             {`{"imagePullSecrets":[{"name":"b"},{"name":"x"}]}`, []string{"a", "b"}, `[{"op":"add","path":"/imagePullSecrets/-","value":{"name":"a"}}]`},
		"all are there":                   {`{"imagePullSecrets":[{"name":"b"},{"name":"a"}]}`, []string{"a", "b"}, `null`},
		"nothing is wanted":               {`{}`, nil, `null`},
	} {
		t.Run(name, func(t *testing.T) {
			list, present := read(t, test.account)
			patch, missing, _ := Attach(list, present, test.wanted)
			encoded, err := json.Marshal(patch)
			require.NoError(t, err)
			assert.JSONEq(t, test.patch, string(encoded))
			after, _ := read(t, applied(t, test.account, patch))
			assert.Equal(t, append(slices.Clone(list), missing...), after)
			assertOracle(t, test.account, applied(t, test.account, patch))
		})
	}
}

func TestDetach(t *testing.T) {
	unwanted := func(name string) bool { return strings.HasPrefix(name, "tcr.ips") }
	for name, test := range map[string]struct{ list, left []string }{
		"nothing to remove":             {[]string{"x", "y"}, []string{"x", "y"}},
		"one in the middle":             {[]string{"x", "tcr.ipsa", "y"}, []string{"x", "y"}},
		"several, others keep order":    {[]string{"tcr.ipsa", "x", "tcr.ipsb", "y", "tcr.ipsa"}, []string{"x", "y"}},
		"all":                           {[]string{"tcr.ipsa", "tcr.ipsb"}, nil},
		"no list":                       {nil, nil},
		"an entry without a name stays": {[]string{"", "tcr.ipsa"}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			patch, left, _ := Detach(test.list, unwanted)
			assert.Equal(t, test.left, left)
			var entries []reference
			for _, name := range test.list {
				entries = append(entries, reference{Name: name})
			}
			before, err := json.Marshal(map[string]any{"imagePullSecrets": entries})
			require.NoError(t, err)
			if patch == nil {
				assert.Equal(t, test.list, left)
				return
			}
			after, _ := read(t, applied(t, string(before), patch))
			assert.Equal(t, slices.Clone(test.left), after)
		})
	}
}

// TestAPatchIsWrittenAsItsLibraryWritesIt holds what is appended against what encoding/json makes of the same patch.
func TestAPatchIsWrittenAsItsLibraryWritesIt(t *testing.T) {
	made, _, _ := Attach(nil, false, []string{"a", "b\"<&\u2028ü"})
	added, _, _ := Attach(nil, true, []string{"a", "b\xff"})
	removed, _, _ := Detach([]string{"a", "b"}, func(string) bool { return true })
	for name, patch := range map[string][]jsonpatch.Operation{
		"nothing":         {},
		"a list is made":  made,
		"entries of one":  added,
		"entries go":      removed,
		"other values":    {{Operation: "add", Path: "/a~1b", Value: map[string]any{"c": []int{1, 2}}}, {Operation: "replace", Path: "", Value: "<v>"}},
		"no value at all": {{Operation: "add", Path: "/a"}, {Operation: "replace", Path: "/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			usual, err := json.Marshal(patch)
			require.NoError(t, err)
			written, err := AppendPatch([]byte("before"), patch)
			require.NoError(t, err)
			after, kept := strings.CutPrefix(string(written), "before")
			assert.True(t, kept)
			assert.JSONEq(t, string(usual), after)
		})
	}
	_, err := AppendPatch(nil, []jsonpatch.Operation{{Operation: "add", Value: func() {}}})
	require.Error(t, err, "what is no JSON")
}

// FuzzEdits detaches and attaches at random and holds that foreign entries keep their place and order, that what is wanted
// is there once, and that a second run changes nothing.
func FuzzEdits(f *testing.F) {
	f.Add("x,tcr.ipsa,y", "tcr.ipsb,tcr.ipsc")
	f.Add("", "tcr.ipsa")
	f.Add("tcr.ipsa,tcr.ipsa", "tcr.ipsa")
	f.Fuzz(func(t *testing.T, has, wants string) {
		var list, wanted []string
		for name := range strings.SplitSeq(has, ",") {
			list = append(list, name)
		}
		for name := range strings.SplitSeq(wants, ",") {
			if name = SecretPrefix + name; !slices.Contains(wanted, name) {
				wanted = append(wanted, name)
			}
		}
		foreign := func(list []string) (names []string) {
			for _, name := range list {
				if !strings.HasPrefix(name, SecretPrefix) {
					names = append(names, name)
				}
			}
			return names
		}
		unwanted := func(name string) bool { return strings.HasPrefix(name, SecretPrefix) && !slices.Contains(wanted, name) }
		_, left, _ := Detach(list, unwanted)
		_, missing, _ := Attach(left, true, wanted)
		after := append(slices.Clone(left), missing...)
		assert.Equal(t, foreign(list), foreign(after))
		for _, name := range wanted {
			assert.Contains(t, after, name)
		}
		again, _, _ := Detach(after, unwanted)
		more, _, _ := Attach(after, true, wanted)
		assert.Empty(t, again)
		assert.Empty(t, more, "a second run changes nothing")
	})
}

func read(t *testing.T, account string) (list []string, present bool) {
	t.Helper()
	var object struct{ ImagePullSecrets []reference }
	require.NoError(t, json.Unmarshal([]byte(account), &object))
	for _, entry := range object.ImagePullSecrets {
		list = append(list, entry.Name)
	}
	return list, object.ImagePullSecrets != nil
}

// applied applies the patch with the library that the API server applies it with.
func applied(t *testing.T, account string, patch []jsonpatch.Operation) string {
	t.Helper()
	if patch == nil {
		return account
	}
	encoded, err := json.Marshal(patch)
	require.NoError(t, err)
	decoded, err := jsonpatchapply.DecodePatch(encoded)
	require.NoError(t, err)
	after, err := decoded.Apply([]byte(account))
	require.NoError(t, err, fmt.Sprint(patch))
	return string(after)
}

// assertOracle compares with the patch that a general diff of before and after leads to.
func assertOracle(t *testing.T, before, after string) {
	t.Helper()
	diff, err := jsonpatch.CreatePatch([]byte(before), []byte(after))
	require.NoError(t, err)
	if len(diff) == 0 {
		return
	}
	assert.JSONEq(t, after, applied(t, before, diff))
}
