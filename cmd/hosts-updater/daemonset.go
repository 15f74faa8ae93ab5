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
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// askFor is how long the process waits for the API server before it ends. A node that shuts down gives its pods ten seconds.
	askFor = 8 * time.Second
	// maxAnswer is the maximum length of an answer, in bytes.
	maxAnswer = 4 << 20
	// firstRetry and lastRetry are the shortest and the longest pause between two questions at the end.
	firstRetry, lastRetry = 200 * time.Millisecond, 2 * time.Second
)

// daemonSet is the DaemonSet that runs this process. A pod may end while its lines are still wanted: after an update, a reboot, an
// eviction, or a failed probe. They are no longer wanted once the DaemonSet is gone, and only the API server knows that.
type daemonSet struct {
	namespace, name string
	server          string // such as https://10.96.0.1:443
	tokenFile       string // read for each question: the kubelet renews it
	client          *http.Client
	// withdrawn says that the ConfigMap of the lines existed, and was deleted since.
	withdrawn atomic.Bool
}

// newDaemonSet reads the credentials that the kubelet mounts into a pod. reference is "namespace/name".
func newDaemonSet(reference, account, host, port string) (*daemonSet, error) {
	namespace, name, _ := strings.Cut(reference, "/")
	if host == "" || port == "" {
		return nil, errors.New("finding the API server: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: --daemonset is for " +
			"programs in pods")
	}
	authority, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the CA certificate of the API server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("reading the CA certificate of the API server: %s holds no certificate", filepath.Join(account, "ca.crt"))
	}
	return &daemonSet{
		namespace: namespace, name: name, server: "https://" + net.JoinHostPort(host, port), tokenFile: filepath.Join(account, "token"),
		client: &http.Client{
			// A process makes a watch and a few questions: that is no reason to keep connections.
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
				TLSHandshakeTimeout: lastOpening, ResponseHeaderTimeout: lastOpening, // a watch may be silent for long, but its header comes at once
			},
		},
	}, nil
}

// answer is what the API server says of an object.
type answer struct {
	status int
	reason string // of a refusal
	ending bool   // it is being deleted, and waits for its dependents or finalizers
	retry  time.Duration
}

// there reports whether the object exists, and is not being deleted.
func (a answer) there() bool { return a.status == http.StatusOK && !a.ending }

// gone reports whether the object is gone or being deleted. A refusal does not say so: an uninstall deletes the account and its role, but a
// refusal may also come of a pod that was deleted by force, which ends its token, or of an API server that has just started and does not
// know them yet.
func (a answer) gone() bool {
	if a.status == http.StatusNotFound {
		return a.reason == "NotFound" // of the object, not of a path that a proxy does not know
	}
	return a.status == http.StatusOK && a.ending
}

// gone asks until the API server says whether the DaemonSet, or its namespace, is gone, or ctx ends. If it does not say, what counts is
// whether the ConfigMap was deleted: an open watch outlives the permission for it.
func (d *daemonSet) gone(ctx context.Context) (bool, error) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		set, namespace, err := d.ask(ctx)
		switch {
		case err == nil && (set.gone() || namespace.gone()):
			return true, nil
		case err == nil && set.there() && namespace.there():
			return false, nil
		case d.withdrawn.Load():
			return true, nil
		case err == nil:
			err = fmt.Errorf("asking for DaemonSet %s/%s: the API server answers %d", d.namespace, d.name, max(set.status, namespace.status))
		}
		select {
		case <-ctx.Done():
			return d.withdrawn.Load(), err
		case <-time.After(max(pause, set.retry, namespace.retry)):
		}
	}
}

// retryAfter returns how long the API server asks its clients to wait.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil {
		return 0
	}
	return time.Duration(min(max(seconds, 0), int(askFor/time.Second))) * time.Second
}

// ask asks for the DaemonSet and for its namespace: if that is deleted, pods may be deleted before their DaemonSet.
func (d *daemonSet) ask(ctx context.Context) (set, namespace answer, err error) {
	if set, err = d.get(ctx, "/apis/apps/v1/namespaces/"+d.namespace+"/daemonsets/"+d.name); err != nil {
		return set, namespace, err
	}
	namespace, err = d.get(ctx, "/api/v1/namespaces/"+d.namespace)
	return set, namespace, err
}

func (d *daemonSet) get(ctx context.Context, path string) (answer, error) {
	response, err := d.open(ctx, path)
	if err != nil {
		return answer{}, err
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
	return answer{
		status: response.StatusCode, reason: object.Reason, ending: object.Metadata.DeletionTimestamp != "",
		retry: retryAfter(response.Header.Get("Retry-After")),
	}, nil
}

// The media types of an object: its metadata alone, in a fraction of the bytes; or all of it.
const (
	metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
	whole        = "application/json"
)

// open asks for the metadata of an object. The caller closes the body of the answer.
func (d *daemonSet) open(ctx context.Context, path string) (*http.Response, error) {
	return d.openAs(ctx, path, metadataOnly)
}

// openAs asks for an object in that media type. The caller closes the body of the answer.
func (d *daemonSet) openAs(ctx context.Context, path, form string) (*http.Response, error) {
	token, err := os.ReadFile(d.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("asking for DaemonSet %s/%s: reading the account's token: %w", d.namespace, d.name, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for DaemonSet %s/%s: %w", d.namespace, d.name, err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", form)
	response, err := d.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking for DaemonSet %s/%s: %w", d.namespace, d.name, err)
	}
	return response, nil
}
