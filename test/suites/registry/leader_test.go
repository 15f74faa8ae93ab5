package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// folder holds the commands under test.
var folder string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "tcr-assistant-registry-"); err == nil {
			defer os.RemoveAll(folder)
			for _, command := range []string{"controller-manager", "kubectl-tcr"} {
				_, failed := manager.Build(context.Background(), folder, command)
				err = errors.Join(err, failed)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// world is a control plane with the product running on it, and registries.
type world struct {
	*suite.World
	*registries
	managers []*manager.Manager
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: suite.Start(t), registries: startRegistries(t)}
	require.NoError(t, manager.Install(w.Ctx, w.Cluster))
	return w
}

func (w *world) run(options manager.Options) *manager.Manager {
	w.T.Helper()
	options.Binary = folder + "/controller-manager"
	m := w.RunManager(options)
	w.managers = append(w.managers, m)
	return m
}

// keep creates a Secret in the manager's namespace.
func (w *world) keep(secret *corev1.Secret) {
	w.T.Helper()
	_, err := w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx, secret, metav1.CreateOptions{})
	require.NoError(w.T, err)
}

// authority is a Secret with authorities of registries.
func authority(name string, text []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"ca.crt": text}}
}

// of edits a spec to what a situation is.
func (s situation) of(spec *v1.ImagePullSecretSpec) {
	spec.Namespaces = "default"
	spec.Docker = v1.DockerCredential{Server: s.server, Username: s.user, Password: s.password}
	spec.Check = &v1.CredentialCheck{Image: s.image, Realms: s.realms, CASecretRef: &v1.SecretReference{Name: "registry-ca"}}
	if s.stranger {
		spec.Check.CASecretRef = nil
	}
}

// conditions are what is said of a verdict.
var conditions = map[check.Verdict]metav1.ConditionStatus{
	check.Valid: metav1.ConditionTrue, check.Refused: metav1.ConditionFalse, check.Unknown: metav1.ConditionUnknown,
}

// says waits until the condition CredentialValid is so, and returns the status.
func (w *world) says(name string, status metav1.ConditionStatus, reason string) v1.ImagePullSecretStatus {
	w.T.Helper()
	var seen v1.ImagePullSecretStatus
	w.Within(3*time.Minute, name+" is checked", func() error {
		object, err := w.IPS.Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		seen = object.Status
		condition := meta.FindStatusCondition(seen.Conditions, v1.ConditionCredentialValid)
		if condition == nil || condition.Status != status || condition.Reason != reason || condition.ObservedGeneration != object.Generation {
			return fmt.Errorf("%s: the condition is %v", name, condition)
		}
		return nil
	})
	return seen
}

// checkNow returns what "kubectl tcr check" says of the first server.
func (w *world) checkNow(name string) check.Result {
	w.T.Helper()
	command := w.KubectlCommand(w.Ctx, "tcr", "check", name, "-o", "json")
	command.Env = append(command.Env, "PATH="+folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := command.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		require.NoError(w.T, err)
	}
	assert.NotContains(w.T, string(out), secret)
	var checked struct{ Servers []check.Result }
	require.NoError(w.T, json.Unmarshal(out, &checked), string(out))
	require.NotEmpty(w.T, checked.Servers)
	return checked.Servers[0]
}

// token is a JSON Web Token that ends then, for all that it says of itself.
func token(ends time.Time) string {
	payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, ends.Unix()))
	return "hush." + payload + ".hush"
}

func TestTheLeaderSaysWhetherCredentialsAreValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leader := w.run(manager.Options{})
	follower := w.run(manager.Options{WebhookURL: "https://" + leader.WebhookAddress})
	began := time.Now()
	w.keep(authority("registry-ca", w.authorities))
	situations := w.situations(t)
	for _, s := range situations {
		w.Create(s.name, s.of)
	}
	right := situations[0]
	w.Create("disabled", right.of, func(spec *v1.ImagePullSecretSpec) { spec.Check.Disabled = true })
	w.Create("unauthorized", right.of, func(spec *v1.ImagePullSecretSpec) { spec.Check.CASecretRef.Name = "missing" })
	w.Create("revoked", right.of, func(spec *v1.ImagePullSecretSpec) {
		spec.Docker.Username, spec.Check.Interval = "revoked", "1m"
	})
	w.Create("proxied", right.of, func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = proxiedHost })
	w.expiring(right)

	t.Run("nothing waits for it", func(t *testing.T) {
		for _, s := range situations {
			w.Kubectl("wait", "--for=condition=Ready", "--timeout=60s", "ipss/"+s.name)
			w.Holds("default", s.name)
		}
	})
	t.Run("each says what its registry does, and kubectl tcr check says the same", func(t *testing.T) {
		for _, s := range situations {
			status := w.says(s.name, conditions[s.verdict], s.reason)
			condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
			assert.Contains(t, condition.Message, s.says, s.name)
			assert.WithinRange(t, status.Credential.CheckedAt.Time, began.Truncate(time.Second), time.Now(), s.name)
			if s.verdict == check.Refused || s.image != "" || s.name == "token-elsewhere" {
				now := w.checkNow(s.name)
				assert.Equal(t, check.Result{Verdict: s.verdict, Reason: s.reason, Message: now.Message}, now, s.name)
			}
		}
		w.says("unauthorized", metav1.ConditionUnknown, "AuthoritiesMissing")
		assert.Equal(t, "AuthoritiesMissing", w.checkNow("unauthorized").Reason)
		assert.True(t, ready(w.Status("wrong", func(v1.ImagePullSecretStatus) error { return nil })), "it is told and withheld from nobody")
		disabled := w.Status("disabled", func(v1.ImagePullSecretStatus) error { return nil })
		assert.Nil(t, meta.FindStatusCondition(disabled.Conditions, v1.ConditionCredentialValid))
		assert.Nil(t, disabled.Credential.CheckedAt)
	})
	t.Run("authorities that come are tried before the next check would be", func(t *testing.T) {
		w.keep(authority("missing", w.authorities))
		w.says("unauthorized", metav1.ConditionTrue, "LoggedIn")
	})
	t.Run("what is revoked is found out", func(t *testing.T) {
		w.says("revoked", metav1.ConditionTrue, "LoggedIn")
		w.revoke(t)
		w.says("revoked", metav1.ConditionFalse, "Unauthorized")
	})
	t.Run("what is corrected is, too", func(t *testing.T) {
		w.Kubectl("patch", "ipss", "wrong", "--type=merge", "-p", `{"spec":{"docker":{"password":"`+secret+`"}}}`)
		w.says("wrong", metav1.ConditionTrue, "LoggedIn")
	})
	t.Run("the leader counts it, and a follower counts none", func(t *testing.T) { w.counts(t, leader, follower) })
	t.Run("kubectl shows until when a credential is good", func(t *testing.T) { w.showsTheEnd(t) })
	t.Run("a status is written where something changed", func(t *testing.T) {
		writes, err := w.Requests(func(r cluster.Request) bool {
			return r.User == manager.User && r.Subresource == "status" && r.Name == right.name
		})
		require.NoError(t, err)
		assert.LessOrEqual(t, len(writes), 4, "%d writes in %s", len(writes), time.Since(began))
		assert.NotEmpty(t, writes)
	})
	t.Run("another leader asks nobody who was asked, and asks by its proxy", func(t *testing.T) {
		w.says("proxied", metav1.ConditionUnknown, "NameNotResolved")
		before := w.tokened.Logins()
		for _, m := range w.managers {
			require.NoError(t, m.Stop())
		}
		proxy, asked := w.startProxy(t)
		w.run(manager.Options{Env: []string{"HTTPS_PROXY=" + proxy, "NO_PROXY="}})
		w.Kubectl("patch", "ipss", "proxied", "--type=merge", "-p", `{"spec":{"check":{"image":"team/app:v1"}}}`)
		w.says("proxied", metav1.ConditionTrue, "LoggedIn")
		assert.Contains(t, asked(), "CONNECT "+proxiedHost+":443")
		assert.GreaterOrEqual(t, time.Since(began), time.Minute)
		assert.Equal(t, before, w.tokened.Logins(), "it was not long ago")
		w.says("token-right", metav1.ConditionTrue, "LoggedIn")
	})
	t.Run("no password is told", func(t *testing.T) { w.tellsNoPassword(t) })
}

func ready(status v1.ImagePullSecretStatus) bool {
	return meta.IsStatusConditionTrue(status.Conditions, v1.ConditionReady)
}

// ends is when what expiring creates says that it ends.
var ends = time.Date(2031, 5, 1, 10, 0, 0, 0, time.UTC)

// expiring creates credentials that say when they end.
func (w *world) expiring(right situation) {
	w.T.Helper()
	off := func(spec *v1.ImagePullSecretSpec) { spec.Check = &v1.CredentialCheck{Disabled: true} }
	w.Create("token", right.of, off, func(spec *v1.ImagePullSecretSpec) { spec.Docker.Password = token(ends) })
	for name, annotation := range map[string]string{"annotated": ends.Format(time.RFC3339), "misannotated": "hush, on the first of May"} {
		w.keep(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{v1.ExpiresAtAnnotation: annotation}},
			Type:       corev1.SecretTypeBasicAuth, StringData: map[string]string{"username": "robot", "password": secret},
		})
		w.Create(name, right.of, off, func(spec *v1.ImagePullSecretSpec) {
			spec.Docker.Username, spec.Docker.Password, spec.Docker.SecretRef = "", "", &v1.SecretReference{Name: name}
		})
	}
}

func (w *world) showsTheEnd(t *testing.T) {
	for _, name := range []string{"token", "annotated"} {
		w.Status(name, func(status v1.ImagePullSecretStatus) error {
			if status.Credential == nil || status.Credential.ExpiresAt == nil || !status.Credential.ExpiresAt.Equal(&metav1.Time{Time: ends}) {
				return fmt.Errorf("it says %v", status.Credential)
			}
			return nil
		})
		assert.Contains(t, w.Kubectl("get", "ipss", name, "-o", "wide"), "2031-05-01T10:00:00Z")
	}
	assert.Regexp(t, `VALID +VALID-UNTIL`, w.Kubectl("get", "ipss", "-o", "wide"))
	status := w.Status("misannotated", func(v1.ImagePullSecretStatus) error { return nil })
	assert.True(t, ready(status), "it is told, and not fatal")
	assert.Nil(t, status.Credential.ExpiresAt)
	assert.Contains(t, status.Credential.ExpiryUnread,
		"the annotation tcr.tencentcloudcr.com/expires-at of secret tcr-assistant-system/misannotated")
	command := w.KubectlCommand(w.Ctx, "tcr", "status")
	command.Env = append(command.Env, "PATH="+folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, _ := command.Output() // some are refused, so it ends with 1
	assert.Regexp(t, `annotated +True +2031-05-01 10:00 `, string(out))
	assert.Contains(t, string(out), "CredentialRefused token-wrong: ")
	assert.Contains(t, string(out), "misannotated: it is not known when its credential expires: ")
}

func (w *world) counts(t *testing.T, leader, follower *manager.Manager) {
	series := func(m *manager.Manager) map[string]string {
		text, err := m.Get(w.Ctx, "/metrics")
		require.NoError(t, err)
		found := map[string]string{}
		for line := range strings.Lines(text) {
			if name, value, is := strings.Cut(strings.TrimSpace(line), " "); is && strings.HasPrefix(name, "tcr_assistant_credential_") {
				found[strings.TrimPrefix(name, "tcr_assistant_credential_")] = value
			}
		}
		return found
	}
	w.Eventually("the leader counts", func() error {
		have := series(leader)
		for name, want := range map[string]string{
			`valid{image_pull_secret="right"}`: "1", `valid{image_pull_secret="token-wrong"}`: "0", `valid{image_pull_secret="limited"}`: "",
			`valid{image_pull_secret="disabled"}`:                     "",
			`expiry_timestamp_seconds{image_pull_secret="token"}`:     fmt.Sprintf("%.9g", float64(ends.Unix())),
			`expiry_timestamp_seconds{image_pull_secret="annotated"}`: fmt.Sprintf("%.9g", float64(ends.Unix())),
			`expiry_timestamp_seconds{image_pull_secret="right"}`:     "",
		} {
			if !same(have[name], want) {
				return fmt.Errorf("%s is %q instead of %q", name, have[name], want)
			}
		}
		return nil
	})
	assert.Empty(t, series(follower))
	w.Kubectl("delete", "ipss", "annotated", "right-image")
	w.Eventually("what is gone is counted no more", func() error {
		for name := range series(leader) {
			if strings.Contains(name, `"annotated"`) || strings.Contains(name, `"right-image"`) {
				return errors.New(name)
			}
		}
		return nil
	})
	w.Create("annotated", func(spec *v1.ImagePullSecretSpec) {
		spec.Namespaces, spec.Check = "default", &v1.CredentialCheck{Disabled: true}
		spec.Docker.Username, spec.Docker.Password, spec.Docker.SecretRef = "", "", &v1.SecretReference{Name: "annotated"}
	})
}

// same compares numbers however they are written.
func same(have, want string) bool {
	var a, b float64
	_, first := fmt.Sscan(have, &a)
	_, second := fmt.Sscan(want, &b)
	return have == want || first == nil && second == nil && int64(a)/1000 == int64(b)/1000
}

func (w *world) tellsNoPassword(t *testing.T) {
	list, err := w.IPS.List(w.Ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, object := range list.Items {
		text, err := json.Marshal(object.Status)
		require.NoError(t, err)
		assert.NotContains(t, string(text), secret, object.Name)
	}
	events := w.Kubectl("get", "events", "--all-namespaces", "-o", "json")
	assert.NotContains(t, events, secret)
	for _, m := range w.managers {
		assert.NotContains(t, m.Log(), secret)
		assert.NotContains(t, m.Log(), base64.StdEncoding.EncodeToString([]byte("robot:"+secret)))
	}
}
