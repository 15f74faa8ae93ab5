package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// labelledRules returns a rule r for the namespaces that are red.
func labelledRules(t *testing.T) *pullsecret.Rules {
	t.Helper()
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "uid-r", Generation: 1},
		Spec: v1.ImagePullSecretSpec{
			NamespaceSelector: &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"color": "red"}},
			Docker:            v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"},
		},
	})
	require.NotNil(t, index.Rules().Get("r"))
	return index.Rules()
}

func TestPlanOfLabels(t *testing.T) {
	rules := labelledRules(t)
	served := []Account{{Name: "a", Version: 3, Secrets: []string{"tcr.ipsr"}}}
	red, blue := pullsecret.PackLabels(map[string]string{"color": "red"}), pullsecret.PackLabels(map[string]string{"color": "blue"})
	for name, test := range map[string]planCase{
		"one that matches gets Secret and entry": {
			namespace: Namespace{Live: true, Labels: red, Accounts: []Account{{Name: "a", Version: 3}}},
			changes:   []string{"issuing secret ns/tcr.ipsr", `editing service account ns/a at 3: {"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsr"}]}`},
		},
		"one that does not match loses both": {
			namespace: Namespace{Live: true, Labels: blue, Secrets: []Secret{good(t, rules, "r")}, Accounts: served},
			changes:   []string{"deleting secret ns/tcr.ipsr at 7", `editing service account ns/a at 3: {"op":"remove","path":"/imagePullSecrets/0"}`},
		},
		"where labels are not known what is there stays": {
			namespace: Namespace{Live: true, Secrets: []Secret{good(t, rules, "r")}, Accounts: served},
		},
		"and nothing comes": {
			namespace: Namespace{Live: true, Accounts: []Account{{Name: "a", Version: 3}}},
		},
		"a namespace that opts out loses both, though it matches": {
			namespace: Namespace{Live: true, Labels: red, OptOut: pullsecret.OptedOut, Secrets: []Secret{good(t, rules, "r")}, Accounts: served},
			changes:   []string{"deleting secret ns/tcr.ipsr at 7", `editing service account ns/a at 3: {"op":"remove","path":"/imagePullSecrets/0"}`},
		},
		"and does not wait for its labels to be known": {
			namespace: Namespace{Live: true, OptOut: pullsecret.OptedOut, Secrets: []Secret{good(t, rules, "r")}, Accounts: served},
			changes:   []string{"deleting secret ns/tcr.ipsr at 7", `editing service account ns/a at 3: {"op":"remove","path":"/imagePullSecrets/0"}`},
		},
		"what is not ours stays there": {
			namespace: Namespace{Live: true, OptOut: pullsecret.OptedOut, Secrets: but(good(t, rules, "r"), func(s *Secret) { s.Managed = false }), Accounts: served},
		},
		"an account that opts out loses its entry alone": {
			namespace: Namespace{Live: true, Labels: red, Secrets: []Secret{good(t, rules, "r")}, Accounts: []Account{
				{Name: "a", Version: 3, Secrets: []string{"theirs", "tcr.ipsr"}, OptOut: pullsecret.OptedOut},
				{Name: "b", Version: 4, Secrets: []string{"tcr.ipsr"}, OptOut: pullsecret.OddOptOut},
			}},
			changes: []string{`editing service account ns/a at 3: {"op":"remove","path":"/imagePullSecrets/1"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.rules = rules
			test.holds(t)
		})
	}
	t.Run("an odd label is told of", func(t *testing.T) {
		odd := Namespace{Name: "ns", Live: true, OptOut: pullsecret.OddOptOut, Accounts: []Account{{Name: "a"}, {Name: "b", OptOut: pullsecret.OddOptOut}}}
		assert.Equal(t, []string{"", "b"}, For(rules, odd, Visibility{everywhere, everywhere, nowhere}).Odd)
	})
}

// givenLabels are those of some namespaces.
type givenLabels map[string]pullsecret.Labels

func (g givenLabels) Labels(namespace string) pullsecret.Labels { return g[namespace] }
func (g givenLabels) Complete() bool                            { return g != nil }

func TestStatusOfLabels(t *testing.T) {
	rules, state := labelledRules(t), NewState()
	red := pullsecret.PackLabels(map[string]string{"color": "red"})
	labels := givenLabels{"a": red, "b": red, "c": pullsecret.Unlabelled, "out": red}
	state.LabelsFrom(labels)
	for _, name := range []string{"a", "b", "c", "out", "unknown"} {
		seen := NamespaceMeta{Name: name, UID: "1", Live: true}
		if name == "out" {
			seen.OptOut = pullsecret.OptedOut
		}
		state.PutNamespace(seen)
		state.PutSecret(name, good(t, rules, "r"))
		state.PutAccount(name, Account{Name: "x", Version: 1, Secrets: []string{"tcr.ipsr"}})
		state.PutAccount(name, Account{Name: "y", Version: 1, OptOut: pullsecret.OptedOut})
	}
	status := Summarize(rules.Get("r"), state, v1.ImagePullSecretStatus{}, time.Unix(1, 0))
	assert.Equal(t, [4]int32{2, 2, 2, 2}, [4]int32{status.SecretsDesired, status.SecretsSuccess, status.SAsDesired, status.SAsSuccess})
	assert.Equal(t, &v1.OptedOut{Namespaces: 1, ServiceAccounts: 2}, status.OptedOut)

	var possible []string
	state.EachPossible(rules.Get("r").Namespaces, func(namespace *Namespace) { possible = append(possible, namespace.Name) })
	assert.ElementsMatch(t, []string{"a", "b", "out", "unknown"}, possible)

	state.ReplaceNamespaces(nil)
	state.ReplaceAccounts(nil, latest.Relist{Version: 9})
	state.ReplaceSecrets("tcr.ipsr", nil, latest.Relist{Version: 9})
	assert.True(t, state.Complete(rules.Get("r")))
	state.LabelsFrom(givenLabels(nil))
	assert.False(t, state.Complete(rules.Get("r")), "what is not known can't be counted")
}
