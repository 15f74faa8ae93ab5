package webhook

import (
	"encoding/json"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"
)

// review is what is read of an AdmissionReview: the envelope, and of the object only what Object decodes.
type review[Object any] struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Request    request[Object] `json:"request"`
}

// request is what is read of an AdmissionRequest.
type request[Object any] struct {
	UID       types.UID `json:"uid"`
	Resource  resource  `json:"resource"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Operation string    `json:"operation"`
	Object    *Object   `json:"object"`
	OldObject *Object   `json:"oldObject"`
}

type resource struct {
	Group    string `json:"group"`
	Resource string `json:"resource"`
}

// decodeReview reads an AdmissionReview for a resource. Its errors are for whoever sent the bytes: they repeat none of
// them, since those may hold a password.
func decodeReview[Object any](body []byte, group, resource string) (*request[Object], error) {
	var review review[Object]
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("decoding the admission review: %w", withoutValue(err))
	}
	switch request := &review.Request; {
	case review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview":
		return nil, errors.New("decoding the admission review: it must be an AdmissionReview of admission.k8s.io/v1")
	case request.UID == "":
		return nil, errors.New("decoding the admission review: request.uid must be set")
	case request.Resource.Group != group || request.Resource.Resource != resource:
		return nil, fmt.Errorf("decoding the admission review: request.resource must be %s in group %q", resource, group)
	case request.Object == nil:
		return nil, errors.New("decoding the admission review: request.object must be set")
	default:
		return request, nil
	}
}

// withoutValue keeps of a JSON error where and what, and drops what it quotes of the input.
func withoutValue(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s must be of type %s", kind.Field, kind.Type)
	default:
		return errors.New("it is not valid JSON")
	}
}

// encodeResponse writes the AdmissionReview that answers request uid.
func encodeResponse(uid types.UID, response admissionv1.AdmissionResponse) ([]byte, error) {
	response.UID = uid
	review := admissionv1.AdmissionReview{Response: &response}
	review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
	return json.Marshal(review)
}
