package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

// podReview returns the review of a pod that is created in a namespace.
func podReview(namespace, pod string) string {
	return coreReview("CREATE", "pods", namespace, pod)
}

func coreReview(operation, resource, namespace, object string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"the-uid","operation":%q,`+
		`"resource":{"group":"","version":"v1","resource":%q},"namespace":%q,"object":%s}}`, operation, resource, namespace, object)
}

func TestPodCases(t *testing.T) {
	cases, err := matchtest.PodCases("p")
	require.NoError(t, err)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if pullsecret.OptOutOf(c.Labels) == pullsecret.OptedOut || slices.ContainsFunc(c.Has, func(entry string) bool { return strings.HasPrefix(entry, "tcr.ips") }) {
				return // the webhook is not asked: its configuration says so
			}
			index := indexOf(c.Rules...)
			barred := map[string][]string{}
			if pullsecret.OptOutOf(c.Account.Labels) == pullsecret.OptedOut || c.Account.Annotations["kubernetes.io/enforce-mountable-secrets"] == "true" {
				barred[c.Account.Namespace] = []string{c.Account.Name}
			}
			index.BarExactly(barred)
			object, err := json.Marshal(c.Pod)
			require.NoError(t, err)
			for _, known := range []Attachments{index, pullsecret.NewAttachments(pullsecret.Derive(index.Rules(), 1).Parts()...)} {
				labels := func(context.Context, string) pullsecret.Labels { return pullsecret.PackLabels(c.Labels) }
				response := answer(t, ask(t, Handler(quiet, known, labels, ready), MutatePodsPath, podReview(c.Pod.Namespace, string(object))))
				assert.True(t, response.Allowed)
				have := slices.Clone(c.Has)
				if response.Patch != nil {
					have = append(have, strings.Split(response.AuditAnnotations[auditAttached], ",")...)
				}
				assert.Equal(t, c.Want, have, "%T", known)
			}
		})
	}
}

func TestMutatePod(t *testing.T) {
	object := imagePullSecret("r", "*")
	object.Spec.Pods = v1.PodsMatchingImages
	index := indexOf(object)
	index.BarExactly(nil)
	handler := Handler(quiet, index, nil, ready)
	const pod = `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"registry.example.com/app"}],"imagePullSecrets":[{"name":"mine"}%s]}}`
	lists := fmt.Sprintf(pod, "")
	t.Run("the entry is appended behind what the pod lists", func(t *testing.T) {
		response := answer(t, ask(t, handler, MutatePodsPath, podReview("team", lists)))
		assert.JSONEq(t, `[{"op":"add","path":"/spec/imagePullSecrets/-","value":{"name":"tcr.ipsr"}}]`, string(response.Patch))
		assert.Equal(t, admissionv1.PatchTypeJSONPatch, *response.PatchType)
	})
	for name, review := range map[string]string{
		"it has the entry":               podReview("team", fmt.Sprintf(pod, `,{"name":"tcr.ipsr"}`)),
		"it lists nothing":               podReview("team", strings.Replace(lists, `{"name":"mine"}`, "", 1)),
		"it is changed":                  coreReview("UPDATE", "pods", "team", lists),
		"it is a mirror of a static pod": podReview("team", strings.Replace(lists, `"name":"p"`, `"annotations":{"kubernetes.io/config.mirror":"x"}`, 1)),
		"it opts out":                    podReview("team", strings.Replace(lists, `"name":"p"`, `"labels":{"tcr.tencentcloudcr.com/opt-out":"true"}`, 1)),
		"its image is another's":         podReview("team", strings.Replace(lists, "registry.example.com", "another.example.com", 1)),
	} {
		t.Run("nothing is changed where "+name, func(t *testing.T) {
			response := answer(t, ask(t, handler, MutatePodsPath, review))
			assert.True(t, response.Allowed)
			assert.Nil(t, response.Patch)
		})
	}
	for name, review := range map[string]string{
		"another resource":        coreReview("CREATE", "serviceaccounts", "team", lists),
		"no object":               coreReview("CREATE", "pods", "team", "null"),
		"an image that is a list": podReview("team", strings.Replace(lists, `"registry.example.com/app"`, `["registry.example.com/app"]`, 1)),
		"a list that is a text":   podReview("team", strings.Replace(lists, `[{"name":"mine"}]`, `"mine"`, 1)),
		"a field that stands twice": podReview("team", strings.Replace(lists, `"imagePullSecrets"`,
			`"imagePullSecrets":[],"imagePullSecrets"`, 1)),
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			recorder := ask(t, handler, MutatePodsPath, review)
			assert.Equal(t, http.StatusBadRequest, recorder.Code)
			assert.NotContains(t, recorder.Body.String(), "mine")
		})
	}
}
