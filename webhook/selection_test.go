package webhook

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func TestValidateSelections(t *testing.T) {
	encode := func(object *v1.ImagePullSecret) string {
		text, err := json.Marshal(object)
		require.NoError(t, err)
		return string(text)
	}
	handler := Handler(quiet, indexOf(imagePullSecret("other", "a,b")), nil, ready)
	t.Run("one that labels may make a rival is warned of as such, and one that is named beside it as ever", func(t *testing.T) {
		labelled := func(name, namespaces string, excluded ...v1.NamespaceName) *v1.ImagePullSecret {
			object := imagePullSecret(name, namespaces)
			object.Spec.NamespaceSelector = &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"a": "b"}}
			object.Spec.ExcludedNamespaces = excluded
			return object
		}
		rivals := indexOf(labelled("by-label", ""), labelled("by-name", "x"), labelled("never", "", "x"), imagePullSecret("elsewhere", "y"))
		for _, known := range []Attachments{rivals, rivals.Rules().Attachments()} {
			response := answer(t, ask(t, Handler(quiet, known, nil, ready), ValidatePath, reviewOf("CREATE", encode(imagePullSecret("new", "x")), "null")))
			assert.Equal(t, []string{
				`"by-label" gives registry.example.com a credential too, and labels may bring both into one namespace`,
				`"by-name" gives registry.example.com a credential too, in a common namespace`,
			}, response.Warnings)
		}
	})
	t.Run("selectors and exclusions are judged, and what changes in them", func(t *testing.T) {
		selecting := func(edit func(*v1.ImagePullSecretSpec)) string {
			object := imagePullSecret("new", "")
			object.Spec.NamespaceSelector = &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"a": "b"}, MatchExpressions: []v1.LabelRequirement{
				{Key: "c", Operator: v1.OperatorIn, Values: []v1.LabelValue{"d", "e"}},
			}}
			object.Spec.ExcludedNamespaces = []v1.NamespaceName{"a", "b"}
			edit(&object.Spec)
			return encode(object)
		}
		good := selecting(func(*v1.ImagePullSecretSpec) {})
		response := answer(t, ask(t, handler, ValidatePath, reviewOf("CREATE", good, "null")))
		assert.True(t, response.Allowed)
		assert.Empty(t, response.Warnings, "the other one's namespaces are excluded")
		for path, edit := range map[string]func(*v1.ImagePullSecretSpec){
			"spec.namespaces":                       func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "*" },
			"spec.namespaceSelector.matchLabels[a]": func(spec *v1.ImagePullSecretSpec) { spec.NamespaceSelector.MatchLabels["a"] = "!" },
			"spec.namespaceSelector.matchExpressions[0].values[1]": func(spec *v1.ImagePullSecretSpec) {
				spec.NamespaceSelector.MatchExpressions[0].Values[1] = "!"
			},
			"spec.excludedNamespaces[1]": func(spec *v1.ImagePullSecretSpec) { spec.ExcludedNamespaces[1] = "a" },
		} {
			response := answer(t, ask(t, handler, ValidatePath, reviewOf("UPDATE", selecting(edit), good)))
			assert.False(t, response.Allowed, path)
			require.NotEmpty(t, response.Result.Details.Causes, path)
			assert.Equal(t, path, response.Result.Details.Causes[0].Field)
		}
	})
}

func TestNoErrorRepeatsALabelThatWasSent(t *testing.T) {
	for name, labels := range map[string]string{
		"a number":   `{"hidden":7}`,
		"an object":  `{"hidden":{"hidden":"hidden"}}`,
		"two of one": `{"hidden":"a","hidden":"b"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeObjectReview([]byte(reviewOf("CREATE", `{"spec":{"namespaceSelector":{"matchLabels":`+labels+`}}}`, "null")))
			require.ErrorContains(t, err, "/request/object/spec/namespaceSelector/matchLabels must hold each key once, with a string")
			assert.NotContains(t, err.Error(), "hidden", "it may be as long as the review")
		})
	}
}

// TestEveryFieldOfASpecIsRead holds that the webhook judges what is written, and not a part of it.
func TestEveryFieldOfASpecIsRead(t *testing.T) {
	spec := v1.ImagePullSecretSpec{
		Namespaces: "a,b", ServiceAccounts: "c", Pods: "x", Healing: "e", ExcludedNamespaces: []v1.NamespaceName{"d", "e"},
		NamespaceSelector: &v1.LabelSelector{
			MatchLabels:      map[string]v1.LabelValue{"f": "g", "h": ""},
			MatchExpressions: []v1.LabelRequirement{{Key: "i", Operator: v1.OperatorIn, Values: []v1.LabelValue{"j", "k"}}, {Key: "l", Operator: v1.OperatorExists}},
		},
		Docker: v1.DockerCredential{
			Username: "u", Password: "p", Server: "s", AdditionalServers: []v1.Host{"t"}, SecretRef: &v1.SecretReference{Name: "m"},
		},
		TCR: &v1.RegistryInstance{
			RegistryID: "n", Region: "o", TokenType: "q", RotateAfter: "r", OnDelete: "v", CredentialsSecretRef: &v1.SecretReference{Name: "w"},
			PrivateNetwork: &v1.PrivateNetwork{VPCID: "y", Domains: []v1.NetworkDomain{"z"}},
		},
		Check: &v1.CredentialCheck{Image: "a", Interval: "b", Realms: []v1.Host{"c"}, CASecretRef: &v1.SecretReference{Name: "d"}, Disabled: true},
	}
	for _, of := range []any{spec, spec.Docker, *spec.TCR, *spec.TCR.PrivateNetwork, *spec.Check, *spec.NamespaceSelector, spec.NamespaceSelector.MatchExpressions[0]} {
		for i := range reflect.TypeOf(of).NumField() {
			require.False(t, reflect.ValueOf(of).Field(i).IsZero(), "%T.%s is to be set here", of, reflect.TypeOf(of).Field(i).Name)
		}
	}
	object := imagePullSecret("r", "")
	object.Spec = spec
	text, err := json.Marshal(object)
	require.NoError(t, err)
	read, err := decodeObjectReview([]byte(reviewOf("CREATE", string(text), "null")))
	require.NoError(t, err)
	assert.Equal(t, spec, read.object.spec)
}
