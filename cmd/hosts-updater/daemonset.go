//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// askFor bounds how long the end of the process waits for the API server. A node that shuts down gives its pods ten seconds.
	askFor = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 4 << 20
	// maxRetry is the longest pause between two questions at the start.
	maxRetry = time.Minute
)

// daemonSet is the one that runs this process. A pod ends for many reasons that leave the lines wanted: an update, a reboot, an
// eviction, a probe. They are no longer wanted once the DaemonSet is gone, and only the API server knows.
type daemonSet struct {
	namespace, name string
	server          string // such as https://10.96.0.1:443
	tokenFile       string // read anew for each question: the kubelet renews it
	client          *http.Client
	// seen says that it was there once, and that this process was allowed to see it.
	seen atomic.Bool
}

// newDaemonSet reads the credentials that the kubelet mounts into a pod. Reference is "namespace/name".
func newDaemonSet(reference, account, host, port string) (*daemonSet, error) {
	namespace, name, _ := strings.Cut(reference, "/")
	if host == "" || port == "" {
		return nil, errors.New("finding the API server: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: --daemonset is for programs in pods")
	}
	authority, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading whom to trust as the API server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("reading whom to trust as the API server: %s holds no certificate", filepath.Join(account, "ca.crt"))
	}
	return &daemonSet{
		namespace: namespace, name: name, server: "https://" + net.JoinHostPort(host, port), tokenFile: filepath.Join(account, "token"),
		client: &http.Client{
			Timeout: askFor,
			// Two questions in the life of a process are no reason to keep a connection.
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		},
	}, nil
}

// answer is what the API server says of an object.
type answer struct {
	status int
	reason string // of a refusal
	ending bool   // it has been deleted, and still has its dependents or finalizers
}

// known reports whether the object is there and may be seen.
func (a answer) known() bool { return a.status == http.StatusOK }

// gone reports whether the object is gone or going. Who was allowed to see it and is not any more has lost its account or role,
// which an uninstall deletes right behind the DaemonSet. No other answer says anything.
func (a answer) gone(seen bool) bool {
	switch a.status {
	case http.StatusOK:
		return a.ending
	case http.StatusNotFound:
		return a.reason == "NotFound" // said of the object, not of a path that somebody between does not know
	case http.StatusUnauthorized, http.StatusForbidden:
		return seen
	default:
		return false
	}
}

// decided reports whether asking again would give no other answer.
func (a answer) decided() bool {
	switch a.status {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return true
	case http.StatusNotFound:
		return a.reason == "NotFound"
	default:
		return false
	}
}

// gone asks until the API server says whether the DaemonSet, or its namespace, is gone, or ctx ends.
func (d *daemonSet) gone(ctx context.Context) (bool, error) {
	for {
		set, namespace, err := d.ask(ctx)
		switch {
		case err == nil && (set.gone(d.seen.Load()) || namespace.gone(d.seen.Load())):
			return true, nil
		case err == nil && set.decided() && namespace.decided():
			return false, nil
		case err == nil:
			err = fmt.Errorf("asking for DaemonSet %s/%s: the API server answers %d", d.namespace, d.name, max(set.status, namespace.status))
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// see asks until it has seen the DaemonSet, or ctx ends.
func (d *daemonSet) see(ctx context.Context, log *slog.Logger) {
	told := false
	for pause := time.Second; ; pause = min(2*pause, maxRetry) {
		set, namespace, err := d.ask(ctx)
		if err == nil && set.known() && namespace.known() {
			d.seen.Store(true)
			return
		}
		if err == nil {
			err = fmt.Errorf("asking for DaemonSet %s/%s: the API server answers %d", d.namespace, d.name, max(set.status, namespace.status))
		}
		if pause == maxRetry && !told { // a node that is starting up may not reach it for a while
			told = true
			log.Warn("own DaemonSet was not seen, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// ask asks for the DaemonSet and for its namespace: where that is deleted, pods may go before their DaemonSet.
func (d *daemonSet) ask(ctx context.Context) (set, namespace answer, err error) {
	if set, err = d.get(ctx, "/apis/apps/v1/namespaces/"+d.namespace+"/daemonsets/"+d.name); err != nil {
		return set, namespace, err
	}
	namespace, err = d.get(ctx, "/api/v1/namespaces/"+d.namespace)
	return set, namespace, err
}

func (d *daemonSet) get(ctx context.Context, path string) (answer, error) {
	token, err := os.ReadFile(d.tokenFile)
	if err != nil {
		return answer{}, fmt.Errorf("asking for DaemonSet %s/%s: reading the account's token: %w", d.namespace, d.name, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server+path, nil)
	if err != nil {
		return answer{}, fmt.Errorf("asking for DaemonSet %s/%s: %w", d.namespace, d.name, err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	// All of it that counts, in a fraction of the bytes.
	request.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
	response, err := d.client.Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("asking for DaemonSet %s/%s: %w", d.namespace, d.name, err)
	}
	defer response.Body.Close()
	var object struct {
		Reason   string
		Metadata struct{ DeletionTimestamp string }
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &object)
	} else if err == nil {
		_ = json.Unmarshal(body, &object) // a refusal may be anything
	}
	if err != nil {
		return answer{}, fmt.Errorf("asking for DaemonSet %s/%s: reading the answer: %w", d.namespace, d.name, err)
	}
	return answer{status: response.StatusCode, reason: object.Reason, ending: object.Metadata.DeletionTimestamp != ""}, nil
}
