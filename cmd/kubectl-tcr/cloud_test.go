package main

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// fromTheCloud is broken, with a credential that the cloud issues.
func fromTheCloud() map[string]any {
	objects := broken()
	one := issuing()
	one["spec"] = object{"namespaces": "*", "serviceAccounts": "*", "tcr": object{"registryId": "tcr-demo0001", "region": "ap-guangzhou"}}
	one["status"] = object{"observedGeneration": 1, "credential": object{"source": "TCR/tcr-demo0001", "expiresAt": "2027-01-02T03:04:05Z"},
		"conditions": []object{{"type": "Ready", "status": "True", "observedGeneration": 1}, {"type": "CredentialIssued", "status": "False",
			"observedGeneration": 1, "reason": "Unauthorized", "message": "the key may not call tcr:CreateInstanceToken"}}}
	objects[ourAPI+"/imagepullsecrets"], objects[ourAPI+"/imagepullsecrets/r"] = []object{one}, one
	objects[ourAPI+"/derivedattachments"] = []object{{"metadata": object{"name": "one"}, "spec": object{"rules": object{"r": object{
		"secret": "tcr.ipsr", "server": "r.example.com", "additionalServers": []string{"r-vpc.example.com"}}}}}}
	objects["/api/v1/namespaces"] = []object{named("shop")}
	return objects
}

func TestACredentialThatTheCloudIssues(t *testing.T) {
	s := serveAPI(t, fromTheCloud())
	out, code := s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 1, code)
	assert.True(t, strings.HasPrefix(out, "EntryMissing: serviceaccount shop/default\n"), out)

	out, code = s.ask(t, t.Context(), "", "status")
	assert.Equal(t, 1, code, "it is ready, and will not be for ever")
	assert.Regexp(t, `r +True +2027-01-02 03:04 .* TCR/tcr-demo0001 +r\.example\.com \+1\n`, out)
	assert.Contains(t, out, "CredentialNotIssued r: the key may not call tcr:CreateInstanceToken\n")

	const kind = "apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\nmetadata: {name: r}\n"
	const spec = "spec: {namespaces: \"*\", serviceAccounts: \"*\", "
	for says, text := range map[string]string{
		"r would change nothing\n":              spec + "tcr: {registryId: tcr-demo0001, region: ap-guangzhou}}\n",
		"~ credential: every Secret":            spec + "tcr: {registryId: tcr-demo0001, region: ap-beijing}}\n",
		"~ servers: +(the domains of tcr-else)": spec + "tcr: {registryId: tcr-else, region: ap-guangzhou}}\n",
		"~ servers: -r-vpc.example.com\n":       spec + "docker: {server: r.example.com, username: robot, password: hush}}\n",
	} {
		out, code = s.ask(t, t.Context(), kind+text, "plan", "-f", "FILE")
		assert.Equal(t, says != "r would change nothing\n", code == 1)
		assert.Contains(t, out, says)
		assert.NotContains(t, out, ".invalid")
	}
	out, _ = s.ask(t, t.Context(), strings.Replace(kind, "name: r", "name: s", 1)+spec+
		"docker: {server: r.example.com, username: robot, password: hush}}\n", "plan", "-f", "FILE")
	assert.Contains(t, out, "! imagepullsecret r gives r.example.com a credential, too, in shop")

	s.hidden = []string{"derivedattachments"}
	out, code = s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "Undecided: pod shop/web\n")
	assert.Contains(t, out, "/derivedattachments")
}

func TestACredentialThatTheCloudIssuesIsTriedAsItIsIssued(t *testing.T) {
	config := base64.StdEncoding.EncodeToString([]byte(`{"auths":{"127.0.0.1:1":{"username":"robot","password":"hush"},"localhost:1":{"username":"robot","password":"hush"}}}`))
	secret := object{"type": "kubernetes.io/dockerconfigjson", "data": object{".dockerconfigjson": config},
		"metadata": object{"name": "tcr.ipsr", "namespace": "shop", "labels": object{v1.ManagedByLabel: v1.ManagedByValue}}}
	for _, c := range []struct {
		path   string
		answer any
	}{{shop + "/secrets/tcr.ipsr", secret}, {"/api/v1/secrets", []object{secret}}} {
		objects := fromTheCloud()
		objects[c.path] = c.answer
		s := serveAPI(t, objects)
		out, code := s.ask(t, t.Context(), "", "check", "r", "-n", "shop")
		assert.Equal(t, 2, code)
		assert.Contains(t, out, "Unknown: imagepullsecret r at 127.0.0.1:1, asked from ")
		assert.Contains(t, out, "Unknown: imagepullsecret r at localhost:1, asked from ")
		assert.NotContains(t, out, "hush")
	}
	s := serveAPI(t, fromTheCloud())
	out, code := s.ask(t, t.Context(), "", "check", "r", "-n", "shop")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "no namespace has one that TCR Assistant has issued; kubectl tcr status r says why")
	s.hidden = []string{"secrets"}
	out, code = s.ask(t, t.Context(), "", "check", "r", "-n", "shop")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "cannot look at /api/v1/secrets")
}

func TestACredentialThatHasEndedIsSaidSo(t *testing.T) {
	objects := broken()
	one := issuing()
	one["status"] = object{"observedGeneration": 1, "credential": object{"source": "Inline", "expiresAt": "2026-01-02T03:04:05Z"},
		"conditions": []object{{"type": "Ready", "status": "True"}}}
	objects[ourAPI+"/imagepullsecrets"] = []object{one}
	objects[shop+"/pods/web"] = failing("web", refused, object{"name": "tcr.ipsr"})
	objects[shop+"/secrets/tcr.ipsr"] = object{"type": "kubernetes.io/dockerconfigjson",
		"metadata": object{"name": "tcr.ipsr", "namespace": "shop"},
		"data": object{".dockerconfigjson": pullsecret.Render(v1.DockerCredential{Server: "r.example.com", Username: "robot",
			Password: "hush"})}}
	s := serveAPI(t, objects)
	out, code := s.ask(t, t.Context(), "", "why", "web", "-n", "shop")
	assert.Equal(t, 1, code)
	assert.True(t, strings.HasPrefix(out, "CredentialExpired: imagepullsecret r\n"), out)
	out, code = s.ask(t, t.Context(), "", "status")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "CredentialExpired r: its credential ended at 2026-01-02 03:04 UTC\n")
}
