// Command image builds the container image of both commands, for every platform, without a container engine: static binaries without a
// base image. It writes an OCI image layout, with a bill of materials for each binary, and pushes both if asked to. Beside the layout it
// writes an archive that container runtimes can load.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	source := flag.String("source", ".", "`folder` of the product's module")
	version := flag.String("version", "dev", "`version` that the commands report")
	out := flag.String("out", "dist/image", "`folder` to write the OCI layout to; the archive gets this name with .tar appended; both are replaced")
	shown := flag.String("shown", "", "`folder` to print instead of --out, for callers that run this in another folder")
	push := flag.String("push", "",
		"`reference` to push to as well, such as registry.example.com/tcr-assistant:v0.1.0, with the credentials of \"docker login\"")
	flag.Parse()
	if *shown == "" {
		*shown = *out
	}
	if err := run(ctx, *source, *version, *out, *shown, *push); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds the image into the folder out, which it prints as shown, and pushes it if push is a reference.
func run(ctx context.Context, source, version, out, shown, push string) error {
	var reference name.Reference
	if push != "" {
		var err error
		if reference, err = name.ParseReference(push, name.StrictValidation); err != nil {
			return fmt.Errorf("reading --push=%s: must be a host, a path and a tag: %w", push, err)
		}
	}
	built, err := build(ctx, source, version)
	if err != nil {
		return err
	}
	if err := built.write(out, version); err != nil {
		return fmt.Errorf("writing the image to %s: %w", out, err)
	}
	digest, err := built.index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s in %s\n", digest, shown)
	tag, err := archiveName(reference, version)
	if err != nil {
		return fmt.Errorf("naming the image by --version=%s: %w", version, err)
	}
	if err := built.archive(out+".tar", tag); err != nil {
		return fmt.Errorf("writing the image to %s.tar: %w", out, err)
	}
	if reference == nil {
		fmt.Print(loads(shown+".tar", tag))
		return nil
	}
	if err := built.push(ctx, reference); err != nil {
		return fmt.Errorf("pushing the image to %s: %w", reference, err)
	}
	fmt.Printf("%s@%s\n", reference.Context(), digest)
	return nil
}

// write replaces the folder by a layout of the image and its bills of materials. The layout's own index names the image by its
// version.
func (b *built) write(folder, version string) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	path, err := layout.Write(folder, emptyIndex())
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version})
	if err := path.AppendIndex(b.index, named); err != nil {
		return err
	}
	for _, bill := range b.bills {
		if err := path.AppendImage(bill); err != nil {
			return err
		}
	}
	return nil
}

// push writes the image under the reference, and the bills of materials where their subjects are looked up.
func (b *built) push(ctx context.Context, reference name.Reference) error {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(reference, b.index, options...); err != nil {
		return err
	}
	var errs []error
	for _, bill := range b.bills {
		digest, err := bill.Digest()
		if err == nil {
			err = remote.Write(reference.Context().Digest(digest.String()), bill, options...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// attach returns an image that is no program but a document about the subject.
func attach(document v1.Image, subject v1.Descriptor) (v1.Image, error) {
	attached, ok := mutate.Subject(document, subject).(v1.Image)
	if !ok {
		return nil, errors.New("a manifest with a subject must remain a manifest")
	}
	return attached, nil
}
