package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

const (
	noRoute   = "dial tcp 10.1.1.1:443: connect: connection refused"
	noTrust   = "tls: failed to verify certificate: x509: certificate is valid for other.example.com, not r.example.com"
	hostsPods = "/api/v1/namespaces/hosts/pods"
)

// linesOf is where the pod of a node tells of its hosts file.
func linesOf(node string) string { return hostsPods + "/hosts-updater-" + node + ":8081/proxy/lines" }

// led is a cluster in which r.example.com is to be led to 10.1.1.1 and fd00::2 on nodes where a pod each cannot pull from there.
func led(message string, nodes ...string) map[string]any {
	objects := broken()
	objects["/api/v1/configmaps"] = []object{{"metadata": object{"name": "updater-config", "namespace": "hosts"},
		"data": object{"hosts.yaml": "hosts:\n- {domain: r.example.com, ip: 10.1.1.1}\n- {domain: r.example.com, ip: 'fd00::2'}\n"}}}
	var updaters, pods []object
	for _, node := range nodes {
		updaters = append(updaters, object{"metadata": object{"name": "hosts-updater-" + node, "namespace": "hosts"},
			"spec": object{"nodeName": node, "containers": []object{{"name": "hosts-updater", "ports": []object{
				{"name": "other", "containerPort": 1}, {"name": "metrics", "containerPort": 8081}}}}},
			"status": object{"conditions": []object{{"type": "Ready", "status": "True"}}}})
		pod := failing("web-"+node, message)
		pod["spec"].(object)["nodeName"] = node
		pods = append(pods, pod)
		objects[linesOf(node)] = object{"lines": []object{{"domain": "r.example.com", "ip": "10.1.1.1"}}}
	}
	objects[hostsPods], objects[shop+"/pods"] = updaters, pods
	return objects
}

func TestWhyLooksIntoTheHostsFile(t *testing.T) {
	line := func(ip string) []object { return []object{{"domain": "r.example.com", "ip": ip}} }
	for name, c := range map[string]struct {
		message string
		answer  any
		want    string
	}{
		"another line wins": {noRoute, line("10.9.9.9"),
			"HostsLineOverruled: node n1\n  its hosts file gives r.example.com the address 10.9.9.9, before the line with 10.1.1.1"},
		"another line leads to another":   {noTrust, line("10.9.9.9"), "HostsLineOverruled: node n1\n"},
		"there is no line":                {noRoute, []object{}, "HostsLineMissing: node n1\n"},
		"there is one of another address": {noRoute, line("fd00::2"), "Timeout: image r.example.com/app:v1\n"},
		"it is as it should be":           {noTrust, line("10.1.1.1"), "CertificateUnknown: image r.example.com/app:v1\n"},
		"it tells of others": {noRoute, append([]object{{"domain": "\x1b[2J", "ip": "10.9.9.9"},
			{"domain": "r.example.com", "ip": "\x1b[2J"}}, line("10.9.9.9")...), "HostsLineOverruled: node n1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := led(c.message, "n1")
			objects[linesOf("n1")] = object{"lines": c.answer}
			out, code := serveAPI(t, objects).ask(t, t.Context(), "", "why", "-n", "shop")
			assert.Equal(t, 1, code)
			assert.True(t, strings.HasPrefix(out, c.want), out)
			assert.NotContains(t, out, "not seen")
			assertPrintable(t, out)
		})
	}
}

// TestWhatTheHostsFileSaysMayBeHidden does not get to the lines: what was found without them stays.
func TestWhatTheHostsFileSaysMayBeHidden(t *testing.T) {
	says := func(t *testing.T, s *apiServer, why string) {
		t.Helper()
		out, code := s.ask(t, t.Context(), "", "why", "-n", "shop")
		assert.Equal(t, 1, code)
		assert.True(t, strings.HasPrefix(out, "Timeout: image r.example.com/app:v1\n"), out)
		assert.Contains(t, out, "not seen: "+why)
		assertPrintable(t, out)
	}
	s := serveAPI(t, led(noRoute, "n1", "n2"))
	s.hidden = []string{"proxy"}
	says(t, s, "Forbidden: User \"narrow\" cannot look at "+linesOf("n1")+"\n")
	assert.Zero(t, s.asked[linesOf("n2")], "it is as forbidden")

	const asking = "asking for the hosts file of node n1, of pod hosts/hosts-updater-n1: "
	for _, c := range []struct {
		answer any
		why    string
	}{
		{nil, "the answer was 404"},
		{object{"lines": nil}, "the answer is not from hosts-updater"},
		{object{"lines": "\x1b[2J"}, "the answer is not from hosts-updater"},
		{object{"lines": []object{}, "more": true}, "it has too many lines to report all of them"},
		{object{"lines": []object{{"domain": strings.Repeat("x", 2<<20)}}}, "the answer has more than 1048576 bytes"},
	} {
		objects := led(noRoute, "n1")
		objects[linesOf("n1")] = c.answer
		says(t, serveAPI(t, objects), asking+c.why)
	}
}

func TestTheUsersTokenDoesNotFollowAPodElsewhere(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	s := serveAPI(t, led(noRoute, "n1"))
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if request.URL.Path == linesOf("n1") {
			http.Redirect(response, request, elsewhere.URL, http.StatusFound)
			return
		}
		inner.ServeHTTP(response, request)
	})
	out, _ := s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Contains(t, out, "the answer was 302")
	assert.Zero(t, reached.Load())
}

// TestNodesAreAskedOnceAndOnlyWhereTheirLinesDecide counts the requests to pods.
func TestNodesAreAskedOnceAndOnlyWhereTheirLinesDecide(t *testing.T) {
	asked := func(s *apiServer) (total int) {
		for path, times := range s.asked {
			if strings.HasSuffix(path, "/lines") {
				assert.Equal(t, 1, times, path)
				total += times
			}
		}
		return total
	}
	s := serveAPI(t, led(refused, "n1"))
	s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Zero(t, asked(s), "the registry answered")

	objects := led(noRoute, "n1")
	delete(objects, "/api/v1/configmaps")
	s = serveAPI(t, objects)
	s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Zero(t, asked(s), "there is to be no line")

	objects = led(noRoute, "n1", "n2")
	pods := objects[shop+"/pods"].([]object)
	for i := range 50 {
		again := maps.Clone(pods[i%2])
		again["metadata"] = object{"name": fmt.Sprint("more-", i), "namespace": "shop", "uid": fmt.Sprint(i)}
		pods = append(slices.Clip(pods), again)
	}
	objects[shop+"/pods"] = pods
	s = serveAPI(t, objects)
	s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Equal(t, 2, asked(s))

	objects = led(noRoute, "n1", "n2", "n3", "n4", "n5")
	for path := range objects {
		if strings.HasSuffix(path, "/lines") {
			delete(objects, path)
		}
	}
	s = serveAPI(t, objects)
	s.ask(t, t.Context(), "", "why", "-n", "shop")
	assert.Equal(t, 3, asked(s), "nobody answers")
}
