package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
)

func TestStatusIsAboutWhatIsTrueNow(t *testing.T) {
	object := v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r", Generation: 2}}
	object.Spec.Docker.Server = "user:hush@r.example.com"
	object.Status.ObservedGeneration = 1
	object.Status.Conditions = []metav1.Condition{{Type: v1.ConditionReady, Status: metav1.ConditionTrue}}
	now := time.Now()
	found := gather.Overview{Objects: []v1.ImagePullSecret{object}, Manager: diagnose.Manager{LeaseUntil: now.Add(time.Second)}}
	shown := summarize(found, now)
	assert.Equal(t, "Unknown", shown.Objects[0].Ready, "a status of an older spec says nothing of this one")
	assert.Equal(t, []string{"(invalid)"}, shown.Objects[0].Servers)
	assert.False(t, shown.fine())

	found.Objects[0].Status.ObservedGeneration = 2
	shown = summarize(found, now)
	assert.True(t, shown.fine())
	found.Manager.LeaseUntil = now.Add(-time.Second)
	shown = summarize(found, now)
	assert.False(t, shown.fine())
	found.Unseen = []diagnose.Unseen{{Part: diagnose.PartManager}}
	shown = summarize(found, now)
	assert.True(t, shown.fine(), "what cannot be seen is not called broken")
}

func TestStatusTellsWhereTheCredentialStands(t *testing.T) {
	shown := func(name string, referred credential.Seen) (overview, string) {
		found := gather.Overview{Objects: []v1.ImagePullSecret{*team()}, Referred: referred,
			Manager: diagnose.Manager{LeaseUntil: time.Now().Add(time.Hour)}}
		found.Objects[0].Status.OptedOut = &v1.OptedOut{Namespaces: 2, ServiceAccounts: 1}
		all := summarize(found, time.Now())
		all.all = name != ""
		var out bytes.Buffer
		all.text(page{Writer: &out})
		assert.NotContains(t, out.String(), "hush")
		return all, out.String()
	}
	all, text := shown("", holding(basicAuth("robot")))
	assert.True(t, all.fine())
	assert.Contains(t, text, "Secret/team-a   r.example.com +2\n")
	assert.NotContains(t, text, "opted out")
	_, text = shown("r", holding(basicAuth("robot")))
	assert.Contains(t, text, "r.example.com,vpc.example.com,x.example.com\n")
	assert.Contains(t, text, "opted out: 2 namespaces, 1 service accounts\n")
	all, text = shown("", holding(basicAuth("robot:hush")))
	assert.False(t, all.fine(), "the manager has told nothing of it yet")
	assert.Contains(t, text, "CredentialUnread r: secret system/team-a holds a credential whose user name must not hold")
	all, _ = shown("", credential.Seen{})
	assert.True(t, all.fine(), "what cannot be seen is not called broken")
}

func TestStatusTellsWhetherTheCredentialIsGood(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	shown := func(valid metav1.ConditionStatus, known v1.CredentialStatus) (overview, string) {
		object := team()
		object.Status.Credential = &known
		object.Status.Conditions = append(object.Status.Conditions,
			metav1.Condition{Type: v1.ConditionCredentialValid, Status: valid, Message: "it answered so"})
		all := summarize(gather.Overview{Objects: []v1.ImagePullSecret{*object}, Manager: diagnose.Manager{LeaseUntil: now.Add(time.Hour)}}, now)
		var out bytes.Buffer
		all.text(page{Writer: &out})
		return all, out.String()
	}
	later, before := metav1.NewTime(now.Add(time.Hour)), metav1.NewTime(now.Add(-time.Hour))
	all, text := shown(metav1.ConditionTrue, v1.CredentialStatus{ExpiresAt: &later})
	assert.True(t, all.fine())
	assert.Contains(t, text, "r      True    2026-01-01 13:00   ")
	assert.NotContains(t, text, "it answered so")
	all, _ = shown(metav1.ConditionUnknown, v1.CredentialStatus{})
	assert.True(t, all.fine(), "nothing is known to be wrong")
	all, text = shown(metav1.ConditionFalse, v1.CredentialStatus{})
	assert.False(t, all.fine())
	assert.Contains(t, text, "CredentialRefused r: it answered so\n")
	all, text = shown(metav1.ConditionTrue, v1.CredentialStatus{ExpiresAt: &before})
	assert.False(t, all.fine())
	assert.Equal(t, 1, strings.Count(text, "CredentialExpired"), "it is told once")
	assert.Contains(t, text, "CredentialExpired r: its credential ended at 2026-01-01 11:00 UTC\n")
	all, text = shown(metav1.ConditionTrue, v1.CredentialStatus{ExpiryUnread: "the annotation is none"})
	assert.True(t, all.fine())
	assert.Contains(t, text, "r: it is not known when its credential expires: the annotation is none\n")
}

func TestStatusTellsWhatIsNotReachedFromThePrivateNetwork(t *testing.T) {
	for status, fine := range map[metav1.ConditionStatus]bool{metav1.ConditionTrue: true, metav1.ConditionUnknown: true,
		metav1.ConditionFalse: false} {
		object := team()
		object.Status.Conditions = append(object.Status.Conditions,
			metav1.Condition{Type: v1.ConditionPrivateNetworkReady, Status: status, Message: "link it"})
		now := time.Now()
		all := summarize(gather.Overview{Objects: []v1.ImagePullSecret{*object}, Manager: diagnose.Manager{LeaseUntil: now.Add(time.Hour)}}, now)
		var out bytes.Buffer
		all.text(page{Writer: &out})
		assert.Equal(t, fine, all.fine(), status)
		assert.Equal(t, !fine, strings.Contains(out.String(), "PrivateNetworkNotReady r: link it\n"), out.String())
		same := overview{}
		out.Reset()
		same.troubles(page{Writer: &out}, row{Name: "r", NotIssued: "no keys", NotReached: "no keys"})
		assert.Equal(t, "CredentialNotIssued r: no keys\n", out.String(), "one reason is told once")
		object.Generation++
		assert.Empty(t, rowOf(object, credential.Seen{}).NotReached, "what was said of an earlier spec says nothing of this one")
	}
}

func TestStatusTellsThatNoPodIsHealed(t *testing.T) {
	for status, fine := range map[metav1.ConditionStatus]bool{metav1.ConditionTrue: true, metav1.ConditionFalse: false} {
		object := team()
		object.Status.Conditions = append(object.Status.Conditions,
			metav1.Condition{Type: v1.ConditionHealing, Status: status, Message: "set rbac.healing"})
		now := time.Now()
		all := summarize(gather.Overview{Objects: []v1.ImagePullSecret{*object}, Manager: diagnose.Manager{LeaseUntil: now.Add(time.Hour)}}, now)
		var out bytes.Buffer
		all.text(page{Writer: &out})
		assert.Equal(t, fine, all.fine(), status)
		assert.Equal(t, !fine, strings.Contains(out.String(), "PodsNotHealed r: set rbac.healing\n"), out.String())
		object.Generation++
		assert.Empty(t, rowOf(object, credential.Seen{}).NotHealed, "what was said of an earlier spec says nothing of this one")
	}
}
