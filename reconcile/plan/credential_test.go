package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// referring returns the rules of one ImagePullSecret r that refers to a Secret.
func referring(given pullsecret.Credential, namespaces string) *pullsecret.Rules {
	index := pullsecret.NewIndex()
	object := &v1.ImagePullSecret{}
	object.Name, object.UID = "r", "uid-r"
	object.Spec = v1.ImagePullSecretSpec{
		Namespaces: namespaces, Docker: v1.DockerCredential{SecretRef: &v1.SecretReference{Name: "ref"}, Server: "registry.example.com"},
	}
	index.Put(object)
	index.Supply(map[*pullsecret.Rule]pullsecret.Credential{index.Rules().Get("r"): given})
	return index.Rules()
}

func TestPlansWithoutACredential(t *testing.T) {
	missing := pullsecret.Credential{Unread: &pullsecret.Unread{Reason: credential.ReasonSecretMissing, Object: "system/ref", Message: "secret system/ref does not exist"}}
	listing := []Account{{Name: "default", Version: 3, Secrets: []string{"tcr.ipsr"}}}
	of := func(change func(*Secret)) []Secret {
		secret := good(t, referring(pullsecret.Credential{Config: []byte("before")}, "*"), "r")
		change(&secret)
		return []Secret{secret}
	}
	for what, given := range map[string]pullsecret.Credential{"that is missing": missing, "that is not known yet": {}} {
		rules := referring(given, "ns")
		for name, test := range map[string]planCase{
			"nothing is issued, and accounts get their entry": {
				namespace: Namespace{Live: true, Accounts: []Account{{Name: "default", Version: 3}}},
				changes:   []string{`editing service account ns/default at 3: {"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsr"}]}`},
			},
			"what was issued stays, and so do entries": {
				namespace: Namespace{Live: true, Secrets: of(func(*Secret) {}), Accounts: listing},
			},
			"one that somebody edited stays, too": {
				namespace: Namespace{Live: true, Secrets: of(func(s *Secret) { s.Sum, s.Managed = [32]byte{1}, false }), Accounts: listing},
			},
			"an immutable one stays, too": {
				namespace: Namespace{Live: true, Secrets: of(func(s *Secret) { s.Immutable = true }), Accounts: listing},
			},
			"one of another type is told of": {
				namespace: Namespace{Live: true, Secrets: of(func(s *Secret) { s.Docker = false }), Accounts: listing},
				problems:  []string{"r ns/tcr.ipsr ForeignSecret"},
			},
			"a namespace that is not selected loses it": {
				rules:     referring(given, "other"),
				namespace: Namespace{Live: true, Secrets: of(func(*Secret) {})},
				changes:   []string{"deleting secret ns/tcr.ipsr at 7"},
			},
		} {
			if test.rules == nil {
				test.rules = rules
			}
			t.Run("of a credential "+what+", "+name, test.holds)
		}
	}
}

func TestStatusOfACredential(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	known := referring(pullsecret.Credential{Config: []byte("c")}, "a")
	state := NewState()
	for i, name := range []string{"a", "other"} {
		state.PutNamespace(NamespaceMeta{Name: name, UID: "uid", Live: true})
		secret := good(t, known, "r")
		secret.Updated = int64(1000 - i)
		state.PutSecret(name, secret)
	}
	complete := Summarize(known.Get("r"), state, v1.ImagePullSecretStatus{}, now)
	t.Run("says where it stands, and since when the oldest Secret holds it", func(t *testing.T) {
		require.NotNil(t, complete.Credential)
		assert.Equal(t, "Secret/ref", complete.Credential.Source)
		assert.EqualValues(t, 1000, complete.Credential.IssuedAt.Unix(), "the other namespace is not selected")
		inline := Summarize(rulesOf(t, map[string]string{"r": "a"}).Get("r"), state, v1.ImagePullSecretStatus{}, now)
		assert.Equal(t, &v1.CredentialStatus{Source: "Inline"}, inline.Credential, "none holds it")
	})
	unread := &pullsecret.Unread{Reason: credential.ReasonSecretMissing, Object: "system/ref", Message: "secret system/ref does not exist: create it"}
	broken := Summarize(referring(pullsecret.Credential{Unread: unread}, "a").Get("r"), state, complete, now)
	t.Run("counts what was issued, and says what to write", func(t *testing.T) {
		assert.EqualValues(t, 1, broken.SecretsSuccess)
		assert.Equal(t, ReasonCredentialUnread, broken.Conditions[0].Reason)
		assert.Contains(t, broken.Conditions[0].Message, "secret system/ref does not exist: create it; what was issued before is left as it is: 1 of 1 secrets")
		require.Len(t, broken.Failures, 1)
		assert.Equal(t, "system/ref", broken.Failures[0].NamespacedName)
		assert.True(t, Lasting(broken.Failures[0].Reason), "an event tells of it")
	})
	t.Run("keeps since when it is so", func(t *testing.T) {
		again := Summarize(referring(pullsecret.Credential{Unread: unread}, "a").Get("r"), state, broken, now.Add(time.Hour))
		assert.Equal(t, broken.Failures, again.Failures)
	})
	t.Run("tells of other failures beside it", func(t *testing.T) {
		state.SetProblems("a", Whole(), []Problem{{"r", false, v1.Failure{NamespacedName: "a/tcr.ipsr", Reason: ReasonForeignSecret}}})
		both := Summarize(referring(pullsecret.Credential{Unread: unread}, "a").Get("r"), state, broken, now)
		assert.Contains(t, both.Conditions[0].Message, "2 failures, see status.failures")
		assert.Len(t, both.Failures, 2, fmt.Sprint(both.Failures))
	})
}
