package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestAResponseIsWrittenAsTheAPITypesWriteIt holds what is appended against what encoding/json makes of the API's own types.
func TestAResponseIsWrittenAsTheAPITypesWriteIt(t *testing.T) {
	attaching := func(present bool, names ...string) (r response) {
		r.patch, r.attached, _ = pullsecret.Attach(nil, present, names)
		return r
	}
	warned := attaching(true, "tcr.ipsa")
	warned.warnings = []string{"w"}
	refusal := metav1.Status{Status: "Failure", Message: "<bad> & \"worse\" \u2028", Code: 422, Details: &metav1.StatusDetails{
		Causes: []metav1.StatusCause{{Type: "FieldValueInvalid", Field: "spec.namespaces", Message: "ünïcode"}},
	}}
	for name, test := range map[string]struct {
		uid      string
		response response
	}{
		"allowed":                    {"0f1c9b8e-5d1f-4f0e-9a52-2f7f0d3c0a11", response{}},
		"a UID that must be escaped": {"\"\\\n<>&\u2028\x00ü", response{}},
		"a UID that is no UTF-8":     {"a\xffb", response{}},
		"denied":                     {"u", response{refusal: &refusal}},
		"one warning":                {"u", response{warnings: []string{"a \"quoted\" one"}}},
		"several warnings":           {"u", response{warnings: []string{"", "ünïcode", "<b>"}}},
		"a list is made":             {"u", attaching(false, "tcr.ipsa")},
		"a list is made of two":      {"u", attaching(false, "tcr.ipsa", "tcr.ipsb")},
		"a list is added to":         {"u", attaching(true, "tcr.ipsa", "tcr.ipsb")},
		"more than the stack holds":  {"u", attaching(false, strings.Repeat("a", 5000), "b")},
		"a patch and a warning":      {"u", warned},
	} {
		t.Run(name, func(t *testing.T) {
			r := test.response
			want := admissionv1.AdmissionResponse{UID: types.UID(test.uid), Allowed: r.refusal == nil, Result: r.refusal, Warnings: r.warnings}
			if r.patch != nil {
				patch, err := json.Marshal(r.patch)
				require.NoError(t, err)
				want.Patch, want.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
				want.AuditAnnotations = map[string]string{"attached": strings.Join(r.attached, ",")}
			}
			review := admissionv1.AdmissionReview{Response: &want}
			review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
			usual, err := json.Marshal(review)
			require.NoError(t, err)
			written, err := r.append([]byte("before"), test.uid)
			require.NoError(t, err)
			after, kept := strings.CutPrefix(string(written), "before")
			assert.True(t, kept)
			assert.JSONEq(t, string(usual), after)
		})
	}
}
