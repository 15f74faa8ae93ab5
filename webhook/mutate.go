package webhook

import (
	"encoding/json"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// serviceAccount is what is read of a ServiceAccount.
type serviceAccount struct {
	Metadata struct {
		Name              string  `json:"name"`
		DeletionTimestamp *string `json:"deletionTimestamp"`
	} `json:"metadata"`
	// ImagePullSecrets is nil where the object has no list, and empty where it has an empty one: they are patched
	// differently.
	ImagePullSecrets []struct {
		Name string `json:"name"`
	} `json:"imagePullSecrets"`
}

// auditAttached is the audit annotation that names the Secrets which admission has attached.
const auditAttached = "attached"

// Mutate attaches to a ServiceAccount the Secrets that the rules want it to list. It never denies, and it holds no "test"
// operation: a patch that does not apply would reject the object, whatever the failure policy.
func Mutate(rules *pullsecret.Rules, request *request[serviceAccount]) (admissionv1.AdmissionResponse, error) {
	response := admissionv1.AdmissionResponse{Allowed: true}
	account := request.Object
	if account.Metadata.DeletionTimestamp != nil {
		return response, nil
	}
	name := account.Metadata.Name
	if name == "" {
		name = request.Name // both are blank for generateName: then only "*" can select it
	}
	list := make([]string, len(account.ImagePullSecrets))
	for i, entry := range account.ImagePullSecrets {
		list[i] = entry.Name
	}
	patch, missing := pullsecret.Attach(list, account.ImagePullSecrets != nil, rules.Secrets(request.Namespace, name))
	if len(patch) == 0 {
		return response, nil
	}
	encoded, err := json.Marshal(patch)
	if err != nil {
		return response, fmt.Errorf("encoding the patch of service account %s/%s: %w", request.Namespace, name, err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = encoded, &kind
	response.AuditAnnotations = map[string]string{auditAttached: strings.Join(missing, ",")}
	return response, nil
}
