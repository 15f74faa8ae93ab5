// Package observe holds what an operator can see of the product against a real control plane and a real Prometheus.
package observe

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
	"github.com/tcr-assistant/tcr-assistant/test/harness/prometheus"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// world is a control plane with the product running on it, and a Prometheus that scrapes it.
type world struct {
	*suite.World
	whole      *testing.T // what lasts until the end ends with it
	dir        string
	cloud      *suite.Cloud
	manager    *manager.Manager
	prometheus *prometheus.Server
	targets    map[string]string
}

// newWorld starts all of it. The test stops it when it ends.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: suite.Start(t), whole: t, dir: t.TempDir(), targets: map[string]string{}}
	require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	w.cloud = w.StartCloud(func(registry *tencentcloud.Registry) { registry.Lifetime = lifetime })
	w.allow(t, secretVerbs) // for all Secrets: what is taken away is not granted again by another role
	var err error
	w.prometheus, err = prometheus.Start(w.Ctx, w.dir, hastyAlerts(t, w.dir))
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

// lifetime is how long the tokens of the cloud's registry are good. They are renewed after half of it.
const lifetime = 40 * time.Second

// run starts a manager, in place of the one before, and waits until it is ready.
func (w *world) run(args ...string) {
	w.T.Helper()
	binary, err := manager.Build(w.Ctx, w.dir, "controller-manager")
	require.NoError(w.T, err)
	w.manager = w.RunManager(manager.Options{Binary: binary, AllSecrets: true, Args: append(slices.Clone(w.cloud.Args), args...)})
	w.scrape("manager", w.manager.MetricsAddress)
}

func (w *world) scrape(job, address string) {
	w.T.Helper()
	w.targets[job] = address
	require.NoError(w.T, w.prometheus.Scrape(w.targets))
}

// Create creates a Sample whose credential is not checked, unless an edit says that it is: no server of theirs exists.
func (w *world) Create(name string, edits ...suite.Edit) *v1.ImagePullSecret {
	w.T.Helper()
	unchecked := func(spec *v1.ImagePullSecretSpec) { spec.Check = &v1.CredentialCheck{Disabled: true} }
	return w.World.Create(name, append([]suite.Edit{unchecked}, edits...)...)
}

// asks waits until Prometheus answers a query with this one value.
func (w *world) asks(query string, want float64) {
	w.T.Helper()
	w.Eventually("Prometheus answers", func() error {
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
	samples, err := w.prometheus.Query(w.Ctx, query)
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
	w.T.Helper()
	w.Eventually("the alert changes", func() error {
		firing, err := w.prometheus.Firing(w.Ctx)
		if err == nil && firing[alert] != want {
			err = fmt.Errorf("%s fires: %v", alert, firing[alert])
		}
		return err
	})
}

// namespaces creates many, with their default service accounts.
func (w *world) namespaces(prefix string, total int) {
	w.T.Helper()
	names := make(chan string)
	var creators sync.WaitGroup
	for range 8 {
		creators.Go(func() {
			for name := range names {
				_, _ = w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
					metav1.CreateOptions{})
			}
		})
	}
	for i := range total {
		names <- fmt.Sprintf("%s-%04d", prefix, i)
	}
	close(names)
	creators.Wait()
	w.Eventually("the default service accounts exist", func() error {
		list, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
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

// fails waits until the status lists a failure of that reason, and returns it.
func (w *world) fails(name, reason string) v1.Failure {
	w.T.Helper()
	var found v1.Failure
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
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
	w.T.Helper()
	w.Kubectl("wait", "--for=condition=Ready", "--timeout="+w.Hang.String(), "ipss/"+name)
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		if len(status.Failures) > 0 {
			return fmt.Errorf("it still lists %v", status.Failures)
		}
		return nil
	})
}

// told returns the events of one reason on an ImagePullSecret, one line each: "TYPE xCOUNT MESSAGE".
func (w *world) told(name, reason string) []string {
	w.T.Helper()
	events, err := w.Client.CoreV1().Events("default").List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
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
	w.T.Helper()
	w.Eventually("an event tells of it", func() error {
		if len(w.told(name, reason)) == 0 {
			return fmt.Errorf("there is no event %s on %s", reason, name)
		}
		return nil
	})
	return w.told(name, reason)
}

// requests returns what the manager has asked the API server for.
func (w *world) requests(match func(cluster.Request) bool) []cluster.Request {
	w.T.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User && match(r) })
	require.NoError(w.T, err)
	return requests
}

// runHostsUpdater keeps a hosts file in the scratch folder, until the test ends.
func (w *world) runHostsUpdater() {
	w.T.Helper()
	config, hosts := filepath.Join(w.dir, "hosts.yaml"), filepath.Join(w.dir, "hosts")
	require.NoError(w.T, os.WriteFile(config, []byte("hosts: [{domain: registry.example.com, ip: 192.0.2.1}]\n"), 0o644))
	require.NoError(w.T, os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	w.scrape("hosts-updater", w.startHostsUpdater(config, hosts))
}

// startHostsUpdater returns the address of its metrics.
func (w *world) startHostsUpdater(config, hosts string) string {
	w.T.Helper()
	binary, err := manager.Build(w.Ctx, w.dir, "hosts-updater")
	require.NoError(w.T, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.T, err)
	address := listener.Addr().String()
	require.NoError(w.T, listener.Close())
	ctx, cancel := context.WithCancel(w.Ctx)
	command := exec.CommandContext(ctx, binary, "--config="+config, "--hosts-file="+hosts, "--metrics-bind-address="+address)
	command.Env = process.Environ()
	require.NoError(w.T, command.Start())
	w.whole.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
	})
	return address
}
