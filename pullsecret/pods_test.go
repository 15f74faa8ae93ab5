package pullsecret_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

func TestPodCases(t *testing.T) {
	cases, err := matchtest.PodCases("p")
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			index := pullsecret.NewIndex()
			for _, rule := range c.Rules {
				index.Put(rule)
				require.NotNil(t, index.Rules().Get(rule.Name), "%v", index.Rules().Invalid(rule.Name))
			}
			index.BarExactly(barring(c.Account))
			labels := func() pullsecret.Labels { return pullsecret.PackLabels(c.Labels) }
			pod := podOf(c.Pod)
			for which, wanted := range map[string][]string{
				"rules":       index.PodSecrets(pod, labels),
				"attachments": index.Rules().Attachments().PodSecrets(pod, labels),
				"parts":       pullsecret.NewAttachments(pullsecret.Derive(index.Rules(), 4).Parts()...).PodSecrets(pod, labels),
			} {
				if leftAlone(&c) {
					wanted = nil
				}
				_, added := pullsecret.AttachToPod(c.Has, wanted)
				assert.Equal(t, c.Want, append(slices.Clone(c.Has), added...), which)
			}
		})
	}
}

// leftAlone says what is decided before anybody is asked.
func leftAlone(c *matchtest.PodCase) bool {
	ours := func(entry string) bool { return strings.HasPrefix(entry, pullsecret.SecretPrefix) }
	return len(c.Has) == 0 || slices.ContainsFunc(c.Has, ours) ||
		pullsecret.OptOutOf(c.Labels) == pullsecret.OptedOut || pullsecret.OptOutOf(c.Pod.Labels) == pullsecret.OptedOut
}

func barring(account *corev1.ServiceAccount) map[string][]string {
	if pullsecret.OptOutOf(account.Labels) == pullsecret.OptedOut || account.Annotations["kubernetes.io/enforce-mountable-secrets"] == "true" {
		return map[string][]string{account.Namespace: {account.Name}}
	}
	return nil
}

func podOf(pod *corev1.Pod) *pullsecret.Pod {
	of := &pullsecret.Pod{Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		of.Images = append(of.Images, container.Image)
	}
	for _, volume := range pod.Spec.Volumes {
		of.Images = append(of.Images, volume.Image.Reference)
	}
	return of
}

// serving returns an index with a rule that serves all pods.
func serving(name string) *pullsecret.Index {
	index := pullsecret.NewIndex()
	object := imagePullSecret(name, "*", 1)
	object.Spec.Pods = v1.PodsAll
	index.Put(object)
	return index
}

func TestNobodyIsServedBeforeItIsKnownWhoIsBarred(t *testing.T) {
	index, pod := serving("a"), &pullsecret.Pod{Namespace: "team"}
	assert.True(t, index.Rules().AsksOfPods())
	assert.Empty(t, index.PodSecrets(pod, nil))
	assert.Empty(t, index.Rules().Attachments().PodSecrets(pod, nil))
	index.Bar("team", "default", true)
	assert.False(t, index.Rules().BarredKnown(), "one account says nothing of the others")

	index.BarExactly(nil)
	assert.Equal(t, []string{"tcr.ipsa"}, index.PodSecrets(pod, nil))
	index.Bar("team", "default", true)
	assert.Empty(t, index.PodSecrets(pod, nil), "an account that is not named is the default one")
	assert.NotEmpty(t, index.PodSecrets(&pullsecret.Pod{Namespace: "team", ServiceAccount: "app"}, nil))
	index.Bar("team", "default", false)
	assert.NotEmpty(t, index.PodSecrets(pod, nil))
}

func TestWhoIsBarredIsToldOnlyWhereItChanges(t *testing.T) {
	index := serving("a")
	told := 0
	stop := index.ObserveBarred(func() { told++ })
	for i, step := range []struct {
		change func()
		told   bool
	}{
		{func() { index.Bar("team", "x", true) }, false}, // it is not known of others
		{func() { index.BarExactly(map[string][]string{"team": {"b", "a"}, "none": {}}) }, true},
		{func() { index.BarExactly(map[string][]string{"team": {"a", "b"}}) }, false},
		{func() { index.Bar("team", "a", true) }, false},
		{func() { index.Bar("team", "c", false) }, false},
		{func() { index.Bar("team", "c", true) }, true},
		{func() { index.Bar("team", "a", false) }, true},
		{func() { index.BarExactly(map[string][]string{"team": {"b", "d"}}) }, true},
		{func() { index.BarExactly(nil) }, true},
	} {
		before := told
		step.change()
		assert.Equal(t, step.told, told > before, "step %d", i)
	}
	stop()
	before := told
	index.Bar("team", "a", true)
	assert.Equal(t, before, told)
}

func TestTooManyBarredAccountsServeNobody(t *testing.T) {
	index := serving("a")
	accounts := map[string][]string{}
	for i := range 5000 {
		accounts[fmt.Sprintf("namespace-with-a-long-name-%05d", i)] = []string{"an-account-with-a-long-name"}
	}
	index.BarExactly(accounts)
	derived := pullsecret.Derive(index.Rules(), 1)
	assert.Equal(t, []string{"a"}, derived.WithoutPods)
	encoded, err := json.Marshal(derived.Parts())
	require.NoError(t, err)
	assert.NotContains(t, string(encoded), `"pods"`)
	assert.NotContains(t, string(encoded), `"barred"`)
	assert.Empty(t, index.PodSecrets(&pullsecret.Pod{Namespace: "team"}, nil))

	index.BarExactly(nil)
	none := pullsecret.Derive(index.Rules(), 1)
	index.BarExactly(map[string][]string{"team": {"a", "b"}, "another": {"c"}})
	some := pullsecret.Derive(index.Rules(), 1)
	assert.Empty(t, some.WithoutPods)
	size := func(derived *pullsecret.Derived) int {
		encoded, err := json.Marshal(derived.Parts()[0])
		require.NoError(t, err)
		return len(encoded)
	}
	assert.GreaterOrEqual(t, some.Size-none.Size, size(some)-size(none), "what it takes up is not guessed too small")
}
