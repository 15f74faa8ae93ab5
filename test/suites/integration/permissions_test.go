package integration

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/permissions"
)

// requests are what the managers of all tests have asked for under the roles that are installed.
var requests struct {
	mu  sync.Mutex
	all []cluster.Request
}

// noteRequests keeps what the world's managers asked for. None of it may have lacked a permission, unless the test
// saw to it.
func (w *world) noteRequests() {
	made, err := w.Requests(func(r cluster.Request) bool { return r.User == manager.User })
	if !assert.NoError(w.T, err) || w.refusals {
		return
	}
	for _, refused := range permissions.Refused(made) {
		w.T.Errorf("the installed roles do not allow %s %s", refused.Verb, refused.URI)
	}
	requests.mu.Lock()
	defer requests.mu.Unlock()
	requests.all = append(requests.all, made...)
}

func TestASecretInTheWayOfTheCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Kubectl("create", "secret", "generic", "tcr-assistant-webhook-server-cert", "-n", manager.Namespace, "--from-literal=a=b")
	w.run()
	assert.Equal(t, "kubernetes.io/tls", w.Kubectl("get", "secret", "tcr-assistant-webhook-server-cert", "-n", manager.Namespace, "-o",
		"jsonpath={.type}"))
}

// reportPermissions fails where the roles that are installed grant what no test has made use of.
func reportPermissions() (code int) {
	manifest, err := os.ReadFile("../../../deploy/allinone/tcr-assistant.yaml")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	grants, err := permissions.Grants(manifest)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	unused := permissions.Unused(append(grants, permissions.Listed(secretsrole.Manager)...), requests.all)
	for _, grant := range unused {
		fmt.Fprintf(os.Stderr, "a permission was never used: %s\n", grant)
	}
	return min(len(unused), 1)
}
