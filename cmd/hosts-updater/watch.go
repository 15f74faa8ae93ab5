//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// configMap is the name of the ConfigMap of the lines, which is installed and deleted with the DaemonSet. It is watched instead: it
	// changes only with its hosts, while the status of a DaemonSet changes with each of its pods, and all nodes would get these events.
	configMap = "updater-config"
	// firstOpening and lastOpening are the shortest and the longest pause before a watch is opened again.
	firstOpening, lastOpening = time.Second, time.Minute
)

// watch keeps withdrawn up to date with the ConfigMap, until ctx ends. The API server ends a watch from time to time, and it is opened
// again; what happens in between is missed.
func (d *daemonSet) watch(ctx context.Context, log *slog.Logger) {
	told := false
	for pause := firstOpening; ; pause = min(2*pause, lastOpening) {
		began := time.Now()
		err := d.watchOnce(ctx)
		if time.Since(began) > lastOpening {
			pause = firstOpening
		}
		if err != nil && pause == lastOpening && !told { // a node that starts up may not reach the API server for a while
			told = true
			log.Warn("own ConfigMap was not watched, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)): // so that not all nodes ask a restarted API server at once
		}
	}
}

// watchOnce watches the ConfigMap until the API server ends the watch.
func (d *daemonSet) watchOnce(ctx context.Context) error {
	response, err := d.open(ctx, "/api/v1/namespaces/"+d.namespace+"/configmaps?watch=1&fieldSelector=metadata.name%3D"+configMap)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("watching ConfigMap %s/%s: the API server answers %d", d.namespace, configMap, response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxAnswer)
	known := false // seen by this watch, which begins with what exists
	for lines.Scan() {
		var event struct {
			Type   string
			Object struct {
				Metadata struct{ DeletionTimestamp string }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("watching ConfigMap %s/%s: reading an event: %w", d.namespace, configMap, err)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			known = true
			d.withdrawn.Store(event.Object.Metadata.DeletionTimestamp != "")
		case "DELETED":
			d.withdrawn.Store(known)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("watching ConfigMap %s/%s: %w", d.namespace, configMap, err)
	}
	return nil
}
