package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// linked has the credential of a registry issued, and the registry reached from a private network.
func linked(registry string, domains ...v1.NetworkDomain) suite.Edit {
	return suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.RegistryID, instance.PrivateNetwork = registry, &v1.PrivateNetwork{VPCID: "vpc-a1", Domains: domains}
	})
}

func link(address string) standin.Link {
	return standin.Link{VPC: "vpc-a1", Subnet: "subnet-a1", Status: "Running", Address: address}
}

// published returns an error unless the ConfigMap that hosts-updater reads has exactly these lines, each an address and a domain.
func (w *world) published(lines ...string) error {
	found, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Get(w.Ctx, "updater-config-discovered", metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := "hosts: []\n"
	if len(lines) > 0 {
		want = "hosts:\n"
	}
	for _, line := range lines {
		address, domain, _ := strings.Cut(line, " ")
		want += fmt.Sprintf("- domain: %q\n  ip: %q\n", domain, address)
	}
	if text := found.Data["hosts.yaml"]; text != want {
		return fmt.Errorf("it has %s", text)
	}
	return nil
}

// network waits for the condition PrivateNetworkReady to be of a status, for a reason, and to say something, and returns what is shown.
func (w *world) network(name string, status metav1.ConditionStatus, reason, says string) *v1.PrivateNetworkStatus {
	w.T.Helper()
	return w.Status(name, func(now v1.ImagePullSecretStatus) error {
		condition := meta.FindStatusCondition(now.Conditions, v1.ConditionPrivateNetworkReady)
		if condition == nil || condition.Status != status || condition.Reason != reason || !strings.Contains(condition.Message, says) {
			return fmt.Errorf("it is %+v", condition)
		}
		return nil
	}).PrivateNetwork
}

func TestThePrivateAddressIsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	cloud.SetLinks(suite.RegistryID, link("10.0.0.5"))
	first := w.RunManager(manager.Options{Binary: binary, Args: cloud.Args})
	w.Create("plain")
	w.ready("plain", "Complete")
	assert.True(t, apierrors.IsNotFound(w.published()), "nobody has asked for it")

	w.Create("linked", linked(suite.RegistryID))
	w.Eventually("both domains lead to the link", func() error { return w.published("10.0.0.5 "+vpcDomain, "10.0.0.5 "+suite.RegistryDomain) })
	shown := w.network("linked", metav1.ConditionTrue, "Linked", "registry tcr-demo0001 is reached from vpc-a1 at 10.0.0.5")
	assert.Equal(t, &v1.PrivateNetworkStatus{
		VPCID: "vpc-a1", State: "Running", Address: "10.0.0.5", Domains: []string{vpcDomain, suite.RegistryDomain},
	}, shown)
	w.Eventually("an event says so", func() error { return w.told("linked", "PrivateNetworkReady") })

	w.Kubectl("delete", "configmap", "updater-config-discovered", "-n", manager.Namespace)
	w.Eventually("what somebody deletes is restored", func() error {
		return w.published("10.0.0.5 "+vpcDomain, "10.0.0.5 "+suite.RegistryDomain)
	})
	w.Kubectl("patch", "configmap", "updater-config-discovered", "-n", manager.Namespace, "--type=merge", "-p",
		`{"immutable":true,"data":{"note":"theirs"}}`)

	cloud.SetLinks(suite.RegistryID, link("10.0.0.6"))
	cloud.SetDNS(suite.RegistryID, "vpc-a1", false, "ENABLED")
	w.Eventually("the new address is found, in place of what somebody made immutable, and the domain that the cloud's DNS resolves has no line", func() error {
		return w.published("10.0.0.6 " + suite.RegistryDomain)
	})
	shown = w.network("linked", metav1.ConditionTrue, "Linked", "at 10.0.0.6")
	assert.Equal(t, []string{vpcDomain}, shown.ResolvedDomains)

	cloud.Fail("*", 0, standin.Failure{Refused: true})
	require.NoError(t, first.Stop())
	w.RunManager(manager.Options{Binary: binary, Args: cloud.Args})
	shown = w.network("linked", metav1.ConditionUnknown, "NoRoute",
		"the last answer stays in effect: registry tcr-demo0001 is reached from vpc-a1 at 10.0.0.6")
	assert.Equal(t, "10.0.0.6", shown.Address)
	require.NoError(t, w.published("10.0.0.6 "+suite.RegistryDomain))
	w.edit("linked", func(spec *v1.ImagePullSecretSpec) { spec.TCR.PrivateNetwork.Domains = []string{"r.example.com"} })
	w.Eventually("other domains are led to the address that is known", func() error { return w.published("10.0.0.6 r.example.com") })

	cloud.Recover()
	cloud.SetLinks(suite.RegistryID)
	shown = w.network("linked", metav1.ConditionFalse, "LinkMissing",
		"registry tcr-demo0001 in ap-guangzhou has no link from the private network vpc-a1: create one")
	assert.Nil(t, shown)
	require.NoError(t, w.published())
	w.Eventually("an event says so", func() error { return w.told("linked", "PrivateNetworkNotReady") })

	w.edit("linked", func(spec *v1.ImagePullSecretSpec) { spec.TCR.PrivateNetwork = nil })
	w.Eventually("nothing is published for nobody", func() error {
		if err := w.published(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	w.Status("linked", func(now v1.ImagePullSecretStatus) error {
		if now.PrivateNetwork != nil || meta.FindStatusCondition(now.Conditions, v1.ConditionPrivateNetworkReady) != nil {
			return fmt.Errorf("it tells of %+v", now.PrivateNetwork)
		}
		return nil
	})
}

// told returns an error unless there is an event of a reason on an ImagePullSecret.
func (w *world) told(name, reason string) error {
	events, err := w.Client.CoreV1().Events(metav1.NamespaceDefault).List(w.Ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=ImagePullSecret,involvedObject.name=" + name + ",reason=" + reason,
	})
	if err == nil && len(events.Items) == 0 {
		err = fmt.Errorf("there is no event %s", reason)
	}
	return err
}

func TestWhatALineMustNotFollowFromIsRefusedAndTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	for id, links := range map[string][]standin.Link{
		"tcr-public": {link("8.8.8.8")}, "tcr-none": nil, "tcr-failed": {{VPC: "vpc-a1", Status: "Failed"}},
		"tcr-one": {link("10.0.0.1")}, "tcr-two": {link("10.0.0.2")}, "tcr-fixed": {link("10.0.0.3")},
	} {
		cloud.AddRegistry(standin.Registry{ID: id, Region: "ap-guangzhou", Domain: strings.TrimPrefix(id, "tcr-") + ".tencentcloudcr.com"})
		cloud.SetLinks(id, links...)
	}
	_, err := w.Client.CoreV1().ConfigMaps(manager.Namespace).Create(w.Ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "updater-config"},
		Data:       map[string]string{"hosts.yaml": "hosts: [{domain: fixed.tencentcloudcr.com, ip: 10.9.9.9}]"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.RunManager(manager.Options{Binary: binary, Args: cloud.Args})
	for name, registry := range map[string]string{
		"public": "tcr-public", "none": "tcr-none", "failed": "tcr-failed", "fixed": "tcr-fixed", "unknown": "tcr-unknown",
	} {
		w.Create(name, linked(registry))
	}
	w.Create("one", linked("tcr-one", "default", "shared.example.com"))
	w.Create("two", linked("tcr-two", "default", "shared.example.com"))
	for name, want := range map[string]struct{ reason, says string }{
		"public":  {"AddressNotPrivate", "8.8.8.8 is not a private one"},
		"none":    {"LinkMissing", "has no link from the private network vpc-a1"},
		"failed":  {"LinkBroken", `in state "Failed"`},
		"two":     {"DomainsClash", "ImagePullSecret one leads shared.example.com to 10.0.0.1, and this one to 10.0.0.2"},
		"fixed":   {"DomainsClash", "global.hosts leads fixed.tencentcloudcr.com to 10.9.9.9, and the link's address is 10.0.0.3"},
		"unknown": {"InstanceNotFound", "region ap-guangzhou has no registry instance"},
	} {
		w.network(name, metav1.ConditionFalse, want.reason, want.says)
	}
	w.network("one", metav1.ConditionTrue, "Linked", "is reached from vpc-a1")
	all := []string{
		"10.0.0.3 fixed-vpc.tencentcloudcr.com", "10.0.0.1 one.tencentcloudcr.com", "10.0.0.1 shared.example.com",
		"10.0.0.2 two.tencentcloudcr.com",
	}
	w.Eventually("what is right is published", func() error { return w.published(all...) })

	w.Kubectl("delete", "ipss", "one")
	w.Eventually("the lines of an object go with it, and another has the domain that both led", func() error {
		return w.published(all[0], "10.0.0.2 shared.example.com", all[3])
	})
	w.network("two", metav1.ConditionTrue, "Linked", "is reached from vpc-a1")
	w.Kubectl("delete", "configmap", "updater-config", "-n", manager.Namespace)
	w.network("fixed", metav1.ConditionTrue, "Linked", "is reached from vpc-a1")
}

func TestAnAnswerAboutAnotherInstanceIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	cloud.SetLinks(suite.RegistryID, link("10.0.0.5"))
	foreign := func(response map[string]any) standin.Failure {
		body, err := json.Marshal(map[string]any{"Response": response})
		require.NoError(t, err)
		return standin.Failure{Status: http.StatusOK, Body: string(body)}
	}
	cloud.Fail("DescribeInstances", 0, foreign(map[string]any{
		"Registries": []any{map[string]any{"RegistryId": "tcr-other", "PublicDomain": "other.tencentcloudcr.com"}},
	}))
	w.RunManager(manager.Options{Binary: binary, Args: cloud.Args})
	w.Create("linked", linked(suite.RegistryID))
	w.network("linked", metav1.ConditionFalse, "BadAnswer", `another registry instance than "tcr-demo0001"`)

	cloud.Recover()
	cloud.Fail("DescribeInternalEndpointDnsStatus", 0, foreign(map[string]any{
		"VpcSet": []any{map[string]any{"VpcId": "vpc-other", "Status": "ENABLED"}},
	}))
	w.network("linked", metav1.ConditionFalse, "BadAnswer", "answered about another network")
	require.NoError(t, w.published())
	cloud.Recover()
	w.Eventually("a right answer is believed", func() error { return w.published("10.0.0.5 "+vpcDomain, "10.0.0.5 "+suite.RegistryDomain) })
}
