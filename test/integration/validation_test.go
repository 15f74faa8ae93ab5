package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// badSpec is a spec that kubectl create must refuse.
type badSpec struct {
	name string
	// set are fields of the spec, or of the object where the key begins with "/", with nil to leave one out.
	set map[string]any
	// path and says are what the refusal must name and say.
	path, says string
	// webhookOnly tells what the CRD's rules cannot say.
	webhookOnly bool
}

var badSpecs = []badSpec{
	{name: "namespaces: star among names", set: at("namespaces", "a,*"), path: "spec.namespaces", says: `must be "*" alone`},
	{name: "namespaces: two stars", set: at("namespaces", "*,*"), path: "spec.namespaces", says: `must be "*" alone`},
	{name: "namespaces: a pattern", set: at("namespaces", "team-*"), path: "spec.namespaces", says: "patterns are not supported"},
	{name: "namespaces: a question mark", set: at("namespaces", "team-?"), path: "spec.namespaces", says: "patterns are not supported"},
	{name: "namespaces: a regular expression", set: at("namespaces", "^team-[a-z]+$"), path: "spec.namespaces", says: "patterns are not supported"},
	{name: "namespaces: an empty entry between", set: at("namespaces", "a,,b"), path: "spec.namespaces", says: "must not hold an empty entry"},
	{name: "namespaces: an empty entry in front", set: at("namespaces", ",a"), path: "spec.namespaces", says: "must not hold an empty entry"},
	{name: "namespaces: an empty entry at the end", set: at("namespaces", "a,"), path: "spec.namespaces", says: "must not hold an empty entry"},
	{name: "namespaces: a blank entry", set: at("namespaces", "a, ,b"), path: "spec.namespaces", says: "must not hold an empty entry"},
	{name: "namespaces: only a comma", set: at("namespaces", ","), path: "spec.namespaces", says: "must not hold an empty entry"},
	{name: "namespaces: upper case", set: at("namespaces", "Team"), path: "spec.namespaces", says: "lower case"},
	{name: "namespaces: an underscore", set: at("namespaces", "my_team"), path: "spec.namespaces", says: "lower case letters, digits"},
	{name: "namespaces: a dot", set: at("namespaces", "my.team"), path: "spec.namespaces", says: "lower case letters, digits"},
	{name: "namespaces: a dash at the end", set: at("namespaces", "team-"), path: "spec.namespaces", says: "ending with a letter or digit"},
	{name: "namespaces: blanks instead of commas", set: at("namespaces", "a b"), path: "spec.namespaces", says: "must hold exact namespace names"},
	{name: "namespaces: semicolons", set: at("namespaces", "a;b"), path: "spec.namespaces", says: `separated by ","`},
	{name: "namespaces: 64 characters", set: at("namespaces", strings.Repeat("a", 64)), path: "spec.namespaces", says: "at most 63"},
	{name: "namespaces: a duplicate", set: at("namespaces", "a,b,a"), path: "spec.namespaces", says: `Duplicate value: "a"`, webhookOnly: true},
	{name: "namespaces: a duplicate behind blanks", set: at("namespaces", "a, a"), path: "spec.namespaces", says: `Duplicate value: "a"`, webhookOnly: true},
	{name: "namespaces: a number", set: at("namespaces", 7), path: "spec.namespaces", says: `must be of type string`},
	{name: "namespaces: a list", set: at("namespaces", []string{"a"}), path: "spec.namespaces", says: `must be of type string`},
	{name: "serviceAccounts: star among names", set: at("serviceAccounts", "*,a"), path: "spec.serviceAccounts", says: `must be "*" alone`},
	{name: "serviceAccounts: a pattern", set: at("serviceAccounts", "build-*"), path: "spec.serviceAccounts", says: "patterns are not supported"},
	{name: "serviceAccounts: an empty entry", set: at("serviceAccounts", "a,,b"), path: "spec.serviceAccounts", says: "must not hold an empty entry"},
	{name: "serviceAccounts: upper case", set: at("serviceAccounts", "Builder"), path: "spec.serviceAccounts", says: "lower case"},
	{name: "serviceAccounts: two dots", set: at("serviceAccounts", "a..b"), path: "spec.serviceAccounts", says: "must hold exact service account names"},
	{name: "serviceAccounts: 254 characters", set: at("serviceAccounts", strings.Repeat("a", 254)), path: "spec.serviceAccounts", says: "at most 253"},
	{name: "serviceAccounts: a duplicate", set: at("serviceAccounts", "a,a"), path: "spec.serviceAccounts", says: `Duplicate value: "a"`, webhookOnly: true},
	{name: "server: empty", set: at("server", ""), path: "spec.docker.server", says: "write the registry's host"},
	{name: "server: absent", set: at("server", nil), path: "spec.docker.server", says: "Required value"},
	{name: "server: a scheme", set: at("server", "https://registry.example.com"), path: "spec.docker.server", says: "without a scheme"},
	{name: "server: a path", set: at("server", "registry.example.com/team"), path: "spec.docker.server", says: "without a path"},
	{name: "server: user info", set: at("server", "robot@registry.example.com"), path: "spec.docker.server", says: "without user info"},
	{name: "server: a blank", set: at("server", "registry .example.com"), path: "spec.docker.server", says: "without blanks"},
	{name: "server: a blank at the end", set: at("server", "registry.example.com "), path: "spec.docker.server", says: "without blanks"},
	{name: "server: a pattern", set: at("server", "*.example.com"), path: "spec.docker.server", says: "patterns"},
	{name: "server: port 0", set: at("server", "registry.example.com:0"), path: "spec.docker.server", says: "port from 1 to 65535"},
	{name: "server: port 65536", set: at("server", "registry.example.com:65536"), path: "spec.docker.server", says: "port from 1 to 65535"},
	{name: "server: a port that is no number", set: at("server", "registry.example.com:https"), path: "spec.docker.server", says: "port from 1 to 65535"},
	{name: "server: a colon without a port", set: at("server", "registry.example.com:"), path: "spec.docker.server", says: "port from 1 to 65535"},
	{name: "username: empty", set: at("username", ""), path: "spec.docker.username", says: "write the registry's user name"},
	{name: "username: blank", set: at("username", "  "), path: "spec.docker.username", says: "write the registry's user name"},
	{name: "username: a colon", set: at("username", "robot:secret-in-username"), path: "spec.docker.username", says: `must not hold ":"`},
	{name: "username: absent", set: at("username", nil), path: "spec.docker.username", says: "Required value"},
	{name: "password: empty", set: at("password", ""), path: "spec.docker.password", says: "write the registry's password or token"},
	{name: "password: absent", set: at("password", nil), path: "spec.docker.password", says: "Required value"},
	{name: "docker: absent", set: at("docker", nil), path: "spec.docker", says: "Required value"},
	{name: "metadata.name: 247 characters", set: at("/name", strings.Repeat("a", 247)), path: "", says: "must be at most 246 characters"},
	{name: "an unknown field", set: at("serviceaccounts", "a"), path: "spec.serviceaccounts", says: "strict decoding error: unknown field"},
	{name: "an unknown field of docker", set: at("user", "a"), path: "spec.user", says: "strict decoding error: unknown field"},
}

func at(field string, value any) map[string]any { return map[string]any{field: value} }

// manifest is the sample with some fields set otherwise.
func manifest(t *testing.T, name string, set map[string]any) string {
	t.Helper()
	docker := map[string]any{"username": "robot", "password": "never-to-be-shown", "server": "registry.example.com"}
	spec := map[string]any{"namespaces": "*", "serviceAccounts": "*", "docker": docker}
	metadata := map[string]any{"name": name}
	for field, value := range set {
		object := spec
		if _, ofDocker := docker[field]; ofDocker {
			object = docker
		}
		if rest, ofMetadata := strings.CutPrefix(field, "/"); ofMetadata {
			object, field = metadata, rest
		}
		if value == nil {
			delete(object, field)
			continue
		}
		object[field] = value
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "tcr.tencentcloudcr.com/v1", "kind": "ImagePullSecret", "metadata": metadata, "spec": spec,
	})
	require.NoError(t, err)
	return string(text)
}

func TestBadSpecsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	refuse := func(t *testing.T, bad badSpec) {
		stderr, err := w.Pipe(manifest(t, "bad", bad.set), "create", "-f", "-")
		require.Error(t, err, "it was accepted")
		assert.Contains(t, stderr, bad.path)
		assert.Contains(t, stderr, bad.says)
		assert.NotContains(t, stderr, "never-to-be-shown")
		assert.NotContains(t, stderr, "secret-in-username")
	}
	for _, bad := range badSpecs {
		t.Run(bad.name, func(t *testing.T) { refuse(t, bad) })
	}
	t.Run("an edit is refused like a creation", func(t *testing.T) {
		w.Create("edited")
		stderr, err := w.Pipe("", "patch", "ipss", "edited", "--type=merge", "-p", `{"spec":{"namespaces":"a,a"}}`)
		require.Error(t, err)
		assert.Contains(t, stderr, `spec.namespaces: Duplicate value: "a"`)
	})
	t.Run("two that give one server different credentials are warned of", func(t *testing.T) {
		stderr, err := w.Pipe(manifest(t, "rival-1", nil), "create", "-f", "-")
		require.NoError(t, err)
		assert.NotContains(t, stderr, "Warning")
		w.Eventually("the other one is warned of", func() error {
			stderr, err = w.Pipe(manifest(t, "rival-2", at("username", "another")), "create", "--dry-run=server", "-f", "-")
			if err == nil && !strings.Contains(stderr, `Warning: "rival-1" gives registry.example.com other credentials in a common namespace`) {
				err = assert.AnError
			}
			return err
		})
		stderr, err = w.Pipe(manifest(t, "rival-3", map[string]any{"username": "another", "server": "elsewhere.example.com"}), "create", "--dry-run=server", "-f", "-")
		require.NoError(t, err)
		assert.NotContains(t, stderr, "Warning")
	})

	require.NoError(t, m.Stop())
	w.Kubectl("delete", "validatingwebhookconfigurations", "tcr-assistant-validating-webhook-configuration")
	for _, bad := range badSpecs {
		if !bad.webhookOnly {
			t.Run("by the CRD alone: "+bad.name, func(t *testing.T) { refuse(t, bad) })
		}
	}
}

func TestGoodSpecsAreAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	for name, set := range map[string]map[string]any{
		"blank lists":                 {"namespaces": "", "serviceAccounts": "  "},
		"absent lists":                {"namespaces": nil, "serviceAccounts": nil},
		"names among blanks":          {"namespaces": " a ,\tb , c-1 ", "serviceAccounts": " default, my.builder "},
		"a port":                      {"server": "registry.example.com:5000"},
		"an address":                  {"server": "10.0.0.7:5000"},
		"an IPv6 address":             {"server": "[2001:db8::1]:5000"},
		"upper case in the server":    {"server": "Registry.Example.com"},
		"one label":                   {"server": "registry"},
		"a name of 63 characters":     {"namespaces": strings.Repeat("a", 63)},
		"a name of 253 characters":    {"serviceAccounts": strings.Repeat("a", 253)},
		"an object name of 246":       {"/name": strings.Repeat("a", 246)},
		"a user name with odd signs":  {"username": "100012345678$robot+ci@team"},
		"a password with every sign":  {"password": `: "\<>&'` + "\u00fc"},
		"four thousand namespaces":    {"namespaces": manyNames(4000)},
		"a token of 8,000 characters": {"password": strings.Repeat("x", 8000)},
	} {
		t.Run(name, func(t *testing.T) {
			stderr, err := w.Pipe(manifest(t, "good", set), "create", "--dry-run=server", "-f", "-")
			require.NoError(t, err, stderr[:min(len(stderr), 1000)])
		})
	}
}

// manyNames is a list of namespaces as long as names can be.
func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("namespace-%053d", i)
	}
	return strings.Join(names, ",")
}
