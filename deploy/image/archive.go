package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// placeholder is the repository in the archive's name of an image that is not pushed. Nobody can own a name below .invalid (RFC 6761), so
// the image cannot be pulled from anybody.
const placeholder = "tcr-assistant.invalid/tcr-assistant"

// archiveName returns the name of the image in its archive: where it is pushed to, or else the placeholder with the version as its tag.
func archiveName(reference name.Reference, version string) (name.Tag, error) {
	if tag, tagged := reference.(name.Tag); tagged {
		return tag, nil
	}
	return name.NewTag(placeholder+":"+strings.ReplaceAll(version, "+", "-"), name.StrictValidation) // no tag may hold a "+"
}

// archive writes one file that every container runtime can load: an OCI layout of the image for all platforms, which containerd reads, and
// the manifest that "docker load" looks for, of the image for this machine's platform.
func (b *built) archive(path string, tag name.Tag) (err error) {
	folder, err := os.MkdirTemp(filepath.Dir(path), ".archive-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	whole, err := layout.Write(folder, emptyIndex())
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{"io.containerd.image.name": tag.Name(),
		"org.opencontainers.image.ref.name": tag.TagStr()})
	if err := whole.AppendIndex(b.index, named); err != nil {
		return err
	}
	manifest, err := b.dockerManifest(tag)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "manifest.json"), manifest, 0o644); err != nil {
		return err
	}
	return pack(folder, path)
}

// dockerManifest lists the parts of the image for this machine's platform, or else for the first one, in the archive's layout.
func (b *built) dockerManifest(tag name.Tag) ([]byte, error) {
	manifest, err := b.index.IndexManifest()
	if err != nil {
		return nil, err
	}
	mine := max(0, slices.IndexFunc(manifest.Manifests, func(d v1.Descriptor) bool { return d.Platform.Architecture == runtime.GOARCH }))
	image, err := b.index.Image(manifest.Manifests[mine].Digest)
	if err != nil {
		return nil, err
	}
	parts, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	blob := func(d v1.Descriptor) string { return "blobs/" + d.Digest.Algorithm + "/" + d.Digest.Hex }
	entry := struct {
		Config           string
		RepoTags, Layers []string
	}{Config: blob(parts.Config), RepoTags: []string{tag.Name()}}
	for _, layer := range parts.Layers {
		entry.Layers = append(entry.Layers, blob(layer))
	}
	return json.Marshal([]any{entry})
}

// pack writes the files of a folder into an archive, in the order of their names, with no traces of this machine.
func pack(folder, path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	writer := tar.NewWriter(file)
	err = filepath.WalkDir(folder, func(from string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, from)
		if err != nil {
			return err
		}
		if err := writer.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), ModTime: epoch,
			Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		content, err := os.Open(from)
		if err != nil {
			return err
		}
		defer content.Close()
		_, err = io.Copy(writer, content)
		return err
	})
	if err != nil {
		return err
	}
	return writer.Close()
}

// loads says how to get the archive's image onto nodes, without a registry.
func loads(path string, tag name.Tag) string {
	return fmt.Sprintf(`%[1]s contains it as %[2]s. To load it into the nodes, and to install it from there:
  containerd  ctr --namespace k8s.io images import %[1]s
  kind        kind load image-archive %[1]s
  k3s         k3s ctr images import %[1]s
  minikube    minikube image load %[1]s
  helm …      --set image.repository=%[3]s --set image.tag=%[4]s
`, path, tag.Name(), tag.Repository.Name(), tag.TagStr())
}
