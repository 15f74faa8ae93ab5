package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// commands are the commands in the image, each in the root folder and in a layer of its own.
var commands = []string{"controller-manager", "hosts-updater"}

// architectures are those of Linux that the image is for.
var architectures = []string{"amd64", "arm64"}

// user is the user that the image runs as: the one that distroless images call nonroot.
const user = "65532:65532"

// spdxMediaType is the IANA media type of SPDX documents in JSON.
const spdxMediaType = "application/spdx+json"

// epoch is the time stamp of everything: one commit gives one digest, whenever and wherever it is built.
var epoch = time.Unix(0, 0).UTC()

// built is an image for several platforms, with one bill of materials for each of them.
type built struct {
	index v1.ImageIndex
	bills []v1.Image
}

func emptyIndex() v1.ImageIndex { return mutate.IndexMediaType(empty.Index, types.OCIImageIndex) }

// build compiles the commands and creates the image from them.
func build(ctx context.Context, source, version string) (*built, error) {
	scratch, err := os.MkdirTemp("", "tcr-assistant-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	b := &built{index: emptyIndex()}
	for _, architecture := range architectures {
		folder := filepath.Join(scratch, architecture)
		if err := compile(ctx, source, folder, architecture, version); err != nil {
			return nil, err
		}
		image, err := imageOf(folder, architecture, version)
		if err != nil {
			return nil, fmt.Errorf("making the image for %s: %w", architecture, err)
		}
		b.index = mutate.AppendManifests(b.index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
		bill, err := billOf(folder, architecture, version, image)
		if err != nil {
			return nil, fmt.Errorf("listing the contents of the image for %s: %w", architecture, err)
		}
		b.bills = append(b.bills, bill)
	}
	return b, nil
}

// compile builds the commands into a folder, so that nothing of this machine is in them.
func compile(ctx context.Context, source, folder, architecture, version string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X main.version=" + version, "-o",
		folder + string(filepath.Separator)}
	for _, command := range commands {
		args = append(args, "./cmd/"+command)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=",
		"GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling for %s: %w\n%s", architecture, err, out)
	}
	return nil
}

func imageOf(folder, architecture, version string) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: architecture, Created: v1.Time{Time: epoch},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: user, Entrypoint: []string{"/" + commands[0]}, WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":   "tcr-assistant",
				"org.opencontainers.image.version": version,
			},
		},
	})
	if err != nil {
		return nil, err
	}
	for _, command := range commands {
		layer, err := layerOf(filepath.Join(folder, command))
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{
			Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: command},
		}); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// layerOf returns a layer of one file in the root folder, which everybody may run and nobody may write.
func layerOf(path string) (v1.Layer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: filepath.Base(path), Mode: 0o555, Size: int64(len(content)), ModTime: epoch,
		Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
}

// billOf returns the bill of materials of an image, as an artifact whose subject is the image.
func billOf(folder, architecture, version string, image v1.Image) (v1.Image, error) {
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	document, err := spdx(folder, version, digest.String())
	if err != nil {
		return nil, err
	}
	bill := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), spdxMediaType)
	bill, err = mutate.Append(bill, mutate.Addendum{
		Layer:       static.NewLayer(document, spdxMediaType),
		Annotations: map[string]string{"org.opencontainers.image.title": "tcr-assistant-linux-" + architecture + ".spdx.json"},
	})
	if err != nil {
		return nil, err
	}
	subject, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	return attach(bill, v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest})
}
