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
	root, err := manager.Root(ctx)
	if err != nil {
		return err
	}
	binary := filepath.Join(dir, "admission")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join(root, "test", "tools", "bench", "admission")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building it: %w\n%s", err, out)
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
