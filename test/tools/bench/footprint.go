package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// footprint is what a control plane holds.
type footprint struct {
	etcd      float64 // bytes of the database that are in use
	apiServer float64 // MiB that are resident, garbage among them
}

// per adds what each of n namespaces has made of it.
func (f footprint) per(r *report, what string, n int, before footprint) {
	r.add("scale", "etcd for each namespace, "+what, n, bytesEach, (f.etcd-before.etcd)/float64(n))
	r.add("scale", "API server's memory for each namespace, "+what, n, bytesEach, (f.apiServer-before.apiServer)*mebibyte/float64(n))
}

func (w *world) footprint(ctx context.Context) (footprint, error) {
	etcd, err := w.etcdInUse(ctx)
	if err != nil {
		return footprint{}, err
	}
	pid, err := child("kube-apiserver")
	if err != nil {
		return footprint{}, err
	}
	kibibytes, err := status(fmt.Sprintf("/proc/%s/status", pid), "VmRSS")
	return footprint{etcd: etcd, apiServer: kibibytes / 1024}, err
}

// etcdInUse reads etcd's metrics from its socket.
func (w *world) etcdInUse(ctx context.Context) (float64, error) {
	socket := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", filepath.Join(w.Dir(), "etcd:2379"))
	}}
	defer socket.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://etcd/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := socket.RoundTrip(request)
	if err != nil {
		return 0, fmt.Errorf("reading etcd's metrics: %w", err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return 0, fmt.Errorf("reading etcd's metrics: %w", err)
	}
	const name = "etcd_mvcc_db_total_size_in_use_in_bytes"
	metrics := families[name].GetMetric()
	if len(metrics) != 1 || families[name].GetType() != dto.MetricType_GAUGE {
		return 0, errors.New("reading etcd's metrics: there is no " + name)
	}
	return metrics[0].GetGauge().GetValue(), nil
}

// child returns the process ID of the last process of this name that this one has started.
func child(name string) (string, error) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return "", err
	}
	found := ""
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return "", fmt.Errorf("reading which processes run: %w", err)
		}
		for pid := range strings.FieldsSeq(string(text)) {
			command, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			if err == nil && bytes.HasPrefix(command, []byte(name+"\x00")) {
				found = pid
			}
		}
	}
	if found == "" {
		return "", fmt.Errorf("looking for %s: it does not run", name)
	}
	return found, nil
}

// derivedBytes returns how large the parameters of the admission policy are together, as the API server serves them.
func (w *world) derivedBytes(ctx context.Context) (float64, error) {
	text, err := w.client.CoreV1().RESTClient().Get().AbsPath("/apis/tcr.tencentcloudcr.com/v1/derivedattachments").
		SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the policy's parameters: %w", err)
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(text, &list); err != nil {
		return 0, fmt.Errorf("reading the policy's parameters: %w", err)
	}
	total := 0
	for _, item := range list.Items {
		total += len(item)
	}
	return float64(total), nil
}
