package install

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/permissions"
)

// lacking finds what a manager says that it lacks: in the error that it ends with, and in a warning.
var lacking = regexp.MustCompile(`(?:permission is missing: (\S+) (\S+)(?: (\S+))? \(see (Cluster)?Role (\S+)\))|(?:msg="permission is missing" verb=(\S+) resource="?([^" ]+)(?: (\S+?))?"? role="(Cluster)?Role (\S+)")`)

// TestWhatIsMissingIsToldWithTheRoleThatGrantsIt starts a manager that may do nearly nothing with the arguments of each way to install it.
// What it says must name a role that this way renders and that grants just that.
func TestWhatIsMissingIsToldWithTheRoleThatGrantsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.Kubectl("apply", "-f", chart+"/crds")
	w.Kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", chart+"/crds")
	w.Kubectl("create", "serviceaccount", managerAccount, "-n", manager.Namespace)
	w.Kubectl("create", "clusterrole", "beginner", "--verb=get,list", "--resource=namespaces,clusterroles")
	w.Kubectl("create", "clusterrolebinding", "beginner", "--clusterrole=beginner", "--serviceaccount="+manager.Namespace+":"+managerAccount)
	kubeconfig, _ := w.tokenFor(managerAccount)
	for _, secrets := range []string{"narrowed", "all", "named"} {
		for _, webhook := range []string{"webhook.enabled=false", "webhook.mutating=auto", "webhook.mutating=true"} {
			t.Run(secrets+", "+webhook, func(t *testing.T) {
				rendered, err := w.tryHelm("template", "x", chart, "--no-hooks", "--namespace", manager.Namespace, "--kube-version", "v1.36.0",
					"--api-versions", policyAPI,
					"--set", "rbac.secrets="+secrets+","+webhook+","+oneCredential)
				require.NoError(t, err, rendered)
				grants, err := permissions.Grants([]byte(rendered))
				require.NoError(t, err)
				log := w.endsAtOnce(manager.Options{Binary: binary, Kubeconfig: kubeconfig, AllSecrets: true,
					Args: append(argsOf(t, rendered), "--log-format=text")})

				told := map[string]bool{}
				for _, found := range lacking.FindAllStringSubmatch(log, -1) {
					found = slices.Concat(found[1:6], found[6:])
					if found[0] == "" {
						found = found[5:]
					}
					verb, resource, name, role := found[0], found[1], found[2], found[4]
					told[role] = true
					assert.True(t, slices.ContainsFunc(grants, func(g permissions.Grant) bool {
						whole := strings.TrimSuffix(g.Resource+"."+g.APIGroup, ".")
						return g.Role == role && (g.Namespace == "") == (found[3] != "") && g.Verb == verb && whole == resource &&
							strings.Join(g.Names, ",") == name
					}), "%s %s %s is nothing that %s grants", verb, resource, name, role)
				}
				for _, g := range grants {
					assert.True(t, told[g.Role], "nothing of %s is missing", g.Role)
				}
			})
		}
	}
}

// endsAtOnce starts a manager that ends by itself and returns what it said.
func (w *world) endsAtOnce(options manager.Options) string {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.Ctx, w.Hang)
	defer cancel()
	m, err := manager.Start(ctx, w.Cluster, options)
	require.NoError(w.T, err)
	select {
	case <-m.Done():
	case <-time.After(w.Hang):
		w.T.Error("it goes on running")
	}
	require.Error(w.T, m.Stop(), "it ended as if all was well")
	return m.Log()
}

// argsOf returns the arguments of the manager in rendered manifests.
func argsOf(t *testing.T, rendered string) []string {
	t.Helper()
	for manifest := range strings.SplitSeq(rendered, "\n---\n") {
		var deployment appsv1.Deployment
		if yaml.Unmarshal([]byte(manifest), &deployment) == nil && deployment.Kind == "Deployment" {
			return deployment.Spec.Template.Spec.Containers[0].Args
		}
	}
	require.Fail(t, fmt.Sprintf("there is no Deployment in %d bytes", len(rendered)))
	return nil
}
