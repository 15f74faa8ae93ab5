package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
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
		code, answer = http.StatusTeapot, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "", "code": http.StatusTeapot, "message": s.answerAll}
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

// ask runs the command against the server.
func (s *apiServer) ask(ctx context.Context, input string, args ...string) (out string, code int) {
	var buffer bytes.Buffer
	code = run(ctx, append(args, "--server="+s.URL), genericiooptions.IOStreams{In: strings.NewReader(input), Out: &buffer, ErrOut: &buffer})
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
		"spec":   object{"serviceAccountName": "default", "imagePullSecrets": entries, "containers": []object{{"name": "app", "image": "r.example.com/app:v1"}}},
		"status": object{"containerStatuses": []object{{"name": "app", "image": "", "state": object{"waiting": object{"reason": "ImagePullBackOff", "message": message}}}}}}
}

func named(name string) object { return object{"metadata": object{"name": name}} }

// issuing is an ImagePullSecret with a password for r.example.com, and where it is.
func issuing(name string) object {
	return object{"apiVersion": "tcr.tencentcloudcr.com/v1", "kind": "ImagePullSecret", "metadata": object{"name": name, "generation": 1},
		"spec": object{"namespaces": "*", "serviceAccounts": "*", "docker": object{"server": "r.example.com", "username": "robot", "password": "hush"}}}
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
		ourAPI + "/imagepullsecrets":      []object{issuing("r")},
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
		out, code := s.ask(t.Context(), "", "why", "web", "-n", "shop")
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
	out, code := s.ask(t.Context(), "", "why", "web", "-n", "shop")
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
	out, code := s.ask(t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "ManagerDown: ")
	assert.NotContains(t, out, "there is no such Deployment")
	out, code = s.ask(t.Context(), "", "status")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "manager: no replica leads\n", "and not how many of none are available")
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
	out, code := s.ask(t.Context(), "", "why", "-n", "shop")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "and 296 more\n")
	for path, times := range s.asked {
		assert.LessOrEqual(t, times, 2, path)
	}
	assert.Equal(t, 1, s.asked[shop+"/secrets/tcr.ipsr"])
}

func TestWhoStopsItGetsNoFinding(t *testing.T) {
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"plan", "-f", "-"}} {
		s := serveAPI(t, broken())
		ctx, cancel := context.WithCancel(t.Context())
		answers := 0
		s.before = func() {
			if answers++; answers == 3 {
				cancel()
			}
		}
		out, code := s.ask(ctx, "apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\nmetadata: {name: a}\n", args...)
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
	one := issuing("r")
	one["status"] = object{"observedGeneration": 1, "conditions": []object{{"type": "Ready", "status": hostile, "reason": hostile, "message": hostile}},
		"failures": []object{{"namespacedName": hostile, "reason": hostile, "message": hostile}}}
	objects[ourAPI+"/imagepullsecrets"], objects[ourAPI+"/imagepullsecrets/r"] = []object{one}, one
	objects["/api/v1/namespaces"] = []object{{"metadata": object{"name": hostile}}}
	s := serveAPI(t, objects)
	file := "apiVersion: v1\nkind: \"K\\e[2J\"\nmetadata: {name: \"n\\e[2J\"}\n---\napiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\n" +
		"metadata: {name: \"a\\e[2J\"}\nspec:\n  namespaces: \"*\"\n  serviceAccounts: \"*\"\n  \"\\e[2J\": 1\n  docker: {server: r.example.com, username: u, password: hush}\n"
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"status", "r"}, {"plan", "-f", "-"}, {"why", "x\x1b[2J"}, {"\x1b[2J"}, {"why", "-o", "\x1b[2J"}} {
		out, _ := s.ask(t.Context(), file, args...)
		assert.NotEmpty(t, out)
		assertPrintable(t, out)
		assert.NotContains(t, out, "hush")
	}
	s.answerAll = hostile
	for _, args := range [][]string{{"why", "web", "-n", "shop"}, {"status"}, {"plan", "-f", "-"}, {"check", "r"}} {
		out, code := s.ask(t.Context(), file, args...)
		assert.Equal(t, 2, code)
		assertPrintable(t, out)
	}
}
