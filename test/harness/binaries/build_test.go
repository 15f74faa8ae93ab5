package binaries

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSourceIsFoundFromBelowTheCheckout(t *testing.T) {
	checkout := t.TempDir()
	source := filepath.Join(checkout, "test", "harness", "kubernetes")
	write(t, source, "go.mod", "module x\n")
	for _, below := range []string{"", "cmd/controller-manager", "test", "test/suites/integration", "test/harness/kubernetes"} {
		t.Run("from "+below, func(t *testing.T) {
			found, err := findSource(filepath.Join(checkout, below))
			require.NoError(t, err)
			assert.Equal(t, source, found)
		})
	}
	t.Run("outside it the error says where to go", func(t *testing.T) {
		elsewhere := t.TempDir()
		_, err := findSource(elsewhere)
		require.EqualError(t, err, "finding test/harness/kubernetes/go.mod above "+elsewhere+": none there; run this inside a checkout")
	})
}

// twoVersions is a source folder with a module file for each of two versions.
func twoVersions() fstest.MapFS {
	return fstest.MapFS{
		"go.mod":                   {Data: []byte("module x\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n")},
		"go.sum":                   {Data: []byte("new")},
		"kubernetes-1.30.mod":      {Data: []byte("module x\n\nrequire k8s.io/kubernetes v1.30.14\n")},
		"kubernetes-1.30.sum":      {Data: []byte("old")},
		"cmd/controlplane/main.go": {Data: []byte("package main")},
		"README.md":                {Data: []byte("read me")},
	}
}

func TestRecipe(t *testing.T) {
	for _, c := range []struct{ name, version, modFile, wantVersion, problem string }{
		{name: "the usual version is that of go.mod", modFile: "go.mod", wantVersion: "v1.36.3"},
		{name: "it may be named", version: "v1.36.3", modFile: "go.mod", wantVersion: "v1.36.3"},
		{name: "another one has its own module file", version: "v1.30.14", modFile: "kubernetes-1.30.mod", wantVersion: "v1.30.14"},
		{name: "without the v it is not a version", version: "1.36.3",
			problem: `choosing Kubernetes "1.36.3": must be one of v1.30.14, v1.36.3, which have a module file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := newRecipe(twoVersions(), c.version, "go1.26.0", "linux-amd64")
			if c.problem != "" {
				require.EqualError(t, err, c.problem)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, recipe{version: c.wantVersion, modFile: c.modFile, goVersion: "go1.26.0", platform: "linux-amd64"}, r)
		})
	}
	t.Run("a module file without Kubernetes is named", func(t *testing.T) {
		_, err := newRecipe(fstest.MapFS{"go.mod": {Data: []byte("module x\n")}}, "", "go1.26.0", "linux-amd64")
		require.EqualError(t, err, "reading go.mod: it requires no k8s.io/kubernetes")
	})
	t.Run("the linker puts the version in", func(t *testing.T) {
		flags, err := recipe{version: "v1.30.14"}.linkerFlags()
		require.NoError(t, err)
		assert.Equal(t, "-s -w -X k8s.io/component-base/version.gitVersion=v1.30.14"+
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=30", flags)
	})
}

func TestCacheKey(t *testing.T) {
	usual := recipe{version: "v1.36.3", modFile: "go.mod", goVersion: "go1.26.0", platform: "linux-amd64"}
	key := func(r recipe, source fstest.MapFS) string {
		k, err := r.key(source)
		require.NoError(t, err)
		return k
	}
	was := key(usual, twoVersions())
	assert.Regexp(t, `^v1\.36\.3-linux-amd64-[0-9a-f]{12}$`, was)
	for _, c := range []struct {
		name   string
		change func(*recipe, fstest.MapFS)
		same   bool
	}{
		{"the same source has the same key", func(*recipe, fstest.MapFS) {}, true},
		{"a new text beside the source changes nothing", func(_ *recipe, s fstest.MapFS) { s["README.md"].Data = nil }, true},
		{"nor does the other version's go.sum", func(_ *recipe, s fstest.MapFS) { s["kubernetes-1.30.sum"].Data = nil }, true},
		{"an edited program has another key", func(_ *recipe, s fstest.MapFS) { s["cmd/controlplane/main.go"].Data = []byte("package man") },
			false},
		{"another dependency has another key", func(_ *recipe, s fstest.MapFS) { s["go.mod"].Data = nil }, false},
		{"another checksum has another key", func(_ *recipe, s fstest.MapFS) { s["go.sum"].Data = nil }, false},
		{"another Go has another key", func(r *recipe, _ fstest.MapFS) { r.goVersion = "go1.27.0" }, false},
		{"another platform has another key", func(r *recipe, _ fstest.MapFS) { r.platform = "linux-arm64" }, false},
		{"another program has another key", func(r *recipe, _ fstest.MapFS) { r.programs = []string{"node"} }, false},
		{"another module file has another key", func(r *recipe, _ fstest.MapFS) { r.modFile = "kubernetes-1.30.mod" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, source := usual, twoVersions()
			c.change(&r, source)
			if c.same {
				assert.Equal(t, was, key(r, source))
			} else {
				assert.NotEqual(t, was, key(r, source))
			}
		})
	}
}

func TestCacheFolder(t *testing.T) {
	t.Run("the variable names it", func(t *testing.T) {
		t.Setenv(CacheVariable, "/somewhere")
		dir, err := CacheDir()
		require.NoError(t, err)
		assert.Equal(t, "/somewhere", dir)
	})
	t.Run("without a home the error says what to set", func(t *testing.T) {
		for _, name := range []string{CacheVariable, "HOME", "XDG_CACHE_HOME"} {
			t.Setenv(name, "")
		}
		_, err := CacheDir()
		require.ErrorContains(t, err, "finding a folder to keep binaries in: set TCR_ASSISTANT_CACHE, or HOME")
	})
}

func TestOnce(t *testing.T) {
	t.Run("many at once fill the folder once", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		var fills atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				assert.NoError(t, once(t.Context(), dir, &bytes.Buffer{}, func(unfinished string) error {
					fills.Add(1)
					return os.WriteFile(filepath.Join(unfinished, "binary"), []byte("whole"), 0o755)
				}))
				text, err := os.ReadFile(filepath.Join(dir, "binary"))
				assert.NoError(t, err)
				assert.Equal(t, "whole", string(text))
			})
		}
		all.Wait()
		assert.Equal(t, int32(1), fills.Load())
	})
	t.Run("a failure leaves nothing, and the next one may try", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "folder")
		err := once(t.Context(), dir, &bytes.Buffer{}, func(unfinished string) error {
			return errors.Join(os.WriteFile(filepath.Join(unfinished, "half"), nil, 0o644), errors.New("no compiler"))
		})
		require.EqualError(t, err, "no compiler")
		assert.NoDirExists(t, dir)
		require.NoError(t, once(t.Context(), dir, &bytes.Buffer{}, func(string) error { return nil }))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	t.Run("what a killed process left is not kept", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "folder")
		write(t, dir+".unfinished", "half", "")
		require.NoError(t, once(t.Context(), dir, &bytes.Buffer{}, func(string) error { return nil }))
		assert.NoFileExists(t, filepath.Join(dir, "half"))
	})
	t.Run("who waits says so, and waits no longer than its context", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "folder")
		unlock, err := lock(t.Context(), dir+".lock", &bytes.Buffer{})
		require.NoError(t, err)
		defer unlock()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		var progress bytes.Buffer
		err = once(ctx, dir, &progress, func(string) error { return errors.New("must not be called") })
		require.EqualError(t, err, "enough")
		assert.Equal(t, "Waiting for another process that builds the same.\n", progress.String())
	})
}

func TestCompile(t *testing.T) {
	source := t.TempDir()
	write(t, source, "go.mod", "not what this recipe is about\n")
	write(t, source, "other.mod", "module example\n\ngo 1.26.0\n")
	write(t, source, "cmd/kubectl/main.go", "package main\n\nfunc main() {}\n")
	write(t, source, "cmd/controlplane/main.go", "package main\n\nfunc main() { undefined() }\n")
	r := recipe{version: "v1.36.3", modFile: "other.mod", goVersion: "go1.26.0", programs: []string{"controlplane", "kubectl"}}

	t.Run("what the compiler says is in the error", func(t *testing.T) {
		err := compile(t.Context(), r, source, t.TempDir(), &bytes.Buffer{})
		require.ErrorContains(t, err, "compiling Kubernetes v1.36.3: exit status 1\n")
		require.ErrorContains(t, err, "cmd/controlplane/main.go:3:15: undefined: undefined")
	})
	t.Run("with the other module file too, the binaries come out", func(t *testing.T) {
		write(t, source, "cmd/controlplane/main.go", "package main\n\nfunc main() {}\n")
		dir := t.TempDir()
		var progress bytes.Buffer
		require.NoError(t, compile(t.Context(), r, source, dir, &progress))
		assert.FileExists(t, filepath.Join(dir, "controlplane"))
		assert.FileExists(t, filepath.Join(dir, "kubectl"))
		assert.Contains(t, progress.String(), "Building controlplane and kubectl of Kubernetes v1.36.3 with go1.26.0")
		assert.Contains(t, progress.String(), "Built controlplane and kubectl in ")
	})
}

func TestMeter(t *testing.T) {
	var progress bytes.Buffer
	m := &meter{progress: &progress}
	assert.True(t, m.count("go: downloading k8s.io/api v0.36.3"))
	m.report()
	m.stale = map[string]bool{"k8s.io/api/core/v1": true, "example/cmd": true}
	assert.False(t, m.count("# example/cmd"), "the compiler's own words")
	assert.True(t, m.count("k8s.io/api/core/v1"))
	m.report()
	assert.True(t, m.count("example/cmd"))
	m.report()
	assert.Regexp(t, `^  \S+: downloaded 1 modules
  \S+: compiled 1 of 2 packages
  \S+: compiled 2 of 2 packages, linking
$`, progress.String())
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}
