package binaries

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Command is a program of a published module, as "go install" names it.
type Command struct {
	Package     string // such as helm.sh/helm/v3/cmd/helm
	Version     string // such as v3.22.0
	LinkerFlags string
}

// Build returns the path of the program from the cache, and builds it first where it is not there yet.
func (c Command) Build(ctx context.Context, progress io.Writer) (binary string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("building %s@%s: %w", c.Package, c.Version, err)
		}
	}()
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	goVersion, platform, err := goEnvironment(ctx, working)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "commands", strings.Join([]string{path.Base(c.Package), c.Version, goVersion, platform}, "-"))
	err = once(ctx, dir, progress, func(dir string) error {
		say(progress, "Building %s@%s, once, into %s.", c.Package, c.Version, filepath.Dir(dir))
		began := time.Now()
		install := goCommand(ctx, working, "install", "-trimpath", "-ldflags="+c.LinkerFlags, c.Package+"@"+c.Version)
		install.Env = append(install.Env, "GOBIN="+dir)
		var problems bytes.Buffer
		install.Stderr = &problems
		if err := install.Run(); err != nil {
			return fmt.Errorf("%w\n%s", err, problems.String())
		}
		say(progress, "Built it in %s.", time.Since(began).Round(time.Second))
		return nil
	})
	return filepath.Join(dir, path.Base(c.Package)), err
}
