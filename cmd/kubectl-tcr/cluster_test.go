package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

type object = map[string]any

// apiServer answers as a real one does not on demand: with refusals, and with what hurts a terminal.
type apiServer struct {
	*httptest.Server
	// objects are what there is, by path; a list is a []object.
	objects map[string]any
	// hidden are the resources that nobody may see.
	hidden []string
	// answerAll, where it is set, is the message of a refusal of everything.
	answerAll string
	// before is called before an answer.
	before func()

	mu    sync.Mutex
	asked map[string]int // by path
}

// listed are the resources whose lists are empty unless there is one.
var listed = []string{"pods", "events", "namespaces", "imagepullsecrets", "secrets", "serviceaccounts", "configmaps", "derivedattachments"}

func serveAPI(t *testing.T, objects map[string]any) *apiServer {
	t.Helper()
	t.Setenv("KUBECONFIG", "/dev/null")
	s := &apiServer{objects: objects, asked: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) answer(response http.ResponseWriter, request *http.Request) {
	path := request.URL.Path
	s.mu.Lock()
	s.asked[path]++
	s.mu.Unlock()
	if s.before != nil {
		s.before()
	}
	parts := strings.Split(path, "/")
	code, answer := http.StatusOK, s.objects[path]
	items, isList := answer.([]object)
	if answer == nil && slices.Contains(listed, parts[len(parts)-1]) {
		items, isList = []object{}, true
	}
	status := func(status int, reason string) {
		code = status
		answer = object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status,
			"message": fmt.Sprintf(`%s: User "narrow" cannot look at %s`, reason, path)}
	}
	switch {
	case slices.ContainsFunc(s.hidden, func(resource string) bool { return resource != "" && slices.Contains(parts[2:], resource) }):
		status(http.StatusForbidden, "Forbidden")
	case isList:
		answer = object{"kind": "List", "apiVersion": "v1", "metadata": object{}, "items": items}
	case answer == nil:
		status(http.StatusNotFound, "NotFound")
	default:
		answer = typed(answer.(object))
	}
	if s.answerAll != "" {
		code, answer = http.StatusTeapot, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "",
			"code": http.StatusTeapot, "message": s.answerAll}
	}
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(code)
	_ = json.NewEncoder(response).Encode(answer)
}

// typed is an object with a kind: clients want one.
func typed(one object) object {
	one = maps.Clone(one)
	if one["kind"] == nil {
		one["apiVersion"], one["kind"] = "v1", "Any"
	}
	return one
}

// ask runs the command against the server, with a file in place of FILE.
func (s *apiServer) ask(t *testing.T, ctx context.Context, file string, args ...string) (out string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	args = append([]string{args[0], "--server=" + s.URL}, args[1:]...)
	if i := slices.Index(args, "FILE"); i >= 0 {
		args[i] = path
	}
	var buffer bytes.Buffer
	code = run(ctx, args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &buffer, ErrOut: &buffer})
	return buffer.String(), code
}

const (
	shop    = "/api/v1/namespaces/shop"
	system  = "/namespaces/tcr-assistant-system"
	ourAPI  = "/apis/tcr.tencentcloudcr.com/v1"
	refused = `Back-off pulling image "r.example.com/app:v1": ErrImagePull: unexpected status from HEAD request to https://r.example.com/v2/app/manifests/v1: 401 Unauthorized`
)

// failing is a pod of shop that lists entries and cannot pull.
func failing(name, message string, entries ...object) object {
	return object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "namespace": "shop", "uid": name},
		"spec": object{"serviceAccountName": "default", "imagePullSecrets": entries,
			"containers": []object{{"name": "app", "image": "r.example.com/app:v1"}}},
		"status": object{"containerStatuses": []object{{"name": "app", "image": "",
			"state": object{"waiting": object{"reason": "ImagePullBackOff", "message": message}}}}}}
}

func named(name string) object { return object{"metadata": object{"name": name}} }

// issuing is an ImagePullSecret r with a password for r.example.com, and where it is.
func issuing() object {
	const name = "r"
	return object{"apiVersion": "tcr.tencentcloudcr.com/v1", "kind": "ImagePullSecret", "metadata": object{"name": name, "generation": 1},
		"spec": object{"namespaces": "*", "serviceAccounts": "*", "docker": object{"server": "r.example.com", "username": "robot",
			"password": "hush"}}}
}

// leading is a Lease that somebody holds.
func leading() object {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	return object{"spec": object{"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": now}}
}

// broken is a cluster in which the account of a pod lacks its entry, and all else is well.
func broken() map[string]any {
	return map[string]any{
		"/api/v1/namespaces/shop":         object{"metadata": object{"name": "shop"}},
		shop + "/pods/web":                failing("web", refused),
		shop + "/serviceaccounts/default": named("default"),
		ourAPI + "/imagepullsecrets":      []object{issuing()},
		"/apis/apps/v1" + system + "/deployments/tcr-assistant-controller-manager":                                         object{"spec": object{"replicas": 2}, "status": object{"availableReplicas": 2}},
		"/apis/coordination.k8s.io/v1" + system + "/leases/tcr-assistant-leader-election":                                  leading(),
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tcr-assistant-mutating-webhook-configuration": named("x"),
	}
}

// TestEachPermissionThatIsMissingIsNamed takes one away after the other, and then all.
func TestEachPermissionThatIsMissingIsNamed(t *testing.T) {
	decides := []string{"imagepullsecrets", "serviceaccounts"}
	all := append([]string{"events", "configmaps", "deployments", "leases", "mutatingwebhookconfigurations"}, decides...)
	for _, hidden := range all {
		s := serveAPI(t, broken())
		s.hidden = []string{hidden}
		out, code := s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
		assert.Contains(t, out, "not seen: Forbidden: User \"narrow\" cannot look at ", hidden)
		assert.Contains(t, out, "/"+hidden, "it is named")
		if slices.Contains(decides, hidden) {
			assert.Equal(t, 2, code, hidden)
			continue
		}
		assert.Equal(t, 1, code, hidden)
		assert.True(t, strings.HasPrefix(out, "EntryMissing: serviceaccount shop/default\n"), out)
		assert.NotContains(t, out, "Accounts are not born with it here", hidden)
	}
	s := serveAPI(t, broken())
	s.hidden = []string{"deployments", "leases", "mutatingwebhookconfigurations", "mutatingadmissionpolicies", "events", "configmaps"}
	out, code := s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 1, code)
	for _, resource := range s.hidden {
		assert.Contains(t, out, "/"+resource)
	}
}

func TestAManagerWhoseDeploymentCannotBeSeenIsCalledDownAllTheSame(t *testing.T) {
	objects := broken()
	delete(objects, "/apis/coordination.k8s.io/v1"+system+"/leases/tcr-assistant-leader-election")
	s := serveAPI(t, objects)
	s.hidden = []string{"deployments"}
	out, code := s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "ManagerDown: ")
	assert.NotContains(t, out, "there is no such Deployment")
	out, code = s.ask(t, t.Context(), "", "status")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "manager: no replica leads\n", "and not how many of none are available")
}

func TestWhereAManagerIsMissedIsSaid(t *testing.T) {
	s := serveAPI(t, broken())
	out, code := s.ask(t, t.Context(), "", "status", "--product-namespace=elsewhere")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "no replica leads, 0 of 0 are available in the namespace elsewhere; --product-namespace names another\n")
	out, _ = s.ask(t, t.Context(), "", "status")
	assert.Contains(t, out, "manager: a replica leads, 2 of 2 are available\n")
}

// TestManyPodsAreAskedForOnce counts what is asked for of a namespace in which every pod fails, by somebody who may not read Secrets.
func TestManyPodsAreAskedForOnce(t *testing.T) {
	objects := broken()
	var pods []object
	for i := range 300 {
		pods = append(pods, failing(fmt.Sprintf("web-%d", i), refused, object{"name": "tcr.ipsr"}))
	}
	objects[shop+"/pods"] = pods
	s := serveAPI(t, objects)
	s.hidden = []string{"secrets", "serviceaccounts"}
	out, code := s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "and 296 more\n")
	for path, times := range s.asked {
		assert.LessOrEqual(t, times, 2, path)
	}
	assert.Equal(t, 1, s.asked[shop+"/secrets/tcr.ipsr"])
}

func TestWhoStopsItGetsNoFinding(t *testing.T) {
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"plan", "-f", "FILE"}} {
		s := serveAPI(t, broken())
		ctx, cancel := context.WithCancel(t.Context())
		answers := 0
		s.before = func() {
			if answers++; answers == 3 {
				cancel()
			}
		}
		out, code := s.ask(t, ctx, "apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\nmetadata: {name: a}\n", args...)
		assert.Equal(t, 2, code, args)
		require.Contains(t, out, "error: ", args)
		assert.Equal(t, 1, strings.Count(out, "\n"), out)
	}
}

// hostile is a text that would clear a screen, set a title in two ways, reverse what follows and fake a line.
const hostile = "x\x1b[2J\x1b]0;t\x07\u009b31m\u202etxt\u2066\u2028y\r\nHealthy: z"

func assertPrintable(t *testing.T, out string) {
	t.Helper()
	for _, steers := range []string{"\x1b", "\x07", "\u009b", "\u202e", "\u2066", "\u2028", "\r", "\nHealthy: z"} {
		assert.NotContains(t, out, steers, "%q", out)
	}
}

func TestNothingOfTheClustersSteersATerminal(t *testing.T) {
	objects := broken()
	objects[shop+"/pods/web"] = failing("web", hostile)
	one := issuing()
	one["status"] = object{"observedGeneration": 1, "conditions": []object{{"type": "Ready", "status": hostile, "reason": hostile,
		"message": hostile}},
		"failures": []object{{"namespacedName": hostile, "reason": hostile, "message": hostile}}}
	objects[ourAPI+"/imagepullsecrets"], objects[ourAPI+"/imagepullsecrets/r"] = []object{one}, one
	objects["/api/v1/namespaces"] = []object{{"metadata": object{"name": hostile}}}
	s := serveAPI(t, objects)
	file := "apiVersion: v1\nkind: \"K\\e[2J\"\nmetadata: {name: \"n\\e[2J\"}\n---\napiVersion: tcr.tencentcloudcr.com/v1\nkind: " +
		"ImagePullSecret\n" +
		"metadata: {name: \"a\\e[2J\"}\nspec:\n  namespaces: \"*\"\n  serviceAccounts: \"*\"\n  \"\\e[2J\": 1\n  docker: {server: " +
		"r.example.com, username: u, password: hush}\n"
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"status", "r"}, {"plan", "-f", "FILE"}, {"why", "x\x1b[2J"},
		{"\x1b[2J"}, {"why", "-o", "\x1b[2J"}} {
		out, _ := s.ask(t, t.Context(), file, args...)
		assert.NotEmpty(t, out)
		assertPrintable(t, out)
		assert.NotContains(t, out, "hush")
	}
	s.answerAll = hostile
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"plan", "-f", "FILE"}, {"check", "r"}} {
		out, code := s.ask(t, t.Context(), file, args...)
		assert.Equal(t, 2, code)
		assertPrintable(t, out)
	}
}

// TestPlanOfFilesAsPeopleHaveThem plans what comes out of other programs.
func TestPlanOfFilesAsPeopleHaveThem(t *testing.T) {
	const spec = "spec: {namespaces: \"*\", serviceAccounts: \"*\", docker: {server: r.example.com, username: robot, password: hush}}\n"
	kind := "apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\n"
	same := kind + "metadata: {name: r, uid: x, resourceVersion: \"1\", creationTimestamp: null, managedFields: [{manager: kubectl}]}\n" +
		spec + "status: {secretsDesired: 1}\n"
	for name, c := range map[string]struct {
		input string
		says  []string
		code  int
	}{
		"what there is already": {same, []string{"imagepullsecret r would change nothing\n"}, 0},
		"a list": {"apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(same, "\n", "\n  ") + "\n",
			[]string{"r would change nothing"}, 0},
		"a list of their kind": {"apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecretList\nitems:\n- " +
			strings.ReplaceAll(same, "\n", "\n  ") + "\n", []string{"r would change nothing"}, 0},
		"several beside others": {same + "---\n" + kind + "metadata: {name: s}\n" + spec +
			"---\napiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: other}\n",
			[]string{"r would change nothing", "s would be created", "Secret x of v1 is not an ImagePullSecret"}, 1},
		"a name of the server's": {kind + "metadata: {generateName: team-}\n" + spec, []string{"imagepullsecret team-… would be created\n"}, 1},
		"no name": {kind + "metadata: {labels: {a: b}}\n" + spec, []string{"would be refused", "metadata.name: Required value"},
			1},
		"a name that is none": {kind + "metadata: {name: Team_A}\n" + spec,
			[]string{"imagepullsecret Team_A would be refused", "metadata.name: Invalid value: "}, 1},
		"a number as password": {kind + "metadata: {name: s}\n" + strings.ReplaceAll(spec, "hush", "12345"),
			[]string{"s would be refused", "spec.docker.password", "write it in quotes"}, 1},
		"a field that is unknown": {kind + "metadata: {name: s}\nspec: {docker: {pasword: hush}}\n",
			[]string{"s would be refused", `unknown field "spec.docker.pasword"`}, 1},
		"another version": {"apiVersion: tcr.tencentcloudcr.com/v2\nkind: ImagePullSecret\nmetadata: {name: r}\n",
			[]string{"ImagePullSecret r of tcr.tencentcloudcr.com/v2 is not an ImagePullSecret of tcr.tencentcloudcr.com/v1",
				"there is no ImagePullSecret in them"}, 2},
		"nothing": {"", []string{"error: reading the files: "}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			objects := broken()
			objects["/api/v1/namespaces"] = []object{named("shop")}
			objects["/api/v1/serviceaccounts"] = []object{{"metadata": object{"name": "default", "namespace": "shop"},
				"imagePullSecrets": []object{{"name": "tcr.ipsr"}}}}
			out, code := serveAPI(t, objects).ask(t, t.Context(), c.input, "plan", "-f", "FILE")
			assert.Equal(t, c.code, code, out)
			for _, says := range c.says {
				assert.Contains(t, out, says)
			}
			assert.NotContains(t, out, "hush")
			assert.NotContains(t, out, "12345")
		})
	}
}

func TestWhetherARefusedObjectIsNewIsSaid(t *testing.T) {
	const spec = "spec: {docker: {server: r.example.com, username: robot, password: 12345}}\n"
	for name, isNew := range map[string]string{"r": "false", "s": "true"} { // broken has an object r
		out, code := serveAPI(t, broken()).ask(t, t.Context(),
			"apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\nmetadata: {name: "+name+"}\n"+spec, "plan", "-f", "FILE", "-o", "json")
		assert.Equal(t, 1, code, out)
		assert.Contains(t, out, `"new": `+isNew, name)
	}
}

func TestAnAddressIsNotRepeatedWithItsPassword(t *testing.T) {
	s := serveAPI(t, broken())
	out, code := s.ask(t, t.Context(), "", "plan", "-f", "http://robot:hush@"+strings.TrimPrefix(s.URL, "http://")+"/file.yaml?token=hush")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "/file.yaml")
	assert.NotContains(t, out, "hush")
}

func TestWhoNamesNoClusterIsToldWhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	t.Setenv("KUBECONFIG", path)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, command := range [][]string{{"status"}, {"why", "web"}, {"check", "r"}} {
		var out bytes.Buffer
		code := run(t.Context(), command, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
		assert.Equal(t, 2, code)
		assert.Equal(t, "error: reading the kubeconfig: no cluster is named in "+path+": name another file in KUBECONFIG or with --kubeconfig\n",
			out.String())
	}
}

func TestWhatIsAdvisedIsAboutWhereItIsInstalled(t *testing.T) {
	objects := broken()
	delete(objects, "/apis/coordination.k8s.io/v1"+system+"/leases/tcr-assistant-leader-election")
	out, _ := serveAPI(t, objects).ask(t, t.Context(), "", "why", "web", "-n", "shop", "--product-namespace=elsewhere")
	assert.Contains(t, out, "ManagerDown: deployment elsewhere/tcr-assistant-controller-manager\n")
	assert.Contains(t, out, "kubectl describe deployment -n elsewhere ")

	objects[shop+"/pods/web"] = failing("web", "dial tcp: lookup r.example.com: no such host")
	objects[shop+"/pods/web"].(object)["spec"].(object)["nodeName"] = "n1"
	objects["/api/v1/configmaps"] = []object{{"metadata": object{"name": "updater-config", "namespace": "hosts"},
		"data": object{"hosts.yaml": "hosts:\n- domain: r.example.com\n  ip: 10.1.1.1\n"}}}
	out, _ = serveAPI(t, objects).ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Contains(t, out, "HostsLineMissing: node n1\n")
	assert.Contains(t, out, "kubectl get pods -n hosts ")

	const hosts = "/api/v1/namespaces/hosts/configmaps"
	objects["/api/v1/configmaps"].([]object)[0]["data"] = object{"hosts.yaml": "hosts: []\n"}
	out, _ = serveAPI(t, objects).ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.NotContains(t, out, "HostsLineMissing")
	objects[hosts] = []object{{"metadata": object{"name": "updater-config-discovered", "namespace": "hosts"},
		"data": object{"hosts.yaml": "hosts:\n- domain: r.example.com\n  ip: 10.1.1.2\n"}}}
	out, _ = serveAPI(t, objects).ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Contains(t, out, "HostsLineMissing: node n1\n", "the manager has found it")
	assert.Contains(t, out, "should give r.example.com the address 10.1.1.2")
}
