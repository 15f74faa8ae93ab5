package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// reads returns an error unless the hosts file has these lines of ours.
func (u *updater) reads(lines ...string) error {
	var want strings.Builder
	for _, line := range lines {
		want.WriteString(line + " # managed by tcr hosts-updater\n")
	}
	if file := u.file(); file != want.String()+others {
		return fmt.Errorf("it reads\n%s", file)
	}
	return nil
}

// discovered returns what is published for hosts-updater.
func (w *world) discovered() (*corev1.ConfigMap, error) {
	return w.Client.CoreV1().ConfigMaps(manager.Namespace).Get(w.Ctx, "updater-config-discovered", metav1.GetOptions{})
}

// mounts has a node's pod see what is published, as the kubelet does in time.
func (w *world) mounts(u *updater) {
	w.T.Helper()
	w.Eventually("it is published", func() error { _, err := w.discovered(); return err })
	published, err := w.discovered()
	require.NoError(w.T, err)
	file := filepath.Join(filepath.Dir(u.hosts), "discovered.yaml")
	require.NoError(w.T, os.WriteFile(file, []byte(published.Data["hosts.yaml"]), 0o644))
}

// TestNodesFollowThePrivateNetwork runs what is installed, with the permissions that are installed, against a cloud and a node's file.
func TestNodesFollowThePrivateNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.runHelm("install", append([]string{chart, "--set", "uninstall.keepCredentials=true"}, terraform...)...)
	cloud := w.StartCloud()
	moves := func(address string) {
		cloud.SetLinks(suite.RegistryID, tencentcloud.Link{VPC: "vpc-a1", Status: "Running", Address: address})
	}
	moves("10.0.0.5")
	m := w.run(cloud.Args...)
	u := w.runUpdater(t, manager.Namespace)

	const fixed = "10.16.0.17 fanjiankong-bj.tencentcloudcr.com"
	w.Create("linked", suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.PrivateNetwork = &v1.PrivateNetwork{Domains: []string{"default", "fanjiankong-bj.tencentcloudcr.com"}}
	}))
	w.mounts(u)
	w.Eventually("what was found stands beside what the values say, which win", func() error { return u.reads("10.0.0.5 demo.tencentcloudcr.com", fixed) })
	w.Eventually("the manager says who wins", func() error {
		return w.says("linked", "global.hosts leads fanjiankong-bj.tencentcloudcr.com to 10.16.0.17, and the link's address is 10.0.0.5")
	})

	moves("10.0.0.6")
	w.Eventually("nodes follow, before the kubelet does", func() error { return u.reads("10.0.0.6 demo.tencentcloudcr.com", fixed) })

	require.NoError(t, m.Stop())
	clash := `{"data":{"hosts.yaml":"hosts: [{domain: fanjiankong-bj.tencentcloudcr.com, ip: 10.0.0.9}]"}}`
	w.Kubectl("patch", "configmap", "updater-config-discovered", "-n", manager.Namespace, "--type=merge", "-p", clash)
	w.Eventually("what was found is overruled", func() error { return u.reads(fixed) })
	w.Eventually("hosts-updater says so", func() error {
		log, err := os.ReadFile(u.log)
		if err == nil && !strings.Contains(string(log), `"configuration overruled what was found","domain":"fanjiankong-bj.tencentcloudcr.com","found":"10.0.0.9"`) {
			err = fmt.Errorf("its log is %s", log)
		}
		return err
	})
	w.Kubectl("patch", "configmap", "updater-config-discovered", "-n", manager.Namespace, "--type=merge", "-p",
		`{"data":{"hosts.yaml":"hosts: [{domain: evil.example.com, ip: 8.8.8.8}, {domain: good.example.com, ip: 10.0.0.7}]"}}`)
	w.Eventually("only private addresses are taken", func() error { return u.reads(fixed, "10.0.0.7 good.example.com") })

	w.runHelm("uninstall")
	assert.Equal(t, others, u.ends())
	w.collectorLooks()
	w.Eventually("nothing published is left", func() error {
		if _, err := w.discovered(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// says returns an error unless a condition of an ImagePullSecret says something.
func (w *world) says(name, text string) error {
	object, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range object.Status.Conditions {
		if strings.Contains(condition.Message, text) {
			return nil
		}
	}
	return fmt.Errorf("it says %+v", object.Status.Conditions)
}
