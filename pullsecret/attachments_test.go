package pullsecret

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// TestAttachmentsSayWhatTheRulesSay compares what a replica answers that knows no credential with what the leader does.
func TestAttachmentsSayWhatTheRulesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		rules := some(random, 40)
		for number := 1; number <= maxParts; number *= 2 {
			parts := divide(rules, number, nil)
			parts = append(parts, divide(rules, 2*number, nil)...) // as while parts are being divided
			attachments := NewAttachments(parts...)
			for n := range 21 {
				namespace := fmt.Sprintf("n%d", n)
				for a := range 6 {
					account := fmt.Sprintf("a%d", a)
					want := rules.Secrets(namespace, packedLabelsOf(namespace), account)
					slices.Sort(want)
					require.Equal(t, want, attachments.Secrets(namespace, packedLabelsOf(namespace), account), "%s/%s", namespace, account)
				}
				names := Named(Selector{names: []string{namespace}})
				require.Equal(t, rules.Sources("s", names), attachments.Sources("s", names))
				require.Empty(t, attachments.Sources("other", names))
			}
			require.Equal(t, rules.Sources("s", Named(Everything)), attachments.Sources("s", Named(Everything)))
			for rule := range rules.All() {
				require.Equal(t, rules.Sources("s", rule.Namespaces), attachments.Sources("s", rule.Namespaces))
			}
		}
	}
}

// TestWhatAnUnknownOperatorAsksForNeverHolds holds that a replica attaches nothing for what a newer release has stored.
func TestWhatAnUnknownOperatorAsksForNeverHolds(t *testing.T) {
	attachments := NewAttachments(v1.DerivedAttachmentsSpec{
		Rules: map[string]v1.DerivedRule{
			"newer": {Secret: "tcr.ipsnewer", Requirements: []v1.DerivedRequirement{{Key: "a", Operator: "Near", Values: []string{"b"}}}},
			"known": {Secret: "tcr.ipsknown", Requirements: []v1.DerivedRequirement{{Key: "a", Operator: "In", Values: []string{"b"}}}},
		},
		Selecting: []string{"newer", "known"},
	})
	assert.Equal(t, []string{"tcr.ipsknown"}, attachments.Secrets("n", func() Labels { return PackLabels(map[string]string{"a": "b"}) }, "x"))
	assert.Empty(t, attachments.Secrets("n", nil, "x"), "labels that are not known meet nothing")
}

func TestAttachmentsOfOthersAreNotTrusted(t *testing.T) {
	part := v1.DerivedAttachmentsSpec{
		Rules: map[string]v1.DerivedRule{
			"a": {Secret: "tcr.ipsa", ServiceAccounts: []string{"z", "y", "x"}}, // in no order
			"b": {Secret: "somebody-elses"},
		},
		Everywhere: []string{"a", "b", "missing"},
	}
	attachments := NewAttachments(part)
	for _, account := range []string{"x", "y", "z"} {
		assert.Equal(t, []string{"tcr.ipsa"}, attachments.Secrets("n", nil, account))
	}
	assert.Empty(t, attachments.Secrets("n", nil, "w"))
	assert.Empty(t, new(Attachments).Secrets("n", nil, "x"))
}

func TestForgetOverwritesTheCredentials(t *testing.T) {
	index := NewIndex()
	object := func(name string, namespaces string) *v1.ImagePullSecret {
		object := &v1.ImagePullSecret{Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces, Docker: v1.DockerCredential{Username: "u", Password: "a-password", Server: "s"},
		}}
		object.Name = name
		return object
	}
	index.Put(object("good", "*"))
	index.Put(object("broken", "a"))
	good, broken := index.Rules().Get("good"), index.Rules().Get("broken")
	index.Put(object("broken", "a,A"))
	before := index.Rules()
	left := before.Attachments()
	require.Contains(t, string(good.Config), "a-password")
	require.Contains(t, string(broken.Config), "a-password")

	index.Forget()
	assert.NotContains(t, string(good.Config), "a-password")
	assert.NotContains(t, string(broken.Config), "a-password", "nor does the last good one of what is invalid now")
	assert.Equal(t, []string{"tcr.ipsgood"}, index.Secrets("n", nil, "a"), "somebody may be about to ask")
	assert.Equal(t, []string{"tcr.ipsgood"}, left.Secrets("n", nil, "a"), "what is attached stays known")
	assert.NotContains(t, fmt.Sprintf("%+v", left), "a-password")
	assert.Equal(t, strings.Repeat("\x00", len(good.Config)), string(good.Config))
}
