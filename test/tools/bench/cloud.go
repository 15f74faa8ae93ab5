package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// cloudGoal is how many MiB more a manager may hold at rest where the cloud issues the credential.
const cloudGoal = 2

// issuedByCloud measures what a manager holds more at rest where the cloud issues the credential than where a password is written, in
// turn, some rounds.
func issuedByCloud(ctx context.Context, r *report, binary string, n, rounds int, idle time.Duration) (err error) {
	cloud, err := tencentcloud.Start(tencentcloud.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cloud.Close()) }()
	cloud.AddRegistry(tencentcloud.Registry{ID: "tcr-demo0001", Region: "ap-guangzhou", Domain: "demo.tencentcloudcr.com"})
	cloud.BindNodeRole("worker", tencentcloud.Everything)
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	authority := filepath.Join(w.Dir(), "cloud.crt")
	if err := os.WriteFile(authority, cloud.Authority(), 0o600); err != nil {
		return err
	}
	w.args = []string{"--tencentcloud-endpoint=" + cloud.URL(), "--tencentcloud-metadata-endpoint=" + cloud.MetadataURL(),
		"--tencentcloud-ca-file=" + authority}
	if err := errors.Join(w.namespaces(ctx, numbered("bench", 0, n), "builder"), w.create(ctx)); err != nil {
		return err
	}
	issued := map[string]any{"docker": nil, "tcr": map[string]any{"registryId": "tcr-demo0001", "region": "ap-guangzhou"}}
	for range rounds {
		without, err := w.restingAfter(ctx, n, map[string]any{"docker": credential(0), "tcr": nil}, idle)
		if err != nil {
			return err
		}
		with, err := w.restingAfter(ctx, n, issued, idle)
		if err != nil {
			return err
		}
		r.add("cloud", "memory at rest, more than with a password", n, mebibytes, with-without).atMost(cloudGoal)
	}
	return nil
}

// restingAfter has the spec of "bench" changed and all brought in line, and returns what another manager then holds at rest.
func (w *world) restingAfter(ctx context.Context, n int, spec map[string]any, idle time.Duration) (float64, error) {
	m, err := w.start(ctx)
	if err != nil {
		return 0, err
	}
	if err := m.Ready(ctx); err != nil {
		return 0, err
	}
	if err := w.respec(ctx, n, spec); err != nil {
		return 0, err
	}
	if err := w.stop(ctx, m); err != nil {
		return 0, err
	}
	if m, err = w.start(ctx); err != nil {
		return 0, err
	}
	if err := m.Ready(ctx); err != nil {
		return 0, err
	}
	time.Sleep(idle)
	now, _, err := resident(m.Pid())
	return now, errors.Join(err, w.stop(ctx, m))
}

// respec changes the spec of "bench" and waits until everything has the credential that it then asks for.
func (w *world) respec(ctx context.Context, n int, spec map[string]any) error {
	body, err := json.Marshal(map[string]any{"spec": spec})
	if err == nil {
		_, err = w.ips.Patch(ctx, "bench", types.MergePatchType, body, metav1.PatchOptions{})
	}
	if err != nil {
		return err
	}
	source := v1.SourceInline
	if spec["tcr"] != nil {
		source = v1.SourceTCR + "tcr-demo0001"
	}
	return eventually(ctx, func() error {
		object, err := w.ips.Get(ctx, "bench", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if held := object.Status.Credential; held == nil || held.Source != source || (held.ExpiresAt == nil) != (spec["tcr"] == nil) {
			return fmt.Errorf("it holds another credential than that of %s", source)
		}
		return inLine(object, n)
	})
}
