package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
	"github.com/tcr-assistant/tcr-assistant/preview"
)

// TestLinked holds what only this command needs out of the others.
func TestLinked(t *testing.T) {
	links := func(command string) func(part string) bool {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", command).Output()
		require.NoError(t, err)
		return func(part string) bool { return strings.Contains(string(out), part) }
	}
	here, manager, updater := links("."), links("../controller-manager"), links("../hosts-updater")
	for _, only := range []string{"github.com/spf13/cobra", "k8s.io/cli-runtime/", "sigs.k8s.io/kustomize/", "k8s.io/client-go/dynamic",
		"tcr-assistant/diagnose/gather", "tcr-assistant/preview"} {
		assert.True(t, here(only), only)
		assert.False(t, manager(only), only)
		assert.False(t, updater(only), only)
	}
	for _, shared := range []string{"github.com/distribution/reference", "tcr-assistant/image", "oras.land/", "tcr-assistant/credential/check",
		"tcr-assistant/diagnose\n"} {
		assert.True(t, here(shared), shared)
		assert.True(t, manager(shared), "%s: it checks and heals by the same rules", shared)
		assert.False(t, updater(shared), shared)
	}
	for _, foreign := range []string{"tcr-assistant/reconcile", "tcr-assistant/webhook", "k8s.io/client-go/kubernetes\n"} {
		assert.False(t, here(foreign), foreign)
	}
}

func ask(args ...string) (out string, code int) {
	var buffer bytes.Buffer
	code = run(context.Background(), args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &buffer, ErrOut: &buffer})
	return buffer.String(), code
}

func TestWhatCannotBeReadEndsWithTwo(t *testing.T) {
	for _, args := range [][]string{
		{"unknown"}, {"why", "a", "b"}, {"why", "-o", "table"}, {"plan"}, {"plan", "-f", "/nonexistent"}, {"status",
			"--kubeconfig=/nonexistent"}, {"check"},
	} {
		out, code := ask(args...)
		assert.Equal(t, 2, code, args)
		assert.Contains(t, out, "error: ", args)
	}
}

func TestWhoCallsItWronglyIsToldWhatToWrite(t *testing.T) {
	for says, args := range map[string][]string{
		"kubectl tcr --help lists the commands\n": {"wyh"},
		"write kubectl tcr why [POD | KIND/NAME]": {"why", "a", "b"},
		"write kubectl tcr plan -f FILE":          {"plan", "file.yaml"},
		"write kubectl tcr status [NAME]":         {"status", "a", "b"},
		"write kubectl tcr check NAME":            {"check"},
		`--realm[1]: Invalid value: "https://auth.example.org": must be a host without a scheme`: {"check", "a", "--realm=auth.example.com", "--realm=https://auth.example.org"},
	} {
		out, code := ask(args...)
		assert.Equal(t, 2, code, args)
		assert.Contains(t, out, says)
	}
}

func TestAFileThatCannotBeReadIsNotRepeated(t *testing.T) {
	for _, password := range []string{"*hush", "!!int hush", "@hush", `"hush\q"`, "{hush", "hush: hush", "'hush"} {
		file := filepath.Join(t.TempDir(), "file.yaml")
		text := "apiVersion: tcr.tencentcloudcr.com/v1\nkind: ImagePullSecret\nmetadata: {name: a}\nspec:\n  docker:\n    password: " + password +
			"\n"
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, code := ask("plan", "-f", file)
		assert.Equal(t, 2, code)
		assert.Contains(t, out, "error: reading the files: ", password)
		assert.NotContains(t, out, "hush", password)
	}
}

func TestNothingIsShownThatARegistrySendsUnasked(t *testing.T) {
	log.SetOutput(t.Output())
	ask("unknown")
	assert.Equal(t, io.Discard, log.Writer(), "net/http writes it there")
}

func TestCompletion(t *testing.T) {
	out, code := ask("completion", "bash")
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "__start_kubectl")
	out, code = ask("__complete", "why", "--output", "")
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "json\nyaml\n")
}

func TestTarget(t *testing.T) {
	for argument, want := range map[string]string{
		"": "namespace shop", "web-1": "pod shop/web-1", "pod/web-1": "pod shop/web-1", "deploy/web": "deployment shop/web",
		"Deployment/web": "deployment shop/web", "deployments.apps/web": "deployment shop/web", "ns/other": "namespace other",
		"namespace/other": "namespace other",
		"job/once":        "job shop/once", "sts/db": "statefulset shop/db", "ds/agent": "daemonset shop/agent",
		"rs/web-1": "replicaset shop/web-1",
	} {
		target, err := gather.ParseTarget(argument, "shop")
		require.NoError(t, err, argument)
		assert.Equal(t, want, target.String(), argument)
	}
	for _, bad := range []string{"deployment/", "service/web", "cronjob/x"} {
		_, err := gather.ParseTarget(bad, "shop")
		assert.Error(t, err, bad)
	}
}

func TestFindingsOfManyPodsAreToldOnce(t *testing.T) {
	e := explanation{Findings: []diagnose.Finding{
		{Reason: diagnose.PodOlderThanEntry, Object: "pod a/1", Message: "m", Action: "do"},
		{Reason: diagnose.PodOlderThanEntry, Object: "pod a/2", Message: "m", Action: "do"},
		{Reason: diagnose.PodOlderThanEntry, Object: "pod a/3", Message: "m", Action: "do"},
		{Reason: diagnose.PodOlderThanEntry, Object: "pod a/4", Message: "m", Action: "do"},
		{Reason: diagnose.PodOlderThanEntry, Object: "pod a/5", Message: "m", Action: "do"},
		{Reason: diagnose.RateLimited, Object: "image \x1b[31mnginx", Message: "m\nn", Action: "wait"},
	}, NextTry: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), Unseen: []diagnose.Unseen{{Part: diagnose.PartNode,
		Why: "why"}, {Part: diagnose.PartSecrets, Why: "why"}}}
	var out bytes.Buffer
	e.text(page{Writer: &out})
	assert.Equal(t, `PodOlderThanEntry: pod a/1
  m
  To do: do
  the same: pod a/2
  the same: pod a/3
  the same: pod a/4
  and 1 more
RateLimited: image  [31mnginx
  m n
  To do: wait
The kubelet tries again at about 10:00:00 UTC.
not seen: why
`, out.String())
	out.Reset()
	e.text(page{Writer: &out, colour: true})
	assert.Contains(t, out.String(), "\x1b[31mPodOlderThanEntry\x1b[0m", "colours, where they are wanted")
}

func TestVerdict(t *testing.T) {
	verdict := func(reasons ...diagnose.Reason) error {
		var e explanation
		for _, reason := range reasons {
			e.Findings = append(e.Findings, diagnose.Finding{Reason: reason})
		}
		return e.verdict()
	}
	assert.NoError(t, verdict(diagnose.Healthy))
	assert.Equal(t, errFound, verdict(diagnose.Timeout))
	assert.Equal(t, errBlocked, verdict(diagnose.Undecided))
	assert.Equal(t, errFound, verdict(diagnose.Undecided, diagnose.Timeout))
}

// TestKrewManifest holds the manifest to what "make krew" fills in.
func TestKrewManifest(t *testing.T) {
	text, err := os.ReadFile("../../deploy/krew/tcr.yaml")
	require.NoError(t, err)
	var manifest struct {
		Spec struct {
			Version   string `json:"version"`
			Platforms []struct {
				Selector metav1.LabelSelector `json:"selector"`
				URI      string               `json:"uri"`
				SHA256   string               `json:"sha256"`
				Bin      string               `json:"bin"`
			} `json:"platforms"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal(text, &manifest))
	assert.Equal(t, "@VERSION@", manifest.Spec.Version)
	require.Len(t, manifest.Spec.Platforms, 5)
	for _, one := range manifest.Spec.Platforms {
		system := one.Selector.MatchLabels["os"]
		platform := system + "_" + one.Selector.MatchLabels["arch"]
		assert.Equal(t, "@URL@/kubectl-tcr_"+platform+".tar.gz", one.URI)
		assert.Equal(t, "@"+platform+"@", one.SHA256)
		assert.Equal(t, system == "windows", strings.HasSuffix(one.Bin, ".exe"))
	}
}

// team is an ImagePullSecret of two servers whose credential stands in a Secret.
func team() *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r"}}
	object.Spec.Docker = v1.DockerCredential{Server: "r.example.com", AdditionalServers: []string{"vpc.example.com", "x.example.com"},
		SecretRef: &v1.SecretReference{Name: "team-a"}}
	object.Status.Conditions = []metav1.Condition{{Type: v1.ConditionReady, Status: metav1.ConditionTrue}}
	return object
}

func holding(secret *corev1.Secret) credential.Seen {
	return credential.Seen{Namespace: "system", Secrets: map[string]*corev1.Secret{"team-a": secret}}
}

func basicAuth(username string) *corev1.Secret {
	const password = "hush"
	return &corev1.Secret{Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte(username),
		"password": []byte(password)}}
}

func TestCheckTriesTheCredentialAtEachServer(t *testing.T) {
	logins, came, err := loginsOf(team(), holding(basicAuth("robot")),
		check.Login{Image: "vpc.example.com/team/app:v1", Realms: []string{"auth"}})
	require.NoError(t, err)
	assert.Empty(t, came)
	assert.Equal(t, []check.Login{
		{Server: "r.example.com", Username: "robot", Password: "hush", Realms: []string{"auth"}},
		{Server: "vpc.example.com", Username: "robot", Password: "hush", Realms: []string{"auth"}, Image: "vpc.example.com/team/app:v1"},
		{Server: "x.example.com", Username: "robot", Password: "hush", Realms: []string{"auth"}},
	}, logins)
	inline := team()
	inline.Spec.Docker = v1.DockerCredential{Server: "r.example.com", Username: "me", Password: "hush"}
	logins, _, err = loginsOf(inline, credential.Seen{}, check.Login{})
	require.NoError(t, err)
	assert.Equal(t, []check.Login{{Server: "r.example.com", Username: "me", Password: "hush"}}, logins)

	for name, secret := range map[string]*corev1.Secret{"does not exist": nil, "must not hold": basicAuth("robot:hush")} {
		logins, came, err := loginsOf(team(), holding(secret), check.Login{})
		require.NoError(t, err)
		assert.Empty(t, logins)
		require.Len(t, came, 1)
		assert.Equal(t, "CredentialUnread", came[0].Reason)
		assert.Contains(t, came[0].Message, name)
		assert.NotContains(t, came[0].Message, "hush")
	}
	inline.Spec.Docker.Server = "robot:hush@r.example.com"
	_, _, err = loginsOf(inline, credential.Seen{}, check.Login{})
	require.ErrorContains(t, err, "reading imagepullsecret r: spec.docker.server: Forbidden")
	assert.NotContains(t, err.Error(), "hush")
}

func TestOneServerThatRefusesDecides(t *testing.T) {
	verdict := func(verdicts ...check.Verdict) error {
		var c checked
		for _, one := range verdicts {
			c.Servers = append(c.Servers, attempt{Result: check.Result{Verdict: one}})
		}
		return c.verdict()
	}
	assert.NoError(t, verdict(check.Valid, check.Valid))
	assert.Equal(t, errBlocked, verdict(check.Valid, check.Unknown))
	assert.Equal(t, errFound, verdict(check.Unknown, check.Refused, check.Valid))
}

func TestPlanAsText(t *testing.T) {
	var out bytes.Buffer
	planned{Objects: []preview.Preview{
		{Name: "r", GainServers: []string{"vpc.example.com"}, LoseServers: []string{"x.example.com"}, Credential: true,
			Healing: v1.HealingEvict,
			Unread:  "secret system/gone does not exist",
			Effects: []preview.Effect{{Op: preview.Gain, Namespace: "a", Secret: true, Gain: []string{"default", "builder"}},
				{Op: preview.Lose, Namespace: "b", Secret: true, Lose: []string{"default"}},
				{Op: preview.Change, Namespace: "c", Gain: []string{"one"}, Lose: []string{"two", "three"}}},
			OptedOut: []string{"namespace scratch", "serviceaccount a/quiet"}},
		{Name: "s", OptedOut: []string{"namespace scratch"}},
		{Name: "t", Healing: v1.HealingNever},
		{Refused: []string{"metadata.name: Required value"}},
	}}.text(page{Writer: &out})
	assert.Equal(t, `imagepullsecret r would be changed
~ servers: +vpc.example.com -x.example.com
~ credential: every Secret is rewritten in place
~ pods that came before the credential: Evict, which evicts those that wait for an image, from then on
+ namespace a: secret tcr.ipsr; serviceaccounts default builder
- namespace b: secret tcr.ipsr; serviceaccounts default
~ namespace c: serviceaccounts +one -two -three
= namespace scratch: opted out by its label tcr.tencentcloudcr.com/opt-out, gets nothing
= serviceaccount a/quiet: opted out by its label tcr.tencentcloudcr.com/opt-out, gets nothing
! the credential cannot be read, and until it can, no Secret is written: secret system/gone does not exist
imagepullsecret s would change nothing
= namespace scratch: opted out by its label tcr.tencentcloudcr.com/opt-out, gets nothing
imagepullsecret t would be changed
~ pods that came before the credential: Never, none is evicted from then on
imagepullsecret without a name would be refused
! metadata.name: Required value
`, out.String())
}
