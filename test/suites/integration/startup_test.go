package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// TestBadInputAtTheStart holds that a manager which cannot do its job ends at once and says what to write instead.
func TestBadInputAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	nobody, err := w.KubeconfigFor("nobody", "system:authenticated")
	require.NoError(t, err)
	empty, garbage := filepath.Join(t.TempDir(), "empty.crt"), filepath.Join(t.TempDir(), "garbage.crt")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	require.NoError(t, os.WriteFile(garbage, []byte("authority"), 0o600))
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"a signer without a domain": {[]string{"--cert-signer=kubelet-serving"},
			[]string{"--cert-signer=kubelet-serving", "kubernetes.io/kubelet-serving"}},
		"a signer that issues no such thing": {[]string{"--cert-signer=kubernetes.io/kube-apiserver-client"},
			[]string{"--cert-signer", "use kubernetes.io/kubelet-serving"}},
		"a duration that is too short":   {[]string{"--cert-duration=9m59s"}, []string{"--cert-duration=9m59s", "10m"}},
		"a duration that is too long":    {[]string{"--cert-duration=100000h"}, []string{"--cert-duration", "ten years"}},
		"no duration":                    {[]string{"--cert-duration=90d"}, []string{"-cert-duration"}},
		"an unknown flag":                {[]string{"--no-such-flag"}, []string{"-no-such-flag"}},
		"an argument":                    {[]string{"run"}, []string{`unexpected argument "run"`}},
		"no concurrency":                 {[]string{"--concurrency=0"}, []string{"--concurrency=0: must be 1 or more"}},
		"an unknown level":               {[]string{"--log-level=loud"}, []string{"--log-level=loud: must be debug, info, warn or error"}},
		"a level that would show bodies": {[]string{"--log-level=debug-8"}, []string{"--log-level", "must be debug, info, warn or error"}},
		"a URL without TLS": {[]string{"--webhook-url=http://127.0.0.1:9443"},
			[]string{"--webhook-url", "must be https://host:port"}},
		"an unknown failure policy": {[]string{"--webhook-failure-policy=ignore"},
			[]string{"--webhook-failure-policy=ignore: must be Ignore or Fail"}},
		"several mistakes at once": {[]string{"--concurrency=0", "--log-format=xml"},
			[]string{"--concurrency=0", "--log-format=xml: must be text or json"}},
		"no address": {[]string{"--webhook-bind-address=", "--metrics-bind-address="},
			[]string{"--webhook-bind-address=: must be an address, such as :9443; for no webhook, write --webhook=false",
				"--metrics-bind-address=: must be an address, such as :8080"}},
		"a port in use": {[]string{"--webhook-bind-address=" + taken.Addr().String()},
			[]string{"--webhook-bind-address=" + taken.Addr().String(), "address already in use"}},
		"another port in use": {[]string{"--metrics-bind-address=" + taken.Addr().String()},
			[]string{"--metrics-bind-address=", "address already in use"}},
		"no file of the webhook's callers": {[]string{"--webhook-client-ca=/does/not/exist"},
			[]string{"--webhook-client-ca=/does/not/exist", "no such file", "PEM certificates of the authorities"}},
		"an empty file of callers": {[]string{"--webhook-client-ca=" + empty},
			[]string{"--webhook-client-ca=" + empty, "it is empty", "-----BEGIN CERTIFICATE-----"}},
		"a file of callers that is no PEM": {[]string{"--webhook-client-ca=" + garbage},
			[]string{"--webhook-client-ca=" + garbage, "it holds no PEM", "-----BEGIN CERTIFICATE-----"}},
		"a namespace that does not exist": {[]string{"--namespace=nowhere"}, []string{"namespace nowhere (--namespace)", "does not exist"}},
		"no kubeconfig": {[]string{"--kubeconfig=/does/not/exist"},
			[]string{"--kubeconfig", "/does/not/exist", "no such file"}},
		"no permissions at all": {[]string{"--kubeconfig=" + nobody},
			[]string{"clusterroles", "tcr-assistant-manager-role", "forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			log := w.refusesToStart(test.args...)
			for _, says := range test.says {
				assert.Contains(t, log, says)
			}
			assert.NotContains(t, log, "goroutine", "it is no panic")
		})
	}
	t.Run("a permission that is missing is named, with all others that are", func(t *testing.T) {
		w.refusals = true
		w.permit("namespaces", "list")
		w.permit("serviceaccounts", "list", "watch")
		w.Eventually("the role has taken effect", func() error {
			review, err := w.Client.AuthorizationV1().SubjectAccessReviews().Create(w.Ctx, &authorizationv1.SubjectAccessReview{
				Spec: authorizationv1.SubjectAccessReviewSpec{User: manager.User,
					ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "patch", Resource: "serviceaccounts"}},
			}, metav1.CreateOptions{})
			if err == nil && review.Status.Allowed {
				err = errors.New("it has not")
			}
			return err
		})
		log := w.refusesToStart()
		assert.Contains(t, log, "permission is missing: watch namespaces (see ClusterRole tcr-assistant-manager-role)")
		assert.Contains(t, log, "permission is missing: patch serviceaccounts")
		assert.NotContains(t, log, "permission is missing: list serviceaccounts")
	})
}

// refusesToStart starts a manager that must end by itself, not in order, and returns what it says.
func (w *world) refusesToStart(args ...string) string {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.Ctx, w.Hang)
	defer cancel()
	m, err := manager.Start(ctx, w.Cluster, manager.Options{Binary: binary, Args: append([]string{"--log-level=info"}, args...)})
	require.NoError(w.T, err)
	select {
	case <-m.Done():
	case <-time.After(w.Hang):
		w.T.Fatalf("it goes on running:\n%s", m.Log())
	}
	require.Error(w.T, m.Stop(), "it ended as if all was well")
	return m.Log()
}

// TestStartDuringAnOutage starts a manager that cannot reach the API server. It waits: one that ended would be started again
// ever later.
func TestStartDuringAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	require.NoError(t, w.StopAPIServer())
	m := w.StartManager(manager.Options{Binary: binary, Args: []string{"--log-level=info"}})
	w.Eventually("it says what it waits for, and is alive", func() error {
		if !strings.Contains(m.Log(), "connection refused") {
			return errors.New("it does not")
		}
		_, err := m.Get(w.Ctx, "/healthz")
		return err
	})
	assert.Contains(t, m.Log(), `msg="controller manager started" version=`, "which one it is that waits")
	_, err := m.Get(w.Ctx, "/readyz")
	require.Error(t, err, "it is not ready")
	require.NoError(t, w.StartAPIServer(w.Ctx))
	ctx, cancel := context.WithTimeout(w.Ctx, w.Hang)
	defer cancel()
	require.NoError(t, m.Ready(ctx))
	w.Create("patient")
	w.Holds("default", "patient")
	assert.Contains(t, w.Kubectl("get", "mutatingwebhookconfigurations", "tcr-assistant-mutating-webhook-configuration", "-o",
		"jsonpath={.webhooks[0].matchConditions}"), manager.User)
}

// TestNamesAreListedAsOfNowOnceForAll starts a manager that may read Secrets by their names alone. The API server makes whoever asks for
// a list as of now wait until it has heard of all that anybody writes.
func TestNamesAreListedAsOfNowOnceForAll(t *testing.T) {
	t.Parallel()
	const objects = 100
	w := newWorld(t)
	w.Namespace("a")
	for i := range objects {
		w.Create(fmt.Sprintf("object-%03d", i), suite.InNamespaces("a"))
	}
	w.run()
	for i := range objects {
		w.Holds("a", fmt.Sprintf("object-%03d", i))
	}
	lists, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Verb == "list" && r.Resource == "secrets" && strings.Contains(r.URI, "metadata.name%3Dtcr.ipsobject-")
	})
	require.NoError(t, err)
	later := 0
	for _, list := range lists {
		assert.NotContains(t, list.URI, "limit=", "there are few, and to fill a page some API servers read all")
		if strings.Contains(list.URI, "resourceVersionMatch=NotOlderThan") {
			later++
		}
	}
	assert.GreaterOrEqual(t, len(lists), objects)
	assert.Positive(t, later, "of %d", len(lists)) // how many depends on how busy the machine is: where one is slow, the others are as of now
}
