package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestWhatIsMissingToHealIsToldWithHowToGrantIt(t *testing.T) {
	var status v1.ImagePullSecretStatus
	SetHealing(&status, &pullsecret.Rule{Heals: true}, Healing{Missing: []string{"list and watch pods", "get jobs"}}, time.Now())
	require.Len(t, status.Conditions, 1)
	assert.Equal(t, metav1.ConditionFalse, status.Conditions[0].Status)
	assert.Equal(t, "the manager may not list and watch pods, get jobs in all namespaces: set rbac.healing to true in the values of the install, "+
		"or apply the ClusterRole tcr-assistant-healing-role and its binding; docs/healing.md says how to render them",
		status.Conditions[0].Message)
}

func TestHealingIsNotKnownBeforePodsAreWatched(t *testing.T) {
	var status v1.ImagePullSecretStatus
	for _, c := range []struct {
		healing Healing
		want    metav1.ConditionStatus
	}{
		{Healing{}, metav1.ConditionUnknown},
		{Healing{Missing: []string{"list and watch pods"}}, metav1.ConditionFalse},
		{Healing{Watching: true}, metav1.ConditionTrue},
		{Healing{Watching: true, Missing: []string{"get jobs"}}, metav1.ConditionFalse},
	} {
		SetHealing(&status, &pullsecret.Rule{Heals: true}, c.healing, time.Now())
		assert.Equal(t, c.want, status.Conditions[0].Status, "%+v", c.healing)
	}
}
