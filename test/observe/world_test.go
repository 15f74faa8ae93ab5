// Package observe holds what an operator can see of the product against a real control plane and a real Prometheus.
package observe

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/test/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
	"github.com/tcr-assistant/tcr-assistant/test/prometheus"
)

// hang is how long anything may take before it counts as never.
const hang = 90 * time.Second

// world is a control plane with the product running on it, and a Prometheus that scrapes it.
type world struct {
	*cluster.Cluster
	t          *testing.T // the running part of the test
	whole      *testing.T // what lasts until the end ends with it
	ctx        context.Context
	dir        string
	client     kubernetes.Interface
	ips        *typed.Client
	manager    *manager.Manager
	prometheus *prometheus.Server
	targets    map[string]string
}

// newWorld starts all of it. The test stops it when it ends.
func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	w := &world{Cluster: cluster.StartT(t, cluster.Options{Log: io.Discard}), t: t, whole: t, ctx: ctx, dir: t.TempDir(), targets: map[string]string{}}
	require.NoError(t, manager.Install(ctx, w.Cluster))
	var err error
	w.client, err = kubernetes.NewForConfig(w.RESTConfig())
	require.NoError(t, err)
	httpClient, err := rest.HTTPClientFor(w.RESTConfig())
	require.NoError(t, err)
	w.ips, err = typed.NewClient(w.RESTConfig(), httpClient)
	require.NoError(t, err)
	w.prometheus, err = prometheus.Start(ctx, w.dir, hastyAlerts(t, w.dir))
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := w.prometheus.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.run()
	w.runHostsUpdater()
	return w
}

// run starts a manager, in place of the one before, and waits until it is ready.
func (w *world) run(args ...string) {
	w.t.Helper()
	binary, err := manager.Build(w.ctx, w.dir, "controller-manager")
	require.NoError(w.t, err)
	m, err := manager.Start(w.ctx, w.Cluster, manager.Options{Binary: binary, Args: args})
	require.NoError(w.t, err)
	w.manager = m
	w.whole.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			if err := m.Stop(); err != nil {
				w.whole.Errorf("the manager did not end in order: %v", err)
			}
		}
		if w.whole.Failed() {
			lines := strings.Split(m.Log(), "\n")
			w.whole.Logf("the manager's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	ctx, cancel := context.WithTimeout(w.ctx, hang)
	defer cancel()
	require.NoError(w.t, m.Ready(ctx))
	w.scrape("manager", m.MetricsAddress)
}

func (w *world) scrape(job, address string) {
	w.t.Helper()
	w.targets[job] = address
	require.NoError(w.t, w.prometheus.Scrape(w.targets))
}

// eventually waits until check returns nil.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(hang)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(w.t, err, "%s, not within %s", what, hang)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// asks waits until Prometheus answers a query with this one value.
func (w *world) asks(query string, want float64) {
	w.t.Helper()
	w.eventually("Prometheus answers", func() error {
		if have, err := w.value(query); err != nil {
			return err
		} else if have != want {
			return fmt.Errorf("%s is %v instead of %v", query, have, want)
		}
		return nil
	})
}

// value returns the one value that Prometheus answers a query with.
func (w *world) value(query string) (float64, error) {
	samples, err := w.prometheus.Query(w.ctx, query)
	if err != nil {
		return 0, err
	}
	if len(samples) != 1 {
		return 0, fmt.Errorf("%s yields %d series instead of one", query, len(samples))
	}
	return strconv.ParseFloat(samples[0].Value, 64)
}

// firing waits until an alert fires, or does so no more.
func (w *world) firing(alert string, want bool) {
	w.t.Helper()
	w.eventually("the alert changes", func() error {
		firing, err := w.prometheus.Firing(w.ctx)
		if err == nil && firing[alert] != want {
			err = fmt.Errorf("%s fires: %v", alert, firing[alert])
		}
		return err
	})
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	stdout, stderr, err := w.Kubectl(w.ctx, args...)
	require.NoError(w.t, err, "kubectl %s: %s", strings.Join(args, " "), stderr)
	return stdout
}

// create creates an ImagePullSecret.
func (w *world) create(name, namespaces string) {
	w.t.Helper()
	_, err := w.ips.Create(w.ctx, sample(name, namespaces), metav1.CreateOptions{})
	require.NoError(w.t, err)
}

func sample(name, namespaces string) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces,
			Docker:     v1.DockerCredential{Username: "robot", Password: "password-of-" + name, Server: name + ".example.com"},
		},
	}
}

func (w *world) namespace(name string) {
	w.t.Helper()
	_, err := w.client.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

// namespaces creates many, with their default service accounts.
func (w *world) namespaces(prefix string, total int) {
	w.t.Helper()
	names := make(chan string)
	var creators sync.WaitGroup
	for range 8 {
		creators.Go(func() {
			for name := range names {
				_, _ = w.client.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			}
		})
	}
	for i := range total {
		names <- fmt.Sprintf("%s-%04d", prefix, i)
	}
	close(names)
	creators.Wait()
	w.eventually("the default service accounts exist", func() error {
		list, err := w.client.CoreV1().ServiceAccounts("").List(w.ctx, metav1.ListOptions{})
		have := 0
		if err == nil {
			for _, account := range list.Items {
				if strings.HasPrefix(account.Namespace, prefix+"-") {
					have++
				}
			}
			if have < total {
				err = fmt.Errorf("%d of %d exist", have, total)
			}
		}
		return err
	})
}

// status waits until the status of an ImagePullSecret satisfies check.
func (w *world) status(name string, check func(v1.ImagePullSecretStatus) error) {
	w.t.Helper()
	w.eventually("the status says so", func() error {
		object, err := w.ips.Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return check(object.Status)
	})
}

// fails waits until the status lists a failure of that reason, and returns it.
func (w *world) fails(name, reason string) v1.Failure {
	w.t.Helper()
	var found v1.Failure
	w.status(name, func(status v1.ImagePullSecretStatus) error {
		for _, failure := range status.Failures {
			if failure.Reason == reason {
				found = failure
				return nil
			}
		}
		return fmt.Errorf("it lists %v", status.Failures)
	})
	return found
}

// ready waits until an ImagePullSecret is ready and fails nowhere, as kubectl sees it.
func (w *world) ready(name string) {
	w.t.Helper()
	w.kubectl("wait", "--for=condition=Ready", "--timeout="+hang.String(), "ipss/"+name)
	w.status(name, func(status v1.ImagePullSecretStatus) error {
		if len(status.Failures) > 0 {
			return fmt.Errorf("it still lists %v", status.Failures)
		}
		return nil
	})
}

// told returns the events of one reason on an ImagePullSecret, one line each: "TYPE xCOUNT MESSAGE".
func (w *world) told(name, reason string) []string {
	w.t.Helper()
	events, err := w.client.CoreV1().Events("default").List(w.ctx, metav1.ListOptions{})
	require.NoError(w.t, err)
	var lines []string
	for _, event := range events.Items {
		if event.InvolvedObject.Kind == "ImagePullSecret" && event.InvolvedObject.Name == name && event.Reason == reason {
			lines = append(lines, fmt.Sprintf("%s x%d %s", event.Type, event.Count, event.Message))
		}
	}
	return lines
}

// tells waits until there is an event of that reason, and returns all of them.
func (w *world) tells(name, reason string) []string {
	w.t.Helper()
	w.eventually("an event tells of it", func() error {
		if len(w.told(name, reason)) == 0 {
			return fmt.Errorf("there is no event %s on %s", reason, name)
		}
		return nil
	})
	return w.told(name, reason)
}

// requests returns what the manager has asked the API server for.
func (w *world) requests(match func(cluster.Request) bool) []cluster.Request {
	w.t.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User && match(r) })
	require.NoError(w.t, err)
	return requests
}

// runHostsUpdater keeps a hosts file in the scratch folder, until the test ends.
func (w *world) runHostsUpdater() {
	w.t.Helper()
	config, hosts := filepath.Join(w.dir, "hosts.yaml"), filepath.Join(w.dir, "hosts")
	require.NoError(w.t, os.WriteFile(config, []byte("hosts: [{domain: registry.example.com, ip: 192.0.2.1}]\n"), 0o644))
	require.NoError(w.t, os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	w.scrape("hosts-updater", w.startHostsUpdater(config, hosts))
}

// startHostsUpdater returns the address of its metrics.
func (w *world) startHostsUpdater(config, hosts string) string {
	w.t.Helper()
	binary, err := manager.Build(w.ctx, w.dir, "hosts-updater")
	require.NoError(w.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	address := listener.Addr().String()
	require.NoError(w.t, listener.Close())
	ctx, cancel := context.WithCancel(w.ctx)
	command := exec.CommandContext(ctx, binary, "--config="+config, "--hosts-file="+hosts, "--metrics-bind-address="+address)
	require.NoError(w.t, command.Start())
	w.whole.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
	})
	return address
}
