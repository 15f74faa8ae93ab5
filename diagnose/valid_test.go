package diagnose

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestAnIssuerTellsWhatTheManagerFound(t *testing.T) {
	noon := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	before, after := metav1.NewTime(noon.Add(-time.Hour)), metav1.NewTime(noon.Add(time.Hour))
	object := func(edit func(*v1.ImagePullSecret)) *v1.ImagePullSecret {
		one := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r", Generation: 2}}
		one.Spec.Docker = v1.DockerCredential{Server: "r.example.com", SecretRef: &v1.SecretReference{Name: "a"}}
		one.Status.ObservedGeneration = 2
		one.Status.Credential = &v1.CredentialStatus{IssuedAt: &before, CheckedAt: &noon, ExpiresAt: &after}
		one.Status.Conditions = []metav1.Condition{{Type: "CredentialValid", Status: metav1.ConditionFalse, Message: "r answered 401", ObservedGeneration: 2}}
		if edit != nil {
			edit(one)
		}
		return one
	}
	read := func(one *v1.ImagePullSecret) Issuer {
		return ReadIssuer(one, credential.Seen{}, Pod{}, pullsecret.Labels{})
	}
	issuer := read(object(nil))
	assert.Equal(t, "r answered 401", issuer.Refused)
	assert.Equal(t, after.UTC(), issuer.ExpiresAt)
	for name, edit := range map[string]func(*v1.ImagePullSecret){
		"it was of another spec":       func(one *v1.ImagePullSecret) { one.Status.Conditions[0].ObservedGeneration = 1 },
		"it was of another credential": func(one *v1.ImagePullSecret) { one.Status.Credential.IssuedAt = &after },
		"nobody says when":             func(one *v1.ImagePullSecret) { one.Status.Credential.CheckedAt = nil },
		"nothing is known":             func(one *v1.ImagePullSecret) { one.Status.Conditions[0].Status = metav1.ConditionUnknown },
		"the registry takes it":        func(one *v1.ImagePullSecret) { one.Status.Conditions[0].Status = metav1.ConditionTrue },
		"it is checked by nobody":      func(one *v1.ImagePullSecret) { one.Status.Conditions = nil },
	} {
		assert.Empty(t, read(object(edit)).Refused, name)
	}
	assert.Zero(t, read(object(func(one *v1.ImagePullSecret) { one.Status.ObservedGeneration = 1 })).ExpiresAt)
	inline := object(func(one *v1.ImagePullSecret) {
		one.Spec.Docker = v1.DockerCredential{Server: "r.example.com", Username: "robot", Password: "a.eyJleHAiOjE4MDEzOTY4MDB9.c"}
	})
	assert.Equal(t, time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC), read(inline).ExpiresAt, "what it says itself counts for more")
}
