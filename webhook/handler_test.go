package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
)

var quiet = slog.New(slog.DiscardHandler)

func indexOf(objects ...*v1.ImagePullSecret) *pullsecret.Index {
	index := pullsecret.NewIndex()
	for _, object := range objects {
		index.Put(object)
	}
	return index
}

func imagePullSecret(name, namespaces string) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "tcr.tencentcloudcr.com/v1", Kind: "ImagePullSecret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "1"},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces, Docker: v1.DockerCredential{Username: "robot", Password: "hidden-password", Server: "registry.example.com"},
		},
	}
}

// ask sends a request as the API server does and returns the answer.
func ask(t *testing.T, handler http.Handler, path, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	for _, e := range edit {
		e(request)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func answer(t *testing.T, recorder *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	require.Equal(t, http.StatusOK, recorder.Code, recorder.Body)
	var review admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &review))
	assert.Equal(t, "AdmissionReview", review.Kind)
	assert.Equal(t, "admission.k8s.io/v1", review.APIVersion)
	require.NotNil(t, review.Response)
	assert.EqualValues(t, "the-uid", review.Response.UID)
	return review.Response
}

func ready() error { return nil }

func accountReview(namespace, account string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"the-uid","kind":{"group":"","version":"v1","kind":"ServiceAccount"},
		"resource":{"group":"","version":"v1","resource":"serviceaccounts"},"name":"","namespace":%q,"operation":"CREATE","userInfo":{"username":"x"},"object":%s,"oldObject":null,"dryRun":false,"options":{}}}`, namespace, account)
}

func reviewOf(operation, object, old string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"the-uid","resource":{"group":"tcr.tencentcloudcr.com","version":"v1","resource":"imagepullsecrets"},
		"operation":%q,"object":%s,"oldObject":%s}}`, operation, object, old)
}

func TestMutateMatchesLikeEverythingElse(t *testing.T) {
	cases, err := matchtest.Cases("m")
	require.NoError(t, err)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			account := map[string]any{"metadata": map[string]any{"name": c.AccountName, "generateName": c.GenerateName, "labels": c.AccountLabels}}
			var list []map[string]string
			for _, entry := range c.Has {
				list = append(list, map[string]string{"name": entry})
			}
			if list != nil {
				account["imagePullSecrets"] = list
			}
			object, err := json.Marshal(account)
			require.NoError(t, err)
			if pullsecret.OptOutOf(c.Labels) == pullsecret.OptedOut {
				return // the webhook is not asked: its configuration says so
			}
			index := indexOf(c.Rules...)
			for _, known := range []Attachments{index, pullsecret.NewAttachments(pullsecret.Derive(index.Rules(), 1).Parts()...)} {
				labels := func(_ context.Context, namespace string) pullsecret.Labels {
					assert.Equal(t, c.Namespace, namespace)
					return pullsecret.PackLabels(c.Labels)
				}
				response := answer(t, ask(t, Handler(quiet, known, labels, ready), MutatePath, accountReview(c.Namespace, string(object))))
				assert.True(t, response.Allowed)
				have := slices.Clone(c.Has)
				if response.Patch != nil {
					assert.Equal(t, admissionv1.PatchTypeJSONPatch, *response.PatchType)
					have = append(have, strings.Split(response.AuditAnnotations[auditAttached], ",")...)
				}
				assert.Equal(t, c.Want, have, "%T", known)
			}
		})
	}
}

func TestMutate(t *testing.T) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	for name, test := range map[string]struct{ account, patch string }{
		"no list":                   {`{"metadata":{"name":"a"}}`, `[{"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsr"}]}]`},
		"a list that is null":       {`{"metadata":{"name":"a"},"imagePullSecrets":null}`, `[{"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsr"}]}]`},
		"an empty list":             {`{"metadata":{"name":"a"},"imagePullSecrets":[]}`, `[{"op":"add","path":"/imagePullSecrets/-","value":{"name":"tcr.ipsr"}}]`},
		"foreign entries":           {`{"metadata":{"name":"a"},"imagePullSecrets":[{"name":"x"},{}]}`, `[{"op":"add","path":"/imagePullSecrets/-","value":{"name":"tcr.ipsr"}}]`},
		"the entry is there":        {`{"metadata":{"name":"a"},"imagePullSecrets":[{"name":"tcr.ipsr"}]}`, ``},
		"one that is being deleted": {`{"metadata":{"name":"a","deletionTimestamp":"2026-01-01T00:00:00Z"}}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			response := answer(t, ask(t, handler, MutatePath+"?timeout=3s", accountReview("team", test.account)))
			assert.True(t, response.Allowed)
			if test.patch == "" {
				assert.Nil(t, response.Patch)
				assert.Nil(t, response.PatchType)
				return
			}
			assert.JSONEq(t, test.patch, string(response.Patch))
		})
	}
}

func TestAPatchHasABound(t *testing.T) {
	const most = 10_000 // operations that an API server takes of anybody else
	rules := make([]*v1.ImagePullSecret, most+1)
	for i := range rules {
		rules[i] = imagePullSecret(fmt.Sprint("r", i), "*")
	}
	response := answer(t, ask(t, Handler(quiet, indexOf(rules...), nil, ready), MutatePath, accountReview("team", `{"metadata":{"name":"a"},"imagePullSecrets":[{"name":"x"}]}`)))
	var patch []map[string]any
	require.NoError(t, json.Unmarshal(response.Patch, &patch))
	assert.NotEmpty(t, patch)
	assert.LessOrEqual(t, len(patch), most, "reconciliation adds the rest")
	assert.Len(t, strings.Split(response.AuditAnnotations[auditAttached], ","), len(patch))
}

// askToValidate asks about an object as it is to be, and as it was if it was there before, where others stand.
func askToValidate(t *testing.T, others *pullsecret.Index, was, is *v1.ImagePullSecret) *httptest.ResponseRecorder {
	t.Helper()
	operation := "UPDATE"
	if was == nil {
		operation = "CREATE"
	}
	object, err := json.Marshal(is)
	require.NoError(t, err)
	old, err := json.Marshal(was) // null for none
	require.NoError(t, err)
	return ask(t, Handler(quiet, others, nil, ready), ValidatePath, reviewOf(operation, string(object), string(old)))
}

// validated is the answer to that.
func validated(t *testing.T, others *pullsecret.Index, was, is *v1.ImagePullSecret) *admissionv1.AdmissionResponse {
	t.Helper()
	return answer(t, askToValidate(t, others, was, is))
}

func TestValidate(t *testing.T) {
	standing := indexOf(imagePullSecret("other", "a,b"))
	t.Run("a good one is allowed", func(t *testing.T) {
		good := imagePullSecret("good", "c")
		good.Spec.Docker.Password = "another"
		response := validated(t, standing, nil, good)
		assert.True(t, response.Allowed)
		assert.Empty(t, response.Warnings)
	})
	t.Run("a bad one is denied with code 422 and a cause for each mistake", func(t *testing.T) {
		response := validated(t, standing, nil, imagePullSecret("bad", "a,a,B"))
		assert.False(t, response.Allowed)
		require.NotNil(t, response.Result)
		assert.EqualValues(t, 422, response.Result.Code)
		assert.Equal(t, metav1.StatusReasonInvalid, response.Result.Reason)
		assert.Len(t, response.Result.Details.Causes, 2)
		assert.Equal(t, "spec.namespaces", response.Result.Details.Causes[0].Field)
		assert.Contains(t, response.Result.Message, `ImagePullSecret.tcr.tencentcloudcr.com "bad" is invalid`)
		assert.NotContains(t, response.Result.Message, "hidden")
	})
	t.Run("a bad one whose spec stays as it was is allowed", func(t *testing.T) {
		bad := imagePullSecret("bad", "a,a")
		assert.True(t, validated(t, standing, bad, bad).Allowed)
	})
	t.Run("a bad one that is being deleted is allowed", func(t *testing.T) {
		bad := imagePullSecret("bad", "a,a")
		bad.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		bad.Spec.Docker.Username = ""
		assert.True(t, validated(t, standing, imagePullSecret("bad", "a"), bad).Allowed)
	})
	t.Run("one whose credential stands in a Secret is read whole", func(t *testing.T) {
		object := imagePullSecret("x", "a")
		object.Spec.Docker = v1.DockerCredential{
			SecretRef: &v1.SecretReference{Name: "ref"}, Server: "elsewhere.example.com", AdditionalServers: []string{"registry.example.com"},
		}
		response := validated(t, standing, nil, object)
		assert.True(t, response.Allowed)
		assert.Equal(t, []string{`"other" gives registry.example.com a credential too, in a common namespace`}, response.Warnings)
		broken := object.DeepCopy()
		broken.Spec.Docker.Username = "hidden"
		broken.Spec.Docker.AdditionalServers = []string{"robot:hidden@a", "b", "b"}
		response = validated(t, standing, object, broken)
		require.False(t, response.Allowed)
		assert.Len(t, response.Result.Details.Causes, 3)
		assert.Contains(t, response.Result.Message, "spec.docker.secretRef: Forbidden: must be the only source")
		assert.NotContains(t, response.Result.Message, "hidden")
		assert.True(t, validated(t, standing, broken, broken).Allowed, "its spec is as it was")
		many := object.DeepCopy()
		many.Spec.Docker.AdditionalServers = strings.Split(strings.Repeat("s,", 30)+"s", ",")
		response = validated(t, standing, nil, many)
		require.False(t, response.Allowed)
		assert.Contains(t, response.Result.Message, "must have at most 16 items")
	})
}

func TestValidateWarns(t *testing.T) {
	standing := indexOf(imagePullSecret("other", "a,b"))
	t.Run("rivals are warned of, in at most 120 characters", func(t *testing.T) {
		rival := imagePullSecret("rival", "*")
		rival.Spec.Docker.Username = "another"
		long := imagePullSecret(strings.Repeat("long", 60), "*")
		response := validated(t, indexOf(imagePullSecret("other", "a,b"), long), nil, rival)
		assert.True(t, response.Allowed)
		require.Len(t, response.Warnings, 2)
		for _, warning := range response.Warnings {
			assert.LessOrEqual(t, len([]rune(warning)), 120)
			assert.NotContains(t, warning, "hidden")
		}
	})
	t.Run("the warning is the same for the same credential and for another, so that none can be guessed", func(t *testing.T) {
		var answers []string
		for _, password := range []string{"hidden-password", "hidden-guess"} {
			guess := imagePullSecret("guess", "a")
			guess.Spec.Docker.Password = password
			answers = append(answers, askToValidate(t, standing, nil, guess).Body.String())
		}
		assert.Equal(t, answers[0], answers[1])
		assert.Contains(t, answers[0], "gives registry.example.com a credential too")
	})
	t.Run("one in no common namespace, or for another server, is no rival", func(t *testing.T) {
		apart := imagePullSecret("apart", "c")
		assert.Empty(t, validated(t, standing, nil, apart).Warnings)
		elsewhere := imagePullSecret("elsewhere", "a")
		elsewhere.Spec.Docker.Server = "elsewhere.example.com"
		assert.Empty(t, validated(t, standing, nil, elsewhere).Warnings)
	})
	t.Run("a registry instance is called by its id", func(t *testing.T) {
		issued := func(name string) *v1.ImagePullSecret {
			object := imagePullSecret(name, "*")
			object.Spec.Docker, object.Spec.TCR = v1.DockerCredential{}, &v1.RegistryInstance{RegistryID: "tcr-demo0001", Region: "ap-guangzhou"}
			return object
		}
		response := validated(t, indexOf(issued("first")), nil, issued("second"))
		assert.True(t, response.Allowed)
		assert.Equal(t, []string{`"first" gives the domains of tcr-demo0001 a credential too, in a common namespace`}, response.Warnings)
	})
	t.Run("a password that ends in a line break is warned of", func(t *testing.T) {
		object := imagePullSecret("x", "c")
		object.Spec.Docker.Password = "hidden\n"
		response := validated(t, standing, nil, object)
		require.Len(t, response.Warnings, 1)
		assert.Contains(t, response.Warnings[0], "line break")
	})
}

// BenchmarkMutate is a review of a ServiceAccount as it comes from an API server, small and large.
func BenchmarkMutate(b *testing.B) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	for _, size := range []int{1 << 10, 5 << 10, 28 << 10} {
		head := accountReview("team", `{"metadata":{"name":"a","annotations":{%s}}}`)
		var annotations []string
		for i := 0; len(head)+len(strings.Join(annotations, ",")) < size; i++ {
			annotations = append(annotations, fmt.Sprintf(`"example.com/annotation-%d":"a value of some length, as they are"`, i))
		}
		body := strings.Replace(head, "%s", strings.Join(annotations, ","), 1)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, MutatePath+"?timeout=3s", strings.NewReader(body))
				request.Header.Set("Content-Type", "application/json")
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, request)
				if recorder.Code != http.StatusOK {
					b.Fatal(recorder.Body)
				}
			}
		})
	}
}
