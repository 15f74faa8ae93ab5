package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// admission has the module that measures admission next to controller-runtime built and run.
func admission(ctx context.Context, r *report, dir string, each time.Duration, servers bool) error {
	binary, err := buildModule(ctx, dir, "admission")
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, binary, "-time="+each.String(), fmt.Sprintf("-handlers=%t", !servers))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("running it: %w", err)
	}
	var figures []struct {
		Benchmark, Name string
		Size            int
		Unit            unit
		Value           float64
		Goal            *float64
	}
	if err := json.Unmarshal(out, &figures); err != nil {
		return fmt.Errorf("reading what it measured: %w", err)
	}
	for _, f := range figures {
		r.add(f.Benchmark, f.Name, f.Size, f.Unit, f.Value).Goal = f.Goal
	}
	return nil
}

// buildModule compiles the module in a folder beside this file into dir, and returns the binary's path.
func buildModule(ctx context.Context, dir, name string) (string, error) {
	root, err := manager.Root(ctx)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, ".")
	build.Dir = filepath.Join(root, "test", "tools", "bench", name)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	return binary, nil
}
