package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// TestPolicyAndWebhookMeanTheSame puts the shared cases to a real API server: with the webhook alone, with the admission
// policy alone, no manager running, and with both.
func TestPolicyAndWebhookMeanTheSame(t *testing.T) {
	t.Parallel()
	t.Run("the webhook, without the policy", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		w.matchingCases(t)
	})
	w := newWorld(t)
	err := manager.InstallPolicy(w.Ctx, w.Cluster)
	if !w.AttachesByItself() {
		t.Run("the policy is refused where its kind is not served, and nothing else attaches while no manager runs", func(t *testing.T) {
			require.ErrorContains(t, err, `no matches for kind "MutatingAdmissionPolicy"`)
			w.Create("idle")
			assert.Empty(t, w.born(t, matchtest.Case{Namespace: "default", AccountName: "probe"}))
		})
		return
	}
	require.NoError(t, err)
	t.Run("the policy, while no manager runs", func(t *testing.T) {
		m := w.run()
		cases := w.matchingRules(t)
		w.derivedHolds("sentinel")
		require.NoError(t, m.Stop())
		w.Kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")
		w.matches(t, cases)
		t.Run("without any ImagePullSecret accounts are created as ever", func(t *testing.T) {
			w.Kubectl("delete", "ipss", "--all")
			m := w.run()
			w.derivedHolds()
			require.NoError(t, m.Stop())
			w.Kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")
			w.Eventually("the policy has forgotten them", func() error {
				if have := w.born(t, matchtest.Case{Namespace: "team", AccountName: "plain"}); len(have) > 0 {
					return fmt.Errorf("it lists %q", have)
				}
				return nil
			})
		})
	})
	t.Run("both", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
		w.run()
		w.matchingCases(t)
	})
}

// matchingCases creates the ImagePullSecrets of all cases at once and then asks for each case what an account of it would
// be born with.
func (w *world) matchingCases(t *testing.T) {
	t.Helper()
	w.matches(t, w.matchingRules(t))
}

// matchingRules creates the ImagePullSecrets of all cases.
func (w *world) matchingRules(t *testing.T) []matchtest.Case {
	t.Helper()
	cases, err := matchtest.Cases("m")
	require.NoError(t, err)
	for _, c := range cases {
		_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace,
			Labels: c.Labels}}, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
		for _, rule := range c.Rules {
			_, err := w.IPS.Create(w.Ctx, rule, metav1.CreateOptions{})
			require.NoError(t, err)
		}
	}
	w.Create("sentinel") // the last to be created: once it is known, all are
	return cases
}

// matches asks for each case what an account of it would be born with.
func (w *world) matches(t *testing.T, cases []matchtest.Case) {
	t.Helper()
	w.Eventually("the rules are in force", func() error {
		if have := w.born(t, matchtest.Case{Namespace: "default", AccountName: "probe"}); !slices.Contains(have, "tcr.ipssentinel") {
			return fmt.Errorf("it lists %q", have)
		}
		return nil
	})
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			// The rules of other cases select too: only the case's own entries count, and those it has.
			have := slices.DeleteFunc(w.born(t, c), func(entry string) bool {
				return !slices.Contains(c.Has, entry) && !slices.ContainsFunc(c.Rules,
					func(rule *v1.ImagePullSecret) bool { return pullsecret.SecretName(rule.Name) == entry })
			})
			assert.Equal(t, strings.Join(c.Has, " "), strings.Join(have[:len(c.Has)], " "), "what it has keeps its place")
			slices.Sort(have)
			want := slices.Sorted(slices.Values(c.Want))
			assert.Equal(t, strings.Join(want, " "), strings.Join(have, " "))
		})
	}
}

// born returns what an account would list if it were created now.
func (w *world) born(t *testing.T, c matchtest.Case) []string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.AccountName, GenerateName: c.GenerateName,
		Labels: c.AccountLabels}}
	for _, entry := range c.Has {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	created, err := w.Client.CoreV1().ServiceAccounts(c.Namespace).Create(w.Ctx, account,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	return suite.Entries(created)
}
