package pullsecret

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestOneCredentialForSeveralServers(t *testing.T) {
	config := Render(v1.DockerCredential{Username: "robot", Password: "p", Server: "r.example.com",
		AdditionalServers: []string{"r-vpc.example.com", "a.example.com"}})
	assert.JSONEq(t, `{"auths":{
		"r.example.com":{"username":"robot","password":"p","auth":"cm9ib3Q6cA=="},
		"r-vpc.example.com":{"username":"robot","password":"p","auth":"cm9ib3Q6cA=="},
		"a.example.com":{"username":"robot","password":"p","auth":"cm9ib3Q6cA=="}}}`, string(config))
}

func TestSizeIsKnownBeforeItIsRendered(t *testing.T) {
	for _, credential := range []v1.DockerCredential{
		{Username: "u", Password: "p", Server: "r"},
		{Username: "ü\"", Password: strings.Repeat("<\n", 1000), Server: "r.example.com:5000"},
		{Username: "u", Password: "four", Server: "[::1]:5000", AdditionalServers: []string{"a", "bc", "d.e"}},
	} {
		assert.Equal(t, len(Render(credential)), renderedSize(credential))
	}
}

// referring returns an ImagePullSecret whose credential stands in a Secret.
func referring(reference string, generation int64, servers ...string) *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{}
	object.Name, object.UID, object.Generation = "a", "1", generation
	object.Spec.Docker = v1.DockerCredential{SecretRef: &v1.SecretReference{Name: reference}, Server: servers[0],
		AdditionalServers: servers[1:]}
	return object
}

func TestCredentialsAreSupplied(t *testing.T) {
	start := func(t *testing.T) (index *Index, changes *[]Change) {
		index, changes = NewIndex(), &[]Change{}
		index.Put(referring("ref", 1, "r"))
		rule := index.Rules().Get("a")
		require.NotNil(t, rule)
		assert.False(t, rule.Known())
		assert.Equal(t, []string{"tcr.ipsa"}, index.Secrets("n", nil, "x"), "whom it selects does not depend on it")
		index.Observe(func(c Change) { *changes = append(*changes, c) })
		index.Supply(map[*Rule]Credential{rule: {Config: []byte("c1")}})
		return index, changes
	}
	t.Run("a rule gets its credential, and observers hear of it", func(t *testing.T) {
		index, changes := start(t)
		rule := index.Rules().Get("a")
		assert.True(t, rule.Known())
		assert.Equal(t, "c1", string(rule.Config))
		require.Len(t, *changes, 1)
		assert.Same(t, rule, (*changes)[0].After)
		index.Supply(map[*Rule]Credential{rule: {Config: []byte("c1")}})
		assert.Len(t, *changes, 1, "the same one is no news")
		index.Put(referring("ref", 1, "r"))
		assert.Len(t, *changes, 1, "nor is the ImagePullSecret as it was")
	})
	t.Run("one that cannot be read any more is not known any more", func(t *testing.T) {
		index, _ := start(t)
		index.Supply(map[*Rule]Credential{index.Rules().Get("a"): {Unread: &Unread{Reason: "SecretMissing"}}})
		rule := index.Rules().Get("a")
		assert.False(t, rule.Known())
		assert.Zero(t, rule.Sum)
		assert.Equal(t, "SecretMissing", rule.Unread.Reason)
		assert.Equal(t, []string{"tcr.ipsa"}, index.Secrets("n", nil, "x"))
	})
	t.Run("what was found for a rule of before counts for nothing", func(t *testing.T) {
		index, _ := start(t)
		before := index.Rules().Get("a")
		index.Put(referring("ref", 2, "another"))
		index.Supply(map[*Rule]Credential{before: {Config: []byte("c2")}})
		assert.False(t, index.Rules().Get("a").Known(), "it is for another server")
		index.Remove("a")
		index.Supply(map[*Rule]Credential{before: {Config: []byte("c2")}})
		assert.Nil(t, index.Rules().Get("a"))
	})
	t.Run("what was found for a rule counts for the one that replaced it meanwhile, if that refers to the same", func(t *testing.T) {
		index, changes := start(t)
		before := index.Rules().Get("a")
		narrowed := referring("ref", 2, "r")
		narrowed.Spec.Namespaces = "x"
		index.Put(narrowed)
		index.Supply(map[*Rule]Credential{before: {Config: []byte("c2")}})
		rule := index.Rules().Get("a")
		assert.Equal(t, "c2", string(rule.Config), "nobody would tell of it again")
		assert.Equal(t, []string{"x"}, rule.Namespaces.Names())
		assert.Len(t, *changes, 3)
		index.Supply(map[*Rule]Credential{before: {Unread: &Unread{Reason: "SecretMissing"}}})
		require.NotNil(t, index.Rules().Get("a").Unread)
		index.Put(narrowed)
		assert.Len(t, *changes, 4, "the ImagePullSecret is as it was")
	})
	t.Run("another selection keeps the credential, another server, Secret or source does not", func(t *testing.T) {
		index, _ := start(t)
		narrowed := referring("ref", 2, "r")
		narrowed.Spec.Namespaces = "x"
		index.Put(narrowed)
		assert.True(t, index.Rules().Get("a").Known())
		for i, other := range []*v1.ImagePullSecret{referring("other", 3, "r"), referring("ref", 4, "s"), referring("ref", 5, "r", "s")} {
			index.Put(narrowed)
			index.Supply(map[*Rule]Credential{index.Rules().Get("a"): {Config: []byte("c")}})
			index.Put(other)
			assert.False(t, index.Rules().Get("a").Known(), i)
		}
		index.Put(narrowed)
		inline := referring("ref", 6, "r")
		inline.Spec.Docker.SecretRef, inline.Spec.Docker.Username, inline.Spec.Docker.Password = nil, "u", "p"
		index.Put(inline)
		assert.Contains(t, string(index.Rules().Get("a").Config), `"username":"u"`)
		assert.Nil(t, index.Rules().Get("a").Unread)
	})
	t.Run("one that could not be read meanwhile is asked for anew", func(t *testing.T) {
		index, _ := start(t)
		index.Put(referring("ref", 2, "https://r"))
		index.Put(referring("ref", 3, "r"))
		assert.False(t, index.Rules().Get("a").Known(), "nobody followed its Secret")
	})
}

func TestEveryServerIsWarnedOf(t *testing.T) {
	index := NewIndex()
	index.Put(referring("ref", 1, "r", "r-vpc"))
	for _, server := range []string{"r", "r-vpc"} {
		assert.Equal(t, []Source{{Name: "a"}}, index.Sources(server, Named(Everything)))
		assert.Equal(t, []Source{{Name: "a"}}, index.Rules().Attachments().Sources(server, Named(Everything)))
	}
	assert.Empty(t, index.Sources("s", Named(Everything)))
	assert.Empty(t, index.Rules().Attachments().Sources("s", Named(Everything)))
}
