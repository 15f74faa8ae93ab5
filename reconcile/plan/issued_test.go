package plan

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestTheStatusSaysHowFarTheCloudHasGot(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	rule := &pullsecret.Rule{
		Name: "r", Generation: 3, Registry: &pullsecret.Registry{ID: "tcr-demo0001"}, Renewal: pullsecret.Renewal{Expires: now.Add(time.Hour), Due: now.Add(time.Minute)},
	}
	status := credentialStatus(rule, 0)
	assert.Equal(t, "TCR/tcr-demo0001", status.Source)
	assert.Equal(t, now.Add(time.Hour), status.ExpiresAt.UTC())

	conditions := SetIssued(nil, rule, now)
	condition := meta.FindStatusCondition(conditions, v1.ConditionCredentialIssued)
	require.NotNil(t, condition)
	assert.Equal(t, metav1.ConditionTrue, condition.Status)
	assert.Equal(t, ReasonIssued, condition.Reason)
	assert.Equal(t, int64(3), condition.ObservedGeneration)

	rule.Renewal.Refused = &pullsecret.Unread{Reason: "Unauthorized", Message: "allow the action"}
	conditions = SetIssued(conditions, rule, now)
	condition = meta.FindStatusCondition(conditions, v1.ConditionCredentialIssued)
	assert.Equal(t, metav1.ConditionFalse, condition.Status)
	assert.Equal(t, "Unauthorized", condition.Reason)
	assert.Equal(t, "allow the action", condition.Message)

	progress := ProgressOf("r", rule, v1.ImagePullSecretStatus{Conditions: conditions, Credential: status}, nil)
	assert.True(t, progress.Credential.FromCloud)
	assert.False(t, progress.Credential.Renewed)
	assert.Equal(t, now.Add(time.Hour), progress.Credential.Expires.UTC())
	assert.Equal(t, now.Add(time.Minute), progress.Credential.Due, "what tells that its renewal is overdue")
	assert.Equal(t, CredentialProgress{}, ProgressOf("r", nil, v1.ImagePullSecretStatus{}, nil).Credential)

	rule.Registry, rule.Renewal = nil, pullsecret.Renewal{}
	assert.Empty(t, SetIssued(conditions, rule, now), "nobody asks the cloud any more")
	assert.Nil(t, credentialStatus(rule, 0).ExpiresAt)
}

func TestSumsOfWhatStands(t *testing.T) {
	rules := referring(pullsecret.Credential{Config: []byte("c")}, "*")
	rule := rules.Get("r")
	secret := func(config string, managed bool) Secret {
		return Secret{Name: rule.Secret, Version: 1, Docker: true, Managed: managed, Sum: sha256.Sum256([]byte(config))}
	}
	s := NewState()
	s.namespaces = map[string]*Namespace{
		"a": {Name: "a", Live: true, Secrets: []Secret{secret("one", true)}},
		"b": {Name: "b", Live: true, Secrets: []Secret{secret("two", true)}},
		"c": {Name: "c", Live: true, Secrets: []Secret{secret("somebody else's", false)}},
		"d": {Name: "d", Secrets: []Secret{secret("of one that ends", true)}},
		"e": {Name: "e", Live: true},
	}
	_, known := s.Sums(rule)
	assert.False(t, known, "not all has been seen")
	s.complete.namespaces, s.complete.accounts, s.complete.issued = true, true, true
	sums, known := s.Sums(rule)
	assert.True(t, known)
	assert.Equal(t, map[[32]byte]bool{sha256.Sum256([]byte("one")): true, sha256.Sum256([]byte("two")): true}, sums)
}
