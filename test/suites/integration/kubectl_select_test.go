package integration

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/preview"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestKubectlTCRKnowsWhoGetsWhat holds that the plugin selects, opts out and reads credentials as the manager does.
func TestKubectlTCRKnowsWhoGetsWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	p := withPlugin(t, w)
	p.namespaceWith("red", map[string]string{"color": "red"})
	p.namespaceWith("blue", map[string]string{"color": "blue"})
	p.namespaceWith("scratch", map[string]string{"color": "red", v1.OptOutLabel: "true"})
	for _, namespace := range []string{"red", "blue", "scratch"} {
		p.Eventually("its account is there", func() error { return p.lists(namespace, "default", false) })
	}
	const red = `apiVersion: tcr.tencentcloudcr.com/v1
kind: ImagePullSecret
metadata: {name: r}
spec:
  namespaceSelector: {matchLabels: {color: red}}
  docker: {secretRef: {name: team}, server: demo.example.com, additionalServers: [vpc.example.com]}
`
	planned, code := p.plan(red)
	assert.Equal(t, 1, code)
	assert.Contains(t, planned.Unread, "secret "+manager.Namespace+"/team does not exist")
	assert.Equal(t, []preview.Effect{{Op: preview.Gain, Namespace: "red", Gain: []string{"default"}}}, planned.Effects)
	p.put(basicAuth("team", "hush"))
	planned, _ = p.plan(red)
	assert.Empty(t, planned.Unread)
	assert.Equal(t, []preview.Effect{{Op: preview.Gain, Namespace: "red", Secret: true, Gain: []string{"default"}}}, planned.Effects)
	assert.Equal(t, []string{"namespace scratch"}, planned.OptedOut)

	p.Apply(red)
	p.Eventually("it happens", func() error { return p.bears("red", "default", true) })
	p.Lists("scratch", "default")
	p.Lists("blue", "default")
	planned, code = p.plan(red)
	assert.Equal(t, 0, code, "nothing would change: %v", planned)

	for _, c := range []struct {
		namespace, image string
		want             diagnose.Reason
	}{
		{"red", "vpc.example.com/app", diagnose.CredentialRefused}, {"blue", "demo.example.com/app", diagnose.NotSelected},
		{"scratch", "demo.example.com/app", diagnose.OptedOut},
	} {
		p.pod(c.namespace, "app", c.image)
		p.fails(c.namespace, "app", unauthorized)
		reasons, code := p.why("app", "-n", c.namespace)
		assert.Equal(t, []diagnose.Reason{c.want}, reasons)
		assert.Equal(t, 1, code)
	}
	out, _ := p.ask("", "why", "app", "-n", "blue")
	assert.Contains(t, out, "spec.namespaceSelector (color=red)")
	p.referred(t)
}

// referred takes away what the ImagePullSecret refers to.
func (p *plugin) referred(t *testing.T) {
	kubeconfig, err := p.KubeconfigFor("reader")
	require.NoError(t, err)
	p.Kubectl("create", "clusterrole", "reader", "--verb=get,list", "--resource=imagepullsecrets.tcr.tencentcloudcr.com")
	p.Kubectl("create", "clusterrolebinding", "reader", "--clusterrole=reader", "--user=reader")
	p.Eventually("who may not read it is told so", func() error {
		for _, command := range []string{"check", "status"} {
			out, _ := p.ask("", command, "r", "--kubeconfig="+kubeconfig)
			if !strings.Contains(out, `cannot get resource "secrets" in API group "" in the namespace "`+manager.Namespace+`"`) {
				return errors.New(out)
			}
		}
		return nil
	})
	require.NoError(t, p.Client.CoreV1().Secrets(manager.Namespace).Delete(p.Ctx, "team", metav1.DeleteOptions{}))
	reasons, code := p.why("app", "-n", "red")
	assert.Equal(t, []diagnose.Reason{diagnose.CredentialUnread, diagnose.CredentialRefused}, reasons, "what was issued stays")
	assert.Equal(t, 1, code)
	out, code := p.ask("", "check", "r")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "CredentialUnread: secret "+manager.Namespace+"/team does not exist")
	out, code = p.ask("", "status")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "CredentialUnread")
}
