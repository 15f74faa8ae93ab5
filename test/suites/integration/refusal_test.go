package integration

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// intruder is somebody's mutating webhook in one namespace, which is asked about the manager's writes too.
func (w *world) intruder(
	namespace, resource string, answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse,
) (stop func()) {
	w.T.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = answer(review.Request)
		review.Response.UID = review.Request.UID
		_ = json.NewEncoder(writer).Encode(review)
	}))
	w.T.Cleanup(server.Close)
	none, fail, always := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail,
		admissionregistrationv1.IfNeededReinvocationPolicy
	_, err := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(w.Ctx,
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "zz-intruder"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{
				Name: "intruder.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
				ReinvocationPolicy: &always,
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					URL:      &server.URL,
					CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
				},
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
				Rules: []admissionregistrationv1.RuleWithOperations{{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
				}},
			}},
		}, metav1.CreateOptions{})
	require.NoError(w.T, err)
	return func() { w.Kubectl("delete", "mutatingwebhookconfiguration", "zz-intruder") }
}

// patched is the answer that applies a JSON patch, where there is one.
func patched(patch string) *admissionv1.AdmissionResponse {
	kind := admissionv1.PatchTypeJSONPatch
	if patch == "" {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: &kind}
}

// asked counts the manager's writes of an object.
func (w *world) asked(namespace, name string) int {
	w.T.Helper()
	requests, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Namespace == namespace && r.Name == name && r.Verb != "watch" && r.Verb != "list"
	})
	require.NoError(w.T, err)
	return len(requests)
}

func TestAWriteThatAnotherWebhookUndoesIsToldWithinSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("robbed")
	for _, test := range []struct{ name, resource, object, patch string }{
		{"an account's entries", "serviceaccounts", "robbed/default", `[{"op":"add","path":"/imagePullSecrets","value":[]}]`},
		{"a secret's credential", "secrets", "robbed/tcr.ipssecrets", `[{"op":"add","path":"/data/.dockerconfigjson","value":"e30="}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			stop := w.intruder("robbed", test.resource,
				func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return patched(test.patch) })
			w.Eventually("the intruder is asked", func() error {
				changed, err := w.Client.CoreV1().ServiceAccounts("robbed").Patch(w.Ctx, "default", types.MergePatchType,
					[]byte(`{"imagePullSecrets":[{"name":"probe"}]}`), metav1.PatchOptions{})
				if err == nil && test.resource == "serviceaccounts" && len(changed.ImagePullSecrets) > 0 {
					err = fmt.Errorf("it lists %v", changed.ImagePullSecrets)
				}
				return err
			})
			w.Create(test.resource)
			said := w.Status(test.resource, func(status v1.ImagePullSecretStatus) error {
				for _, failure := range status.Failures {
					if failure.NamespacedName == test.object && failure.Reason == "Undone" &&
						strings.Contains(failure.Message, "admission webhook or policy") {
						return nil
					}
				}
				return fmt.Errorf("it reports %v", status.Failures)
			})
			assert.False(t, ready(said))
			_, name, _ := strings.Cut(test.object, "/")
			before := w.asked("robbed", name)
			time.Sleep(6 * time.Second)
			assert.LessOrEqual(t, w.asked("robbed", name)-before, 12, "it is no hot loop")
			stop()
			w.Holds("robbed", test.resource)
			w.Eventually("the entry is there", func() error {
				if have := w.Entries("robbed", "default"); !strings.Contains(fmt.Sprint(have), "tcr.ips"+test.resource) {
					return fmt.Errorf("it lists %q", have)
				}
				return nil
			})
		})
	}
}

func TestAnImmutableSecretDoesNotEndRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("frozen")
	w.Create("turning")
	before := w.Holds("frozen", "turning")
	secrets := w.Client.CoreV1().Secrets("frozen")
	freeze := func(more string) {
		t.Helper()
		_, err := secrets.Patch(w.Ctx, "tcr.ipsturning", types.MergePatchType, []byte(`{"immutable":true`+more+`}`),
			metav1.PatchOptions{FieldManager: "editor"})
		require.NoError(t, err)
	}

	freeze("")
	w.converged("turning")
	assert.Equal(t, before.UID, w.Holds("frozen", "turning").UID, "as long as it is current it stays")
	w.edit("turning", password("rotated"))
	replaced := w.Holds("frozen", "turning")
	assert.NotEqual(t, before.UID, replaced.UID)
	assert.Nil(t, replaced.Immutable)
	w.converged("turning")
	w.Eventually("an event says so", func() error {
		if told := w.Kubectl("describe", "ipss", "turning"); !strings.Contains(told, "someone had made it immutable") {
			return fmt.Errorf("described as\n%s", told)
		}
		return nil
	})

	t.Run("one that somebody else made is marked, and replaced", func(t *testing.T) {
		_, err := secrets.Create(w.Ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsadopted"}, Immutable: new(true), Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		w.Create("adopted")
		w.Holds("frozen", "adopted")
		w.converged("adopted")
	})
	t.Run("one that a finalizer holds is told of, and replaced once it is let go", func(t *testing.T) {
		freeze(`,"metadata":{"finalizers":["example.com/hold"]}`)
		w.edit("turning", password("rotated-again"))
		w.failsWith("turning", "Held")
		_, err := secrets.Patch(w.Ctx, "tcr.ipsturning", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		w.Holds("frozen", "turning")
		w.converged("turning")
	})
}

func TestRefusalsOfOneNamespaceConcernNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.Namespace("full")
	w.Namespace("judged")
	_, err := w.Client.CoreV1().ResourceQuotas("full").Create(w.Ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "small"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	essay := strings.Repeat("because I say so ", 50)
	stop := w.intruder("judged", "secrets", func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReason(essay)}}
	})
	w.Eventually("the intruder refuses", func() error {
		_, err := w.Client.CoreV1().Secrets("judged").Create(w.Ctx, foreignSecret("probe"),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			err = fmt.Errorf("it does not")
		} else if strings.Contains(err.Error(), "because I say so") {
			err = nil
		}
		return err
	})
	w.Create("partly")
	w.Status("partly", func(status v1.ImagePullSecretStatus) error {
		if len(status.Failures) != 2 {
			return fmt.Errorf("it reports %v", status.Failures)
		}
		for _, failure := range status.Failures {
			assert.Equal(t, "Forbidden", failure.Reason)
			assert.LessOrEqual(t, len(failure.Message), 400)
		}
		return nil
	})
	metrics, err := m.Get(w.Ctx, "/metrics")
	require.NoError(t, err)
	assert.NotContains(t, metrics, "because I say so")

	w.Namespace("other")
	w.Holds("other", "partly")
	posted, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Namespace == "other" && r.Resource == "secrets"
	})
	require.NoError(t, err)
	require.Len(t, posted, 1)
	assert.Equal(t, "create", posted[0].Verb, "the quota of one namespace makes no other one's write dearer")
	stop()
}

func TestAMissingPermissionIsTriedInOneNamespaceForAll(t *testing.T) {
	t.Parallel()
	const total = 60
	w := newWorld(t)
	m := w.run()
	for i := range total {
		w.Namespace(fmt.Sprintf("team-%02d", i))
	}
	w.refusals = true
	w.permit("secrets", "get", "list", "watch")
	w.Create("locked")
	w.Status("locked", func(status v1.ImagePullSecretStatus) error {
		if failing := status.SecretsDesired - status.SecretsSuccess; len(status.Failures) < 50 || failing < total {
			return fmt.Errorf("%d fail, %d are listed", failing, len(status.Failures))
		}
		return nil
	})
	time.Sleep(10 * time.Second) // in which each was tried ten times over, once
	refused, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Resource == "secrets" && r.Name == "tcr.ipslocked" && r.Unauthorized
	})
	require.NoError(t, err)
	assert.Less(t, len(refused), 2*total)
	assert.LessOrEqual(t, strings.Count(m.Log(), `level=WARN msg="namespace was not brought in line"`), 3)

	w.permit("secrets", "get", "list", "watch", "create", "patch", "delete")
	w.Within(45*time.Second, "it is noticed", func() error {
		_, err := w.Current("team-00", "locked")
		return err
	})
	for i := range total {
		w.Holds(fmt.Sprintf("team-%02d", i), "locked")
	}
	w.converged("locked")
}
