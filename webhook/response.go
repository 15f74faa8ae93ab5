package webhook

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"gomodules.xyz/jsonpatch/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// The version and kind of every AdmissionReview.
const (
	reviewVersion = "admission.k8s.io/v1"
	reviewKind    = "AdmissionReview"
)

// auditAttached is the audit annotation that names the Secrets that admission has attached.
const auditAttached = "attached"

// response is the answer to a review. The zero value allows the object as it is.
type response struct {
	refusal  *metav1.Status // why the object is denied
	patch    []jsonpatch.Operation
	attached []string // the names of the Secrets that the patch attaches
	warnings []string
}

func (r *response) outcome() Outcome {
	switch {
	case r.refusal != nil:
		return OutcomeDenied
	case len(r.patch) > 0:
		return OutcomePatched
	default:
		return OutcomeAllowed
	}
}

// append appends the AdmissionReview that answers the request with that UID. It is written piece by piece into an existing buffer:
// encoding/json would allocate a dozen values.
func (r *response) append(to []byte, uid string) ([]byte, error) {
	to = append(to, `{"kind":"`+reviewKind+`","apiVersion":"`+reviewVersion+`","response":{"uid":`...)
	to = appendText(to, uid)
	if r.refusal == nil {
		to = append(to, `,"allowed":true`...)
	} else {
		status, err := json.Marshal(r.refusal)
		if err != nil {
			return to, err
		}
		to = append(to, `,"allowed":false,"status":`...)
		to = append(to, status...)
	}
	to, err := r.appendPatch(to)
	if err != nil {
		return to, err
	}
	for i, warning := range r.warnings {
		before := byte(',')
		if i == 0 {
			to, before = append(to, `,"warnings":`...), '['
		}
		to = appendText(append(to, before), warning)
	}
	if len(r.warnings) > 0 {
		to = append(to, ']')
	}
	return append(to, "}}"...), nil
}

func (r *response) appendPatch(to []byte) ([]byte, error) {
	if len(r.patch) == 0 {
		return to, nil
	}
	var room [1 << 10]byte // on the stack: for a few entries
	patch, err := pullsecret.AppendPatch(room[:0], r.patch)
	if err != nil {
		return to, err
	}
	to = append(to, `,"patchType":"JSONPatch","patch":"`...)
	to = base64.StdEncoding.AppendEncode(to, patch)
	to = append(to, `","auditAnnotations":{"`+auditAttached+`":`...)
	to = appendText(to, strings.Join(r.attached, ","))
	return append(to, '}'), nil
}

// appendText appends a string. Invalid UTF-8 in it is replaced, as encoding/json does.
func appendText(to []byte, text string) []byte {
	to, _ = jsontext.AppendQuote(to, text)
	return to
}
