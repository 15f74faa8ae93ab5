//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

const (
	// discovered is the name of the ConfigMap of what the manager found. The kubelet mounts it, too, but updates it up to a minute later.
	discovered = "updater-config-discovered"
	// findPeriod is how often to look whether it is mounted.
	findPeriod = 5 * time.Second
	// grace is how long the API server may be silent before a change of the mounted file takes precedence over its last answer.
	grace = 2 * time.Minute
)

// finder is what is told what the manager found. hostsd.Daemon is one.
type finder interface {
	Finds() bool
	Tell(data []byte)
	Lose()
	Forget()
}

// find tells the daemon what the manager found as soon as it is published, until ctx ends. While nothing is mounted, it does not ask: a
// cluster that does not use this has no watch of it.
func (d *daemonSet) find(ctx context.Context, log *slog.Logger, daemon finder) {
	told, warned := false, false
	var heard time.Time
	for pause := firstOpening; ctx.Err() == nil; pause = min(2*pause, lastOpening) {
		wait := findPeriod
		if daemon.Finds() {
			began := time.Now()
			known, err := d.findOnce(ctx, daemon)
			if known {
				told, heard = true, time.Now()
			}
			if time.Since(began) > lastOpening {
				pause = firstOpening
			}
			if err != nil && pause == lastOpening && !warned {
				warned = true
				log.Warn("discovered entries were not watched, trying again", "error", err)
			}
			wait = pause/2 + rand.N(pause)
		} else {
			pause = firstOpening
			if told {
				daemon.Forget()
			}
			told = false
		}
		if told && time.Since(heard) > grace {
			told = false
			daemon.Lose()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// found is the ConfigMap.
type found struct {
	Metadata struct{ ResourceVersion string }
	Data     map[string]string
}

func (f found) tell(daemon finder) { daemon.Tell([]byte(f.Data[hostsd.ConfigFile])) }

// findOnce reads the ConfigMap and watches it until the API server ends the watch. known says whether it was read.
func (d *daemonSet) findOnce(ctx context.Context, daemon finder) (known bool, err error) {
	now, err := d.readFound(ctx)
	switch {
	case err != nil:
		return false, err
	case now == nil:
		daemon.Tell(nil) // before the kubelet removes the mounted file
		return true, nil
	}
	now.tell(daemon)
	response, err := d.openAs(ctx, "/api/v1/namespaces/"+d.namespace+"/configmaps?watch=1&fieldSelector=metadata.name%3D"+discovered+
		"&resourceVersion="+url.QueryEscape(now.Metadata.ResourceVersion), whole)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return true, fmt.Errorf("watching ConfigMap %s/%s: the API server answers %d", d.namespace, discovered, response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var event struct {
			Type   string
			Object found
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return true, fmt.Errorf("watching ConfigMap %s/%s: reading an event: %w", d.namespace, discovered, err)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			event.Object.tell(daemon)
		case "DELETED":
			daemon.Tell(nil)
		case "ERROR":
			return true, nil // it is read again
		}
	}
	if err := lines.Err(); err != nil {
		return true, fmt.Errorf("watching ConfigMap %s/%s: %w", d.namespace, discovered, err)
	}
	return true, nil
}

// readFound returns the ConfigMap as it is now; nil if there is none.
func (d *daemonSet) readFound(ctx context.Context) (*found, error) {
	response, err := d.openAs(ctx, "/api/v1/namespaces/"+d.namespace+"/configmaps/"+discovered, whole)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", d.namespace, discovered, err)
	}
	var object struct {
		found
		Reason string
	}
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", d.namespace, discovered, err)
	}
	switch {
	case response.StatusCode == http.StatusOK:
		return &object.found, nil
	case response.StatusCode == http.StatusNotFound && object.Reason == "NotFound":
		return nil, nil
	default:
		return nil, fmt.Errorf("reading ConfigMap %s/%s: the API server answers %d", d.namespace, discovered, response.StatusCode)
	}
}
