package webhook

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

var (
	errNoReview = errors.New("decoding the admission review: it must be an AdmissionReview of admission.k8s.io/v1")
	errNoUID    = errors.New("decoding the admission review: request.uid must be set")
	errNoObject = errors.New("decoding the admission review: request.object must be set")
)

// objectReview is what is read of an AdmissionReview for an ImagePullSecret. They are rare, and are decoded whole.
type objectReview struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Request    objectRequest `json:"request"`
}

type objectRequest struct {
	UID      string `json:"uid"`
	Resource struct {
		Group    string `json:"group"`
		Resource string `json:"resource"`
	} `json:"resource"`
	Name      string              `json:"name"`
	Object    *v1.ImagePullSecret `json:"object"`
	OldObject *v1.ImagePullSecret `json:"oldObject"`
}

// decodeObjectReview reads an AdmissionReview. Its errors are for whoever sent the bytes: they repeat none of them, since
// those may hold a password.
func decodeObjectReview(body []byte) (*objectRequest, error) {
	var review objectReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("decoding the admission review: %w", withoutValue(err))
	}
	switch request := &review.Request; {
	case review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview":
		return nil, errNoReview
	case request.UID == "":
		return nil, errNoUID
	case request.Resource.Group != v1.GroupVersion.Group || request.Resource.Resource != "imagepullsecrets":
		return nil, fmt.Errorf("decoding the admission review: request.resource must be imagepullsecrets of group %s", v1.GroupVersion.Group)
	case request.Object == nil:
		return nil, errNoObject
	default:
		return request, nil
	}
}

// withoutValue keeps of a decoding error where and what, and drops what it quotes of the input.
func withoutValue(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var syntactic *jsontext.SyntacticError
	var misread *wrong
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s must be of type %s", kind.Field, kind.Type)
	case errors.As(err, &syntactic):
		return fmt.Errorf("it is not valid JSON at byte %d", syntactic.ByteOffset)
	case errors.As(err, &misread):
		return misread
	default:
		return errors.New("it is not valid JSON")
	}
}

// encodeResponse writes the AdmissionReview that answers request uid.
func encodeResponse(uid string, response *admissionv1.AdmissionResponse) ([]byte, error) {
	response.UID = types.UID(uid)
	review := admissionv1.AdmissionReview{Response: response}
	review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
	return json.Marshal(review)
}
