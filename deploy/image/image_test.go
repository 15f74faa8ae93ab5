package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	source  = "../.."
	version = "v1.2.3"
)

func TestImage(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "image")
	require.NoError(t, run(t.Context(), source, version, folder, folder, ""))
	path, err := layout.FromPath(folder)
	require.NoError(t, err)
	root, err := path.ImageIndex()
	require.NoError(t, err)
	require.NoError(t, validate.Index(root))
	manifest, err := root.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1+len(architectures), "the image, and a bill of materials for each platform")
	assert.Equal(t, version, manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
	index, err := root.ImageIndex(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	platforms, err := index.IndexManifest()
	require.NoError(t, err)

	for i, architecture := range architectures {
		t.Run(architecture, func(t *testing.T) {
			entry := platforms.Manifests[i]
			assert.Equal(t, "linux/"+architecture, entry.Platform.String())
			image, err := index.Image(entry.Digest)
			require.NoError(t, err)
			config, err := image.ConfigFile()
			require.NoError(t, err)
			assert.Equal(t, user, config.Config.User)
			assert.Equal(t, []string{"/controller-manager"}, config.Config.Entrypoint)
			files := unpack(t, image)
			assert.Len(t, files, len(commands), "nothing but the commands is in it")
			for _, command := range commands {
				binary, err := elf.Open(files[command])
				require.NoError(t, err)
				defer binary.Close()
				assert.Nil(t, binary.Section(".interp"), "%s needs no dynamic linker", command)
				if architecture == runtime.GOARCH {
					out, err := exec.Command(files[command], "--version").Output()
					require.NoError(t, err)
					assert.Contains(t, string(out), version)
				}
			}
			bill, err := root.Image(manifest.Manifests[1+i].Digest)
			require.NoError(t, err)
			about, err := bill.Manifest()
			require.NoError(t, err)
			assert.Equal(t, entry.Digest, about.Subject.Digest)
			assertBill(t, bill)
		})
	}
	t.Run("the archive is what container runtimes load", func(t *testing.T) {
		assertArchive(t, folder+".tar", index, "tcr-assistant.invalid/tcr-assistant:"+version)
	})
	t.Run("another build, elsewhere, has the same digest", func(t *testing.T) {
		elsewhere := filepath.Join(t.TempDir(), "other")
		copyModule(t, elsewhere)
		again := filepath.Join(t.TempDir(), "again")
		require.NoError(t, run(t.Context(), elsewhere, version, again, again, ""))
		first, err := os.ReadFile(filepath.Join(folder, "index.json"))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(again, "index.json"))
		require.NoError(t, err)
		assert.Equal(t, string(first), string(second))
		first, err = os.ReadFile(folder + ".tar")
		require.NoError(t, err)
		second, err = os.ReadFile(again + ".tar")
		require.NoError(t, err)
		assert.True(t, bytes.Equal(first, second), "nor do their archives differ")
	})
}

// assertArchive holds that an archive is an OCI layout with the index under a name, as containerd reads it, and that what "docker
// load" reads from it is the image for this machine.
func assertArchive(t *testing.T, archive string, index v1.ImageIndex, called string) {
	t.Helper()
	folder := t.TempDir()
	out, err := exec.Command("tar", "-x", "-C", folder, "-f", archive).CombinedOutput()
	require.NoError(t, err, string(out))
	path, err := layout.FromPath(folder)
	require.NoError(t, err)
	root, err := path.ImageIndex()
	require.NoError(t, err)
	require.NoError(t, validate.Index(root))
	manifest, err := root.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1, "a bill of materials is nothing to load")
	digest, err := index.Digest()
	require.NoError(t, err)
	assert.Equal(t, digest, manifest.Manifests[0].Digest)
	assert.Equal(t, called, manifest.Manifests[0].Annotations["io.containerd.image.name"])

	tag, err := name.NewTag(called)
	require.NoError(t, err)
	loaded, err := tarball.ImageFromPath(archive, &tag)
	require.NoError(t, err)
	config, err := loaded.ConfigFile()
	require.NoError(t, err)
	assert.Equal(t, runtime.GOARCH, config.Architecture)
	assert.Len(t, unpack(t, loaded), len(commands))
}

func TestTheArchiveIsNamedByWhereTheImageIs(t *testing.T) {
	for _, tc := range []struct{ push, version, want string }{
		{"", "dev", "tcr-assistant.invalid/tcr-assistant:dev"},
		{"", "v1.2.3+build", "tcr-assistant.invalid/tcr-assistant:v1.2.3-build"},
		{"registry.example.com/a:v1", "dev", "registry.example.com/a:v1"},
	} {
		var reference name.Reference
		if tc.push != "" {
			var err error
			reference, err = name.ParseReference(tc.push)
			require.NoError(t, err)
		}
		tag, err := archiveName(reference, tc.version)
		require.NoError(t, err)
		assert.Equal(t, tc.want, tag.Name())
	}
}

// TestTheVersionIsTheTag asks make what it would build in a checkout of a tag, beside it, and for a reference.
func TestTheVersionIsTheTag(t *testing.T) {
	checkout := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		command := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main",
			"-c", "commit.gpgsign=false"}, args...)...)
		command.Dir = checkout
		out, err := command.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	makefile, err := os.ReadFile(filepath.Join(source, "Makefile"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "Makefile"), makefile, 0o644))
	builds := func(variables ...string) string {
		t.Helper()
		command := exec.Command("make", append([]string{"--dry-run", "--no-print-directory", "image"}, variables...)...)
		command.Dir = checkout
		command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
			return strings.HasPrefix(variable, "VERSION=") || strings.HasPrefix(variable, "PUSH=") || strings.HasPrefix(variable, "MAKE")
		})
		out, err := command.Output()
		require.NoError(t, err, string(out))
		_, rest, found := strings.Cut(string(out), "-version ")
		require.True(t, found, string(out))
		return strings.Fields(rest)[0]
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "--message=first")
	assert.Equal(t, "dev", builds())
	assert.Equal(t, "v8.0.0", builds("PUSH=registry.example.com:5000/tcr-assistant:v8.0.0"))
	git("tag", "v9.9.9")
	assert.Equal(t, "v9.9.9", builds())
	assert.Equal(t, "v7", builds("VERSION=v7"))
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "Makefile"), append(makefile, '\n'), 0o644))
	assert.Equal(t, "v9.9.9-dirty", builds())
	git("commit", "--quiet", "--all", "--message=second")
	assert.Equal(t, "dev", builds())
}

// copyModule copies what the commands are built from.
func copyModule(t *testing.T, to string) {
	t.Helper()
	entries, err := os.ReadDir(source)
	require.NoError(t, err)
	for _, entry := range entries {
		from, to := filepath.Join(source, entry.Name()), filepath.Join(to, entry.Name())
		switch {
		case slices.Contains([]string{".git", "bin", "deploy", "dist", "docs", "test"}, entry.Name()):
		case entry.IsDir():
			require.NoError(t, os.CopyFS(to, os.DirFS(from)))
		default:
			content, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
			require.NoError(t, os.WriteFile(to, content, 0o644))
		}
	}
}

// assertBill holds that the list names what is known to be linked in, and is what an SPDX reader expects.
func assertBill(t *testing.T, bill v1.Image) {
	t.Helper()
	layers, err := bill.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	reader, err := layers[0].Uncompressed()
	require.NoError(t, err)
	defer reader.Close()
	var doc document
	require.NoError(t, json.NewDecoder(reader).Decode(&doc))
	named := map[string]string{}
	for _, p := range doc.Packages {
		require.Regexp(t, `^SPDXRef-[a-zA-Z0-9.-]+$`, p.ID)
		named[p.Name] = p.Version
	}
	assert.Equal(t, strings.TrimPrefix(runtime.Version(), "go"), named["stdlib"])
	assert.Contains(t, named, "k8s.io/client-go")
	assert.Contains(t, named, "github.com/fsnotify/fsnotify", "of hosts-updater")
	ids := map[string]bool{doc.ID: true}
	for _, p := range doc.Packages {
		ids[p.ID] = true
	}
	for _, r := range doc.Relationships {
		assert.True(t, ids[r.Element] && ids[r.Related], "%v", r)
	}
}

// unpack writes the files of an image to a folder and returns their paths by name.
func unpack(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	folder, files := t.TempDir(), map[string]string{}
	reader := tar.NewReader(mutate.Extract(image))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o555), header.FileInfo().Mode(), header.Name)
		files[header.Name] = filepath.Join(folder, header.Name)
		file, err := os.OpenFile(files[header.Name], os.O_CREATE|os.O_WRONLY, 0o755)
		require.NoError(t, err)
		_, err = io.Copy(file, reader)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	target := strings.TrimPrefix(server.URL, "http://") + "/team/tcr-assistant:" + version
	require.NoError(t, run(t.Context(), source, version, filepath.Join(t.TempDir(), "image"), "", target))

	reference, err := name.ParseReference(target)
	require.NoError(t, err)
	index, err := remote.Index(reference)
	require.NoError(t, err)
	require.NoError(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	for _, platform := range manifest.Manifests {
		referrers, err := remote.Referrers(reference.Context().Digest(platform.Digest.String()))
		require.NoError(t, err)
		found, err := referrers.IndexManifest()
		require.NoError(t, err)
		require.Len(t, found.Manifests, 1)
		bill, err := remote.Image(reference.Context().Digest(found.Manifests[0].Digest.String()))
		require.NoError(t, err)
		assertBill(t, bill)
	}
}

func TestBadReferencesAreRefusedBeforeAnythingIsBuilt(t *testing.T) {
	for _, reference := range []string{"tcr-assistant", "registry.example.com/Upper:v1", "registry.example.com/x"} {
		err := run(t.Context(), "/nonexistent", version, t.TempDir(), "", reference)
		require.ErrorContains(t, err, "reading --push="+reference+": must be a host, a path and a tag")
	}
}
