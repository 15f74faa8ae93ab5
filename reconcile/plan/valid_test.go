package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestTheStatusSaysWhetherTheCredentialIsValid(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	rule := &pullsecret.Rule{Name: "r", Generation: 3, Expiry: pullsecret.Expiry{At: now.Add(time.Hour), Unread: "no time"}}
	fresh := func(old v1.ImagePullSecretStatus) v1.ImagePullSecretStatus {
		return v1.ImagePullSecretStatus{Conditions: old.Conditions, Credential: credentialStatus(rule, now.Unix())}
	}
	status := fresh(v1.ImagePullSecretStatus{})
	SetValid(&status, rule, v1.ImagePullSecretStatus{}, nil, now)
	assert.Empty(t, status.Conditions, "nobody has looked")
	assert.Nil(t, status.Credential.CheckedAt)
	assert.Equal(t, now.Add(time.Hour), status.Credential.ExpiresAt.UTC())
	assert.Equal(t, "no time", status.Credential.ExpiryUnread)
	assert.Equal(t, CredentialProgress{Issued: now, Expires: now.Add(time.Hour)}, utc(credentialOf(rule, status)))

	SetValid(&status, rule, v1.ImagePullSecretStatus{}, &credential.Validity{CheckedAt: now.Add(-time.Second)}, now)
	assert.Empty(t, status.Conditions, "somebody is about to look")
	assert.Equal(t, now.Add(-time.Second), status.Credential.CheckedAt.UTC())

	found := &credential.Validity{Status: metav1.ConditionFalse, Reason: "Unauthorized", Message: "401", CheckedAt: now, Generation: 3}
	SetValid(&status, rule, v1.ImagePullSecretStatus{}, found, now)
	condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
	require.NotNil(t, condition)
	assert.Equal(t, metav1.Condition{Type: "CredentialValid", Status: metav1.ConditionFalse, Reason: "Unauthorized", Message: "401",
		ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(now)}, *condition)
	assert.Equal(t, now, status.Credential.CheckedAt.UTC())
	assert.Equal(t, metav1.ConditionFalse, credentialOf(rule, status).Valid)

	later := fresh(status)
	SetValid(&later, rule, status, nil, now.Add(time.Hour))
	assert.Equal(t, status, later, "a leader that has not looked yet leaves what is said")

	blind := v1.ImagePullSecretStatus{}
	SetValid(&blind, rule, v1.ImagePullSecretStatus{}, found, now)
	assert.NotNil(t, blind.Credential.CheckedAt, "also where the cluster could never be seen")

	rule.Trial.Disabled = true
	SetValid(&status, rule, status, found, now)
	assert.Empty(t, status.Conditions, "it is switched off")
	assert.Equal(t, now, status.Credential.CheckedAt.UTC(), "it may be switched on again within the minute, by another leader")
}

func TestWhatWasFoundOutOfAnotherCredentialIsNotSaidOfThisOne(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at, before := metav1.NewTime(now), now.Add(-time.Hour).Unix()
	rule := &pullsecret.Rule{Name: "r", Generation: 3, Reference: "a"}
	old := v1.ImagePullSecretStatus{
		Conditions: []metav1.Condition{{Type: v1.ConditionCredentialValid, Status: metav1.ConditionTrue, Reason: "LoggedIn", ObservedGeneration: 3}},
		Credential: &v1.CredentialStatus{CheckedAt: &at},
	}
	for _, c := range []struct {
		name   string
		issued int64
		edit   func(status *v1.ImagePullSecretStatus)
		found  *credential.Validity
		want   string
	}{
		{"every Secret has held it since before", before, nil, nil, "LoggedIn"},
		{"a login with it is about to be made again", before, nil, &credential.Validity{CheckedAt: now.Add(time.Hour)}, "LoggedIn"},
		{"every Secret was brought in line since", now.Add(time.Second).Unix(), nil, nil, "NotCheckedYet"},
		{"a login with the new one is about to be made", now.Add(time.Second).Unix(), nil, &credential.Validity{CheckedAt: now.Add(time.Hour)}, "NotCheckedYet"},
		{"every Secret has yet to be brought in line", 0, nil, nil, "NotCheckedYet"},
		{"nobody gets it", 0, func(status *v1.ImagePullSecretStatus) { status.SecretsDesired = 0 }, nil, "LoggedIn"},
		{"the spec was edited", before, func(status *v1.ImagePullSecretStatus) { status.Conditions[0].ObservedGeneration = 2 }, nil, "NotCheckedYet"},
		{"this process knows better", before, nil, new(credential.NotCheckedYet(3)), "NotCheckedYet"},
	} {
		status := v1.ImagePullSecretStatus{SecretsDesired: 1, Conditions: slices.Clone(old.Conditions), Credential: credentialStatus(rule, c.issued)}
		if c.edit != nil {
			c.edit(&status)
		}
		SetValid(&status, rule, old, c.found, now)
		condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
		require.NotNil(t, condition, c.name)
		assert.Equal(t, c.want, condition.Reason, c.name)
		assert.Equal(t, c.want == "LoggedIn", condition.Status == metav1.ConditionTrue, c.name)
	}
}

func TestWhatCannotBeReadIsNotHeldToBeValid(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	rule := &pullsecret.Rule{Name: "r", Generation: 3, Unread: &pullsecret.Unread{Reason: "SecretMissing", Message: "secret s/r does not exist"}}
	for _, was := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse} {
		found := &credential.Validity{Status: was, Reason: "Any", CheckedAt: now, Generation: 3}
		for _, found := range []*credential.Validity{found, nil} {
			at := metav1.NewTime(now)
			old := v1.ImagePullSecretStatus{
				Conditions: []metav1.Condition{{Type: v1.ConditionCredentialValid, Status: was, Reason: "Any"}},
				Credential: &v1.CredentialStatus{CheckedAt: &at},
			}
			status := v1.ImagePullSecretStatus{Conditions: slices.Clone(old.Conditions)}
			SetValid(&status, rule, old, found, now.Add(time.Hour))
			condition := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid)
			require.NotNil(t, condition)
			assert.Equal(t, metav1.ConditionUnknown, condition.Status, "nobody finds out any more")
			assert.Equal(t, ReasonCredentialUnread, condition.Reason)
			assert.Contains(t, condition.Message, "secret s/r does not exist")
			assert.Equal(t, now, status.Credential.CheckedAt.UTC(), "when somebody last logged in")
		}
	}
}

func utc(known CredentialProgress) CredentialProgress {
	known.Issued, known.Expires = known.Issued.UTC(), known.Expires.UTC()
	return known
}
