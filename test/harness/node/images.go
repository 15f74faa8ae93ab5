//go:build linux

package node

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Workload returns an image that holds one static program, the one in the folder workload, which runs until it is told to
// end; with the argument "once" it ends at once.
func Workload(ctx context.Context) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "workload-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "workload")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary,
		"github.com/tcr-assistant/tcr-assistant/test/harness/node/workload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the workload: %w: %s", err, out)
	}
	image, err := ImageOf(binary)
	if err != nil {
		return nil, fmt.Errorf("making an image of the workload: %w", err)
	}
	return image, nil
}

// ImageOf returns an image that holds nothing but a static program, and runs it.
func ImageOf(program string) (v1.Image, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	file := filepath.Base(program)
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Name: file, Mode: 0o755, Size: int64(len(text))}); err != nil {
		return nil, err
	}
	if _, err := archive.Write(text); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	content, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = []string{"/" + file}
	return mutate.ConfigFile(image, config)
}

// Load puts the images of an archive into the node's container runtime, by the line that the product gives for containerd, and
// returns the name by which they are there.
func (n *Node) Load(ctx context.Context, archive string) (name.Tag, error) {
	called, err := nameIn(archive)
	if err != nil {
		return name.Tag{}, fmt.Errorf("reading the name of the image in %s: %w", archive, err)
	}
	if err := ctr(ctx, "images", "import", archive); err != nil {
		return name.Tag{}, fmt.Errorf("loading %s: %w", archive, err)
	}
	return name.NewTag(called)
}

// nameIn returns what the index of an OCI archive calls its image.
func nameIn(archive string) (string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if err != nil {
			return "", err
		}
		if header.Name != "index.json" {
			continue
		}
		index, err := v1.ParseIndexManifest(reader)
		if err != nil {
			return "", err
		}
		for _, image := range index.Manifests {
			if called := image.Annotations["io.containerd.image.name"]; called != "" {
				return called, nil
			}
		}
		return "", errors.New("its index names none")
	}
}

// Import puts an image into the node's container runtime, as if it had been pulled before.
func (n *Node) Import(ctx context.Context, reference string, image v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("importing an image: %w", err)
	}
	file := filepath.Join(n.dir, "image.tar")
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return fmt.Errorf("importing image %s: %w", reference, err)
	}
	defer func() { _ = os.Remove(file) }()
	if err := ctr(ctx, "images", "import", file); err != nil {
		return fmt.Errorf("importing image %s: %w", reference, err)
	}
	return nil
}
